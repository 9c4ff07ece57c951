# SPDX-License-Identifier: GPL-2.0-or-later
"""DEVICE_GROUP sections: what they mean, and for each thing that can be wrong the exact text."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridges.config import Config, load
from bridges.config_alua import STATES, parse_state
from bridges.scst_conf import ConfigError
from scsi_backend.t10.alua import AccessState

# Ten lines; targets a, b and twice c.
BASE = """\
HANDLER vdisk_nullio {
DEVICE d
DEVICE e
}
TARGET_DRIVER nbd {
listen h
TARGET a {
}
TARGET c {
}
}
TARGET_DRIVER scst_local {
socket /s
TARGET b {
}
TARGET c {
}
}
"""
BASE_LINES = BASE.count("\n")
EXAMPLE = """\
DEVICE_GROUP g {
    DEVICE d
    DEVICE e
    TARGET_GROUP here {
        group_id 1
        state nonoptimized
        preferred 1
        TARGET a
        TARGET b
    }
    TARGET_GROUP there {
        group_id 65535
        TARGET far {
            rel_tgt_id 3
        }
    }
}
"""


def load_text(folder: Path, text: str) -> Config:
    """Load a file of this text."""
    path = folder / "scst.conf"
    path.write_text(text)
    return load(str(path))


def group(statements: str, name: str = "g") -> str:
    """A device group with these statements, from the second line."""
    return f"DEVICE_GROUP {name} {{\n{statements}\n}}\n"


def target_group(statements: str, name: str = "tg", group_id: int = 1) -> str:
    """A device group with one target group, whose statements are from the fifth line."""
    return group(f"DEVICE d\nTARGET_GROUP {name} {{\ngroup_id {group_id}\n{statements}\n}}")


def test_groups_are_read_with_their_attributes(tmp_path: Path) -> None:
    (found,) = load_text(tmp_path, BASE + EXAMPLE).device_groups
    assert (found.name, list(found.devices)) == ("g", ["d", "e"])
    here, there = found.target_groups
    assert (here.name, there.name) == ("here", "there")
    assert [each.attributes.group_id for each in (here, there)] == [1, 65535]
    assert [each.attributes.state for each in (here, there)] == [
        AccessState.NONOPTIMIZED,
        AccessState.ACTIVE,
    ]
    assert [each.attributes.preferred for each in (here, there)] == [True, False]
    assert [(each.name, each.rel_tgt_id) for each in here.targets] == [("a", None), ("b", None)]
    assert [(each.name, each.rel_tgt_id) for each in there.targets] == [("far", 3)]


def test_groups_may_come_before_what_they_name(tmp_path: Path) -> None:
    assert len(load_text(tmp_path, EXAMPLE + BASE).device_groups) == 1


def test_identifiers_are_those_given_and_else_the_first_free(tmp_path: Path) -> None:
    text = BASE.replace("TARGET b {", "TARGET b {\nrel_tgt_id 1") + EXAMPLE
    assert load_text(tmp_path, text).relative_target_ports() == {
        ("nbd", "a"): 2,
        ("nbd", "c"): 4,
        ("scst_local", "b"): 1,
        ("scst_local", "c"): 5,
    }


def test_without_groups_targets_are_numbered_in_their_order(tmp_path: Path) -> None:
    config = load_text(tmp_path, BASE)
    assert config.device_groups == ()
    assert list(config.relative_target_ports().values()) == [1, 2, 3, 4]


def test_a_remote_target_may_be_in_several_device_groups(tmp_path: Path) -> None:
    other = EXAMPLE.replace("GROUP g", "GROUP h").replace("    DEVICE d\n", "")
    config = load_text(tmp_path, BASE + EXAMPLE.replace("    DEVICE e\n", "") + other)
    assert [list(each.devices) for each in config.device_groups] == [["d"], ["e"]]


@pytest.mark.parametrize("name", ["active", "nonoptimized", "standby", "unavailable", "offline"])
def test_states_have_scst_s_names(name: str) -> None:
    assert parse_state(name).name.lower() == name


def test_there_are_no_other_states() -> None:
    assert len(STATES) == 6
    for word in ("ACTIVE", "lba-dependent", "", "0"):
        with pytest.raises(ValueError, match="expected active, nonoptimized, standby, unavailable"):
            parse_state(word)


STATE_NAMES = "active, nonoptimized, standby, unavailable, offline, transitioning"
MEMBERS = "TARGET, group_id, preferred, state"
ERRORS = [
    ("DEVICE_GROUP {\n}", 1, "DEVICE_GROUP: expected one name after the keyword"),
    ("DEVICE_GROUP g", 1, "DEVICE_GROUP g: expected a block"),
    (group("", "n" * 64), 1, f"name '{'n' * 64}': expected 1 to 63 characters"),
    (group(""), 1, "device group g: expected a DEVICE"),
    (group("DEVICE d"), 1, "device group g: expected a TARGET_GROUP"),
    (group("x 1"), 2, "unknown word 'x': expected one of DEVICE, TARGET_GROUP"),
    (group("DEVICE"), 2, "'DEVICE': expected DEVICE NAME"),
    (group("DEVICE d {\n}"), 2, "'DEVICE': expected DEVICE NAME"),
    (group("DEVICE d\nDEVICE d"), 3, "device d is in the group already, at line {base+2}"),
    (group("TARGET_GROUP tg"), 2, "'TARGET_GROUP': expected TARGET_GROUP NAME and a block"),
    (group("TARGET_GROUP {\n}"), 2, "'TARGET_GROUP': expected TARGET_GROUP NAME and a block"),
    (
        group("DEVICE d\nTARGET_GROUP tg {\nTARGET a\n}"),
        3,
        "target group tg: group_id is required",
    ),
    (target_group("", group_id=0), 4, "target group tg: group_id '0': expected 1 to 65535"),
    (target_group("", group_id=65536), 4, "target group tg: group_id '65536': expected 1 to 65535"),
    (target_group("state on"), 5, f"target group tg: state 'on': expected {STATE_NAMES}"),
    (target_group("preferred yes"), 5, "target group tg: preferred 'yes': expected 0 or 1"),
    (target_group("x 1"), 5, f"unknown word 'x': expected one of {MEMBERS}"),
    (target_group(""), 3, "target group tg: expected 1 to 255 lines TARGET NAME"),
    (
        target_group("\n".join(f"TARGET t{n} {{\nrel_tgt_id {n}\n}}" for n in range(1, 257))),
        3,
        "target group tg: expected 1 to 255 lines TARGET NAME",
    ),
    (target_group("TARGET"), 5, "'TARGET': expected TARGET NAME"),
    (target_group("TARGET a b"), 5, "'TARGET': expected TARGET NAME"),
    (target_group("TARGET x {\ny 1\n}"), 6, "unknown word 'y': expected one of rel_tgt_id"),
    (
        target_group("TARGET x {\nrel_tgt_id 0\n}"),
        6,
        "target x: rel_tgt_id '0': expected 1 to 65535",
    ),
    (
        target_group("TARGET a\nTARGET a"),
        6,
        "target a is in a target group already, at line {base+5}",
    ),
    (
        group(
            "DEVICE d\nTARGET_GROUP x {\ngroup_id 1\nTARGET a\n}\n"
            "TARGET_GROUP y {\ngroup_id 2\nTARGET a\n}"
        ),
        9,
        "target a is in a target group already, at line {base+5}",
    ),
    (
        group(
            "DEVICE d\nTARGET_GROUP x {\ngroup_id 1\nTARGET a\n}\n"
            "TARGET_GROUP y {\ngroup_id 0x1\nTARGET b\n}"
        ),
        7,
        "target group y: group_id 1 is that of x, at line {base+3}",
    ),
    (
        target_group("TARGET a").replace("DEVICE d", "DEVICE x"),
        2,
        "unknown device 'x': expected d, e",
    ),
    (
        target_group("TARGET a") + target_group("TARGET a").replace("GROUP g", "GROUP h"),
        9,
        "device d is in device group g, at line {base+2}",
    ),
    (
        target_group("TARGET c"),
        5,
        "target c: drivers nbd and scst_local each have one: expected a name of one target",
    ),
    (
        target_group("TARGET a {\nrel_tgt_id 9\n}"),
        5,
        "target a is one of driver nbd: expected rel_tgt_id in its own section, at line 7",
    ),
    (
        target_group("TARGET x"),
        5,
        "unknown target 'x': expected one of ours, or a block with rel_tgt_id",
    ),
    (
        target_group("TARGET x {\nrel_tgt_id 5\n}\nTARGET y {\nrel_tgt_id 5\n}"),
        8,
        "target y: rel_tgt_id 5 is that of target x, at line {base+5}",
    ),
]


@pytest.mark.parametrize(("text", "line", "message"), ERRORS)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    for number in range(1, 10):
        message = message.replace(f"{{base+{number}}}", str(BASE_LINES + number))
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, BASE + text)
    assert str(caught.value) == f"{tmp_path / 'scst.conf'}:{BASE_LINES + line}: {message}"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            target_group("TARGET x {\nrel_tgt_id 5\n}"),
            BASE_LINES + 6,
            "target x: rel_tgt_id 5 is that of target a, at line 7",
        ),
        ("", 15, "target b: rel_tgt_id 5 is that of target a, at line 7"),
    ],
)
def test_identifiers_of_our_targets_are_nobody_else_s(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    base = BASE.replace("TARGET a {", "TARGET a {\nrel_tgt_id 5")
    if not text:
        base = base.replace("TARGET b {", "TARGET b {\nrel_tgt_id 5")
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, base + text)
    assert str(caught.value) == f"{tmp_path / 'scst.conf'}:{line}: {message}"


def test_a_section_is_there_once(tmp_path: Path) -> None:
    text = target_group("TARGET a")
    with pytest.raises(ConfigError, match="section 'DEVICE_GROUP g' repeats line"):
        load_text(tmp_path, BASE + text + text)
