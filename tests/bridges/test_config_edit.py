# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs: what they need, and what is left of a configuration after many of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.config import interpret
from bridges.config_edit import VERBS, edit
from bridges.config_edit_tree import RUN_TIME, EditError
from bridges.config_one_disk import NbdOptions, one_disk
from bridges.scst_conf import ConfigError, parse, unparse
from tests.bridges.edit_example import LINES, changes, tree
from tests.bridges.edit_strategies import edits

SPOILING = {"target": "disk0", "attribute": "rel_tgt_id", "value": "0"}


def refusal(verb: str, arguments: dict[str, Any]) -> str:
    """Why an edit is refused."""
    with pytest.raises(EditError) as caught:
        edit(tree(), verb, arguments)
    return str(caught.value)


def test_a_verb_gives_the_whole_configuration() -> None:
    config = edit(tree(), "add-lun", {"target": "last", "lun": 3, "device": "d"})
    assert changes(config.statements) == ["+ LUN 3 d"]
    assert config == interpret(config.statements)
    assert config.drivers["scst_local"].targets[1].luns[0].location.path == RUN_TIME


@pytest.mark.parametrize("verb", VERBS)
def test_every_argument_and_every_verb_is_described(verb: str) -> None:
    assert VERBS[verb].help.endswith(".")
    for field in VERBS[verb].arguments.model_fields.values():
        assert field.description


def test_verbs_are_those_of_scstadmin_and_two_for_target_groups() -> None:
    assert list(VERBS) == [
        "open-dev",
        "close-dev",
        "add-target",
        "rem-target",
        "enable-target",
        "disable-target",
        "set-target-attribute",
        "add-target-attribute",
        "rem-target-attribute",
        "add-group",
        "rem-group",
        "add-initiator",
        "rem-initiator",
        "move-initiator",
        "clear-initiators",
        "add-lun",
        "rem-lun",
        "replace-lun",
        "clear-luns",
        "set-target-group-state",
        "set-target-group-preferred",
    ]


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("add-target", {"driver": "nbd"}, "target is required"),
        (
            "enable-target",
            {"target": "last", "x": 1},
            "unknown argument 'x': expected driver, target",
        ),
        ("enable-target", {"target": 1}, "target: Input should be a valid string"),
        (
            "enable-target",
            {"target": "a\nb"},
            "target: character U+000A: expected text without control characters",
        ),
        (
            "open-dev",
            {"device": "n", "handler": "vdisk_nullio", "attributes": {"size": 1}},
            "attributes: Input should be a valid string",
        ),
    ],
)
def test_arguments_are_checked(verb: str, arguments: dict[str, Any], message: str) -> None:
    assert refusal(verb, arguments) == message


def test_an_unknown_verb_is_refused() -> None:
    assert refusal("add-disk", {}).startswith("unknown verb 'add-disk': expected add-group, ")


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        (
            "add-lun",
            {"target": "last", "lun": 16384, "device": "d"},
            "LUN '16384': expected a number from 0 to 16383",
        ),
        (
            "add-lun",
            {"target": "last", "lun": 0, "device": "x"},
            "LUN 0: unknown device 'x': expected big, d, e, spare",
        ),
        (
            "add-lun",
            {"target": "e1.1", "group": "x", "lun": 0, "device": "big"},
            "unknown group 'x': expected a group of target e1.1",
        ),
        (
            "replace-lun",
            {"target": "e1.1", "lun": 0, "device": "big"},
            "LUN 0: device big has blocks of 4096 bytes: driver aoe expected 512",
        ),
        (
            "add-target",
            {"target": "disk", "driver": "aoe"},
            "target 'disk': expected eSHELF.SLOT, no leading zeros, shelf 0 to 65534 but not 4095,"
            " slot 0 to 254",
        ),
        (
            "open-dev",
            {"device": "n", "handler": "vdisk_fileio"},
            "device n: filename is required",
        ),
        (
            "open-dev",
            {"device": "n", "handler": "vdisk_nullio", "attributes": {"read_only": "2"}},
            "device n: read_only '2': expected 0 or 1",
        ),
        (
            "add-initiator",
            {"target": "disk0", "group": "db", "initiator": "10.0.0.1/8"},
            "group db: initiator '10.0.0.1/8': address bits behind the prefix: expected 10.0.0.0/8",
        ),
        (
            "set-target-attribute",
            {"target": "e1.1", "attribute": "durable", "value": "yes"},
            "target e1.1: durable 'yes': expected 0 or 1",
        ),
    ],
)
def test_what_is_wrong_with_what_is_new_is_told_without_a_line(
    verb: str, arguments: dict[str, Any], message: str
) -> None:
    assert refusal(verb, arguments) == message


def test_what_an_edit_spoils_is_told_with_its_line() -> None:
    two = edit(tree(), "add-lun", {"target": "e1.1", "lun": 1, "device": "e"})
    three = edit(two.statements, "add-lun", {"target": "e1.1", "lun": 2, "device": "spare"})
    with pytest.raises(ConfigError) as caught:
        edit(three.statements, "rem-lun", {"target": "e1.1", "lun": 0})
    line = LINES["TARGET e1.1 {"]
    assert str(caught.value) == f"scst.conf:{line}: target e1.1: expected LUN 0, or only one LUN"


def test_a_target_may_lose_its_last_lun_while_it_is_enabled() -> None:
    disk = one_disk(Path("/disk.img"), (), NbdOptions())
    config = edit(disk.statements, "clear-luns", {"target": "disk0"})
    assert config.drivers["nbd"].targets[0].luns == ()


def test_a_configuration_of_a_command_line_is_edited_as_well() -> None:
    disk = one_disk(Path("/disk.img"), (), NbdOptions())
    config = edit(disk.statements, "add-group", {"target": "disk0", "group": "g"})
    assert [group.name for group in config.drivers["nbd"].targets[0].groups] == ["g"]
    with pytest.raises(EditError) as caught:
        edit(disk.statements, "set-target-attribute", SPOILING)
    assert str(caught.value) == "target disk0: rel_tgt_id '0': expected 1 to 65535"


@settings(deadline=None)
@given(st.lists(edits(), max_size=12))
def test_edits_are_refused_or_leave_a_configuration(wishes: list[tuple[str, Any]]) -> None:
    config = interpret(tree())
    told: list[str] = []
    for verb, arguments in wishes:
        try:
            after = edit(config.statements, verb, arguments)
        except (EditError, ConfigError) as error:
            told.append(str(error))
            continue
        written = parse(unparse(after.statements), "again")
        assert written == after.statements
        assert interpret(written) == after
        config = after
    assert all(text and "\n" not in text for text in told)


@settings(deadline=None)
@given(st.lists(edits(), max_size=12))
def test_ports_keep_their_numbers_whatever_comes_and_goes(wishes: list[tuple[str, Any]]) -> None:
    config = interpret(tree())
    for verb, arguments in wishes:
        if arguments.get("attribute") == "rel_tgt_id":
            continue
        try:
            after = edit(config.statements, verb, arguments)
        except (EditError, ConfigError):
            continue
        before, now = config.relative_target_ports(), after.relative_target_ports()
        assert {port: before[port] for port in before.keys() & now.keys()} == {
            port: now[port] for port in before.keys() & now.keys()
        }
        config = after
