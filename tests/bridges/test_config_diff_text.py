# SPDX-License-Identifier: GPL-2.0-or-later
"""Differences are told in scst.conf's words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.config import Config, interpret
from bridges.config_diff import differences
from bridges.config_diff_text import describe
from bridges.config_edit import edit
from bridges.config_edit_tree import EditError
from bridges.scst_conf import ConfigError, parse
from tests.bridges.edit_example import TEXT, tree
from tests.bridges.edit_strategies import edits

BEFORE = interpret(tree())
DISK0 = "TARGET_DRIVER nbd TARGET disk0"
E11 = "TARGET_DRIVER aoe TARGET e1.1"


def replaced(old: str, new: str) -> Config:
    """The configuration with other words, which stand there once."""
    assert TEXT.count(old) == 1, old
    return interpret(parse(TEXT.replace(old, new), "f"))


@pytest.mark.parametrize(
    ("verb", "arguments", "lines"),
    [
        (
            "open-dev",
            {
                "device": "new",
                "handler": "vdisk_fileio",
                "attributes": {"filename": "/a b", "usn": "1"},
            },
            [
                '+ HANDLER vdisk_fileio DEVICE new filename "/a b"',
                "+ HANDLER vdisk_fileio DEVICE new usn 1",
            ],
        ),
        (
            "open-dev",
            {"device": "a b", "handler": "vdisk_nullio"},
            ['+ HANDLER vdisk_nullio DEVICE "a b"'],
        ),
        ("close-dev", {"device": "spare"}, ["- HANDLER vdisk_nullio DEVICE spare"]),
        (
            "add-target",
            {"driver": "scst_local", "target": "new"},
            ["+ TARGET_DRIVER scst_local TARGET new"],
        ),
        (
            "rem-target",
            {"target": "disk0"},
            [
                f"- {DISK0} enabled 1",
                f"- {DISK0} LUN 0 d",
                f"- {DISK0} LUN 07 e read_only 1",
                f"- {DISK0} GROUP db LUN 0 e",
                f"- {DISK0} GROUP db INITIATOR 10.0.0.0/8",
                f"- {DISK0} GROUP db INITIATOR host?-*",
                f"- {DISK0} GROUP web INITIATOR 192.0.2.1",
            ],
        ),
        ("enable-target", {"target": "e1.1"}, [f"~ {E11} enabled 0 -> 1"]),
        ("disable-target", {"target": "disk0"}, [f"~ {DISK0} enabled 1 -> 0"]),
        ("disable-target", {"target": "e1.1"}, []),
        (
            "set-target-attribute",
            {"target": "e1.1", "attribute": "durable", "value": "0"},
            [f"~ {E11} durable 1 -> 0"],
        ),
        (
            "set-target-attribute",
            {"target": "e1.1", "attribute": "reservation_conflict", "value": "aoe"},
            [f"~ {E11} reservation_conflict ata -> aoe"],
        ),
        (
            "set-target-attribute",
            {"target": "disk0", "attribute": "rel_tgt_id", "value": "77"},
            [f"~ {DISK0} rel_tgt_id 1 -> 77"],
        ),
        (
            "add-target-attribute",
            {"target": "e1.1", "attribute": "interface", "value": "eth*"},
            [f"+ {E11} interface eth*"],
        ),
        (
            "rem-target-attribute",
            {"target": "e1.1", "attribute": "allow", "value": "02:00:00:00:00:02"},
            [f"- {E11} allow 02:00:00:00:00:02"],
        ),
        ("add-group", {"target": "disk0", "group": "all"}, [f"+ {DISK0} GROUP all"]),
        (
            "rem-group",
            {"target": "disk0", "group": "web"},
            [f"- {DISK0} GROUP web INITIATOR 192.0.2.1"],
        ),
        (
            "add-initiator",
            {"target": "disk0", "group": "web", "initiator": "tls:CN=a#b"},
            [f'+ {DISK0} GROUP web INITIATOR "tls:CN=a\\#b"'],
        ),
        (
            "rem-initiator",
            {"target": "disk0", "group": "web", "initiator": "192.0.2.1"},
            [f"- {DISK0} GROUP web INITIATOR 192.0.2.1"],
        ),
        (
            "move-initiator",
            {"target": "disk0", "group": "db", "initiator": "10.0.0.0/8", "to": "web"},
            [
                f"- {DISK0} GROUP db INITIATOR 10.0.0.0/8",
                f"+ {DISK0} GROUP web INITIATOR 10.0.0.0/8",
            ],
        ),
        (
            "clear-initiators",
            {"target": "disk0", "group": "db"},
            [
                f"- {DISK0} GROUP db INITIATOR 10.0.0.0/8",
                f"- {DISK0} GROUP db INITIATOR host?-*",
            ],
        ),
        (
            "add-lun",
            {"target": "disk0", "group": "db", "lun": 1, "device": "d"},
            [f"+ {DISK0} GROUP db LUN 1 d"],
        ),
        ("rem-lun", {"target": "disk0", "lun": 7}, [f"- {DISK0} LUN 7 e read_only 1"]),
        (
            "replace-lun",
            {"target": "disk0", "lun": 0, "device": "d", "read_only": True},
            [f"- {DISK0} LUN 0 d", f"+ {DISK0} LUN 0 d read_only 1"],
        ),
        ("replace-lun", {"target": "disk0", "lun": 0, "device": "d"}, []),
        (
            "clear-luns",
            {"target": "disk0"},
            [f"- {DISK0} LUN 0 d", f"- {DISK0} LUN 7 e read_only 1"],
        ),
        (
            "set-target-group-state",
            {"device_group": "g", "target_group": "there", "state": "standby"},
            ["~ DEVICE_GROUP g TARGET_GROUP there state active -> standby"],
        ),
        (
            "set-target-group-preferred",
            {"device_group": "g", "target_group": "here", "preferred": True},
            ["~ DEVICE_GROUP g TARGET_GROUP here preferred 0 -> 1"],
        ),
    ],
)
def test_an_edit_is_told_as_that_edit(
    verb: str, arguments: dict[str, Any], lines: list[str]
) -> None:
    assert list(describe(BEFORE, edit(BEFORE.statements, verb, arguments))) == lines


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (
            "blocksize 4096",
            "blocksize 512\nusn 1",
            [
                "~ HANDLER vdisk_nullio DEVICE big blocksize 4096 -> 512",
                "+ HANDLER vdisk_nullio DEVICE big usn 1",
            ],
        ),
        (
            "        size_mb 16\n",
            "",
            ["- HANDLER vdisk_nullio DEVICE e size_mb 16"],
        ),
        (
            "listen h",
            "listen g\nmax_connections 9",
            [
                "~ TARGET_DRIVER nbd max_connections 4096 -> 9",
                "- TARGET_DRIVER nbd listen h",
                "+ TARGET_DRIVER nbd listen g",
            ],
        ),
        (
            "listen h",
            "listen h {\nallow ::1\nallow 10.0.0.0/8\n}",
            [
                "- TARGET_DRIVER nbd listen h",
                "+ TARGET_DRIVER nbd listen h allow ::1",
                "+ TARGET_DRIVER nbd listen h allow 10.0.0.0/8",
            ],
        ),
        (
            "TARGET last {",
            "TARGET first {\n}\nTARGET last {",
            [
                "+ TARGET_DRIVER scst_local TARGET first",
                "~ TARGET_DRIVER scst_local TARGET last rel_tgt_id 4 -> 6",
            ],
        ),
        (
            "TARGET e1.1\n    }",
            "TARGET e1.1\n        TARGET disk0\n    }",
            ["+ DEVICE_GROUP g TARGET_GROUP here TARGET disk0"],
        ),
        (
            "rel_tgt_id 5",
            "rel_tgt_id 6",
            [
                "- DEVICE_GROUP g TARGET_GROUP there TARGET far rel_tgt_id 5",
                "+ DEVICE_GROUP g TARGET_GROUP there TARGET far rel_tgt_id 6",
            ],
        ),
        (
            "DEVICE_GROUP g {\n    DEVICE big\n",
            "DEVICE_GROUP h {\n    DEVICE spare\n",
            [
                f"{sign} DEVICE_GROUP {rest}"
                for sign, group, device in (("-", "g", "big"), ("+", "h", "spare"))
                for rest in (
                    f"{group} DEVICE {device}",
                    f"{group} TARGET_GROUP here group_id 1",
                    f"{group} TARGET_GROUP here state nonoptimized",
                    f"{group} TARGET_GROUP here TARGET e1.1",
                    f"{group} TARGET_GROUP there group_id 2",
                    f"{group} TARGET_GROUP there TARGET far rel_tgt_id 5",
                )
            ],
        ),
        (
            "GROUP db {",
            "GROUP new {\nLUN 0 d\nINITIATOR *\n}\nGROUP db {",
            [
                f"+ {DISK0} GROUP new LUN 0 d",
                f"+ {DISK0} GROUP new INITIATOR *",
                f"~ {DISK0} GROUP db web -> new db web",
            ],
        ),
        (
            "INITIATOR 10.0.0.0/8",
            'INITIATOR "a b"\nINITIATOR 10.0.0.0/8',
            [
                f'+ {DISK0} GROUP db INITIATOR "a b"',
                f'~ {DISK0} GROUP db INITIATOR 10.0.0.0/8 host?-* -> "a b" 10.0.0.0/8 host?-*',
            ],
        ),
        (
            "GROUP web {",
            "GROUP web {\nLUN 2 d",
            [f"+ {DISK0} GROUP web LUN 2 d"],
        ),
    ],
)
def test_what_is_different_is_told(old: str, new: str, lines: list[str]) -> None:
    assert list(describe(BEFORE, replaced(old, new))) == lines


def test_a_mere_reordering_is_told() -> None:
    text = "INITIATOR 10.0.0.0/8\n            INITIATOR host?-*\n"
    after = replaced(text, "INITIATOR host?-*\nINITIATOR 10.0.0.0/8\n")
    assert describe(BEFORE, after) == (
        f"~ {DISK0} GROUP db INITIATOR 10.0.0.0/8 host?-* -> host?-* 10.0.0.0/8",
    )
    start, end = TEXT.index("        GROUP db"), TEXT.index("        GROUP web")
    without = TEXT[:start] + TEXT[end:]
    after = interpret(
        parse(without.replace("192.0.2.1\n        }\n", f"192.0.2.1\n}}\n{TEXT[start:end]}"), "f")
    )
    assert describe(BEFORE, after) == (f"~ {DISK0} GROUP db web -> web db",)


def test_a_device_with_another_handler_is_gone_and_new() -> None:
    spare = "HANDLER vdisk_fileio {\nDEVICE spare {\nfilename /f\n}\n}\n"
    after = interpret(parse(spare + TEXT.replace("    DEVICE spare\n", ""), "f"))
    assert describe(BEFORE, after) == (
        "- HANDLER vdisk_nullio DEVICE spare",
        "+ HANDLER vdisk_fileio DEVICE spare filename /f",
    )


def test_a_driver_is_told_apart_from_its_targets() -> None:
    text = TEXT.partition("TARGET_DRIVER scst_local")[0]
    driver = "TARGET_DRIVER scst_local {\nsocket /s\nTARGET t {\nkernel 1\n}\n}\n"
    without, after = interpret(parse(text, "f")), interpret(parse(text + driver, "f"))
    lines = ["TARGET_DRIVER scst_local socket /s", "TARGET_DRIVER scst_local TARGET t kernel 1"]
    assert describe(without, after) == tuple(f"+ {line}" for line in lines)
    assert describe(after, without) == tuple(f"- {line}" for line in reversed(lines))


@settings(deadline=None)
@given(st.lists(edits(), max_size=8))
def test_every_difference_has_a_line(wishes: list[tuple[str, Any]]) -> None:
    config = BEFORE
    for verb, arguments in wishes:
        try:
            config = edit(config.statements, verb, arguments)
        except (EditError, ConfigError):
            continue
    lines, back = describe(BEFORE, config), describe(config, BEFORE)
    assert len(lines) >= len(differences(BEFORE, config))
    assert len(set(lines)) == len(lines)
    assert all(line[:2] in ("+ ", "- ", "~ ") for line in lines)
    # On the way back, what is new is gone and what is gone is new.
    for sign, other in (("+ ", "- "), ("- ", "+ ")):
        found = {line[2:] for line in lines if line[:2] == sign}
        assert found == {line[2:] for line in back if line[:2] == other}
