# SPDX-License-Identifier: GPL-2.0-or-later
"""Two configurations differ in what they mean, and in nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.config import Config, interpret
from bridges.config_diff import (
    AccessChanged,
    Change,
    DeviceAdded,
    DeviceChanged,
    DeviceGroupAdded,
    DeviceGroupChanged,
    DeviceGroupRemoved,
    DeviceRemoved,
    DriverAdded,
    DriverChanged,
    DriverRemoved,
    EnabledChanged,
    TargetAdded,
    TargetChanged,
    TargetGroupChanged,
    TargetRemoved,
    changed_attributes,
    differences,
    lun_map,
    target_groups_of,
    targets_of,
)
from bridges.config_edit import VERBS, edit
from bridges.config_edit_tree import EditError
from bridges.driver_attributes import TargetAttributes
from bridges.scst_conf import ConfigError, parse
from tests.bridges.edit_example import TEXT, tree
from tests.bridges.edit_strategies import edits

BEFORE = interpret(tree())


def replaced(*pairs: tuple[str, str]) -> Config:
    """The configuration with other words, each of which stands there once."""
    text = TEXT
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return interpret(parse(text, "f"))


def test_a_configuration_is_not_different_from_itself() -> None:
    assert differences(BEFORE, interpret(tree())) == ()


@pytest.mark.parametrize(
    "pairs",
    [
        [
            ("        enabled 1\n", ""),
            ("        LUN 0 d\n        LUN 07", "LUN 0 d\nenabled 1\nLUN 7"),
        ],
        [("size_mb 16", "size_mb 0x10")],
        [("blocksize 4096", "blocksize 4096\nrotational 1")],
        [
            ("    DEVICE spare\n", ""),
            ("    DEVICE d\n    DEVICE e", "DEVICE spare\nDEVICE d\nDEVICE e"),
        ],
        [
            ("allow 02:00:00:00:00:01", "allow 02:00:00:00:00:0a"),
            ("00:0a", "00:0A"),
            ("00:0A", "00:01"),
        ],
        [("listen h", "listen h {\ntls off\n}")],
        [("allow 02:00:00:00:00:01\n", ""), ("00:02", "00:02\nallow 02:00:00:00:00:01")],
        [("LUN 0 e", "LUN 0 e {\nread_only 0\n}")],
        # The numbers that these ports have without being given them.
        [("TARGET last {", "TARGET last {\nrel_tgt_id 4")],
    ],
)
def test_what_is_only_written_otherwise_is_no_difference(pairs: list[tuple[str, str]]) -> None:
    assert differences(BEFORE, replaced(*pairs)) == ()


OTHER_SPARE = "HANDLER vdisk_fileio {\nDEVICE spare {\nfilename /f\n}\n}\n"
SECOND_GROUP = "DEVICE_GROUP h {\nDEVICE d\nTARGET_GROUP x {\ngroup_id 1\nTARGET last\n}\n}\n"


@pytest.mark.parametrize(
    ("pairs", "changes"),
    [
        ([("DEVICE spare", "DEVICE new")], [DeviceRemoved("spare"), DeviceAdded("new")]),
        (
            [("blocksize 4096", "blocksize 512\nusn 1")],
            [DeviceChanged("big", ("blocksize", "usn"))],
        ),
        (
            [
                ("HANDLER vdisk_nullio", OTHER_SPARE + "HANDLER vdisk_nullio"),
                ("    DEVICE spare\n", ""),
            ],
            [DeviceRemoved("spare"), DeviceAdded("spare")],
        ),
        ([("listen h", "listen g")], [DriverChanged("nbd", ("listen",))]),
        (
            [("listen h", "listen h\nconnection_memory 65536")],
            [DriverChanged("nbd", ("connection_memory",))],
        ),
        (
            [("listen h", "listen h {\nallow 10.0.0.0/8\n}\nmax_connections 9")],
            [DriverChanged("nbd", ("max_connections", "listen"))],
        ),
        (
            [("TARGET last", "TARGET new")],
            [TargetRemoved("scst_local", "last"), TargetAdded("scst_local", "new")],
        ),
        (
            [("allow 02:00:00:00:00:02", "durable 0\nenabled 1")],
            [
                TargetChanged("aoe", "e1.1", ("durable", "allow")),
                EnabledChanged("aoe", "e1.1", True),
            ],
        ),
        ([("enabled 1", "enabled 0")], [EnabledChanged("nbd", "disk0", False)]),
        ([("LUN 07", "LUN 8")], [AccessChanged("nbd", "disk0")]),
        ([("INITIATOR host?-*", "INITIATOR host")], [AccessChanged("nbd", "disk0")]),
        ([("GROUP web", "GROUP www")], [AccessChanged("nbd", "disk0")]),
        (
            [("TARGET last {", "TARGET last {\nrel_tgt_id 40")],
            [TargetChanged("scst_local", "last", ("rel_tgt_id",))],
        ),
        # A port that comes first takes the number of those behind it.
        (
            [("interface eth0", "interface eth0\nTARGET e0.0 {\n}")],
            [
                TargetAdded("aoe", "e0.0"),
                TargetChanged("aoe", "e1.1", ("rel_tgt_id",)),
                TargetChanged("scst_local", "last", ("rel_tgt_id",)),
            ],
        ),
        (
            [("state nonoptimized", "preferred 1")],
            [TargetGroupChanged("g", "here", ("state", "preferred"))],
        ),
        ([("rel_tgt_id 5", "rel_tgt_id 6")], [DeviceGroupChanged("g")]),
        ([("group_id 2", "group_id 3")], [DeviceGroupChanged("g")]),
        (
            [
                (
                    "DEVICE_GROUP g {\n    DEVICE big",
                    "DEVICE_GROUP g {\n    DEVICE big\n    DEVICE e",
                ),
                ("group_id 1", "group_id 1\npreferred 1"),
            ],
            [DeviceGroupChanged("g"), TargetGroupChanged("g", "here", ("preferred",))],
        ),
        ([("DEVICE_GROUP g", SECOND_GROUP + "DEVICE_GROUP g")], [DeviceGroupAdded("h")]),
        ([("DEVICE_GROUP g", "DEVICE_GROUP h")], [DeviceGroupRemoved("g"), DeviceGroupAdded("h")]),
    ],
)
def test_what_is_different_is_told(pairs: list[tuple[str, str]], changes: list[Change]) -> None:
    assert list(differences(BEFORE, replaced(*pairs))) == changes


def test_the_order_of_groups_and_of_their_patterns_is_a_difference() -> None:
    moved = "INITIATOR host?-*\n            INITIATOR 10.0.0.0/8\n"
    first = "INITIATOR 10.0.0.0/8\n            INITIATOR host?-*\n"
    assert differences(BEFORE, replaced((first, moved))) == (AccessChanged("nbd", "disk0"),)
    groups = [("GROUP db", "GROUP x"), ("GROUP web", "GROUP db"), ("GROUP x", "GROUP web")]
    assert differences(BEFORE, replaced(*groups)) == (AccessChanged("nbd", "disk0"),)


def test_a_driver_comes_and_goes_with_its_targets() -> None:
    text = TEXT.partition("TARGET_DRIVER scst_local")[0]
    without = interpret(parse(text, "f"))
    with_driver = interpret(parse(text + "TARGET_DRIVER scst_local {\nTARGET t {\n}\n}\n", "f"))
    assert differences(without, with_driver) == (
        DriverAdded("scst_local"),
        TargetAdded("scst_local", "t"),
    )
    assert differences(with_driver, without) == (
        TargetRemoved("scst_local", "t"),
        DriverRemoved("scst_local"),
    )


def test_removals_come_first_and_enabling_comes_last() -> None:
    empty = interpret(())
    kinds = [type(change) for change in differences(empty, BEFORE)]
    assert kinds == sorted(kinds, key=kinds.index)
    after = replaced(
        ("enabled 1", "enabled 0"),
        ("DEVICE spare", "DEVICE new"),
        ("TARGET e1.1 {\n", "TARGET e1.1 {\nenabled 1\n"),
        ("LUN 07", "LUN 8"),
        ("TARGET last", "TARGET new"),
    )
    assert differences(BEFORE, after) == (
        EnabledChanged("nbd", "disk0", False),
        TargetRemoved("scst_local", "last"),
        DeviceRemoved("spare"),
        DeviceAdded("new"),
        TargetAdded("scst_local", "new"),
        AccessChanged("nbd", "disk0"),
        EnabledChanged("aoe", "e1.1", True),
    )


def test_targets_groups_and_luns_are_found_by_their_names() -> None:
    target = targets_of(BEFORE)["nbd", "disk0"]
    assert list(lun_map(target.luns)) == [0, 7]
    assert list(target_groups_of(BEFORE.device_groups[0])) == ["here", "there"]


def test_attributes_are_compared_one_by_one() -> None:
    one, other = TargetAttributes(rel_tgt_id=1), TargetAttributes(enabled=True, rel_tgt_id=1)
    assert changed_attributes(one, other) == ("enabled",)


# What edits do; those of targets keep the numbers of all other ports.
KINDS: dict[str, set[type[Change]]] = {
    "open-dev": {DeviceAdded},
    "close-dev": {DeviceRemoved},
    "add-target": {TargetAdded},
    "rem-target": {TargetRemoved},
    "enable-target": {EnabledChanged},
    "disable-target": {EnabledChanged},
    "set-target-attribute": {TargetChanged, EnabledChanged},
    "add-target-attribute": {TargetChanged},
    "rem-target-attribute": {TargetChanged},
    "add-group": {AccessChanged},
    "rem-group": {AccessChanged},
    "add-initiator": {AccessChanged},
    "rem-initiator": {AccessChanged},
    "move-initiator": {AccessChanged},
    "clear-initiators": {AccessChanged},
    "add-lun": {AccessChanged},
    "rem-lun": {AccessChanged},
    "replace-lun": {AccessChanged},
    "clear-luns": {AccessChanged},
    "set-target-group-state": {TargetGroupChanged},
    "set-target-group-preferred": {TargetGroupChanged},
}


def test_it_is_known_of_all_verbs_what_they_do() -> None:
    assert list(KINDS) == list(VERBS)


@settings(deadline=None)
@given(st.lists(edits(), max_size=8))
def test_an_edit_makes_no_other_difference_than_its_own(wishes: list[tuple[str, Any]]) -> None:
    config = BEFORE
    for verb, arguments in wishes:
        try:
            after = edit(config.statements, verb, arguments)
        except (EditError, ConfigError):
            continue
        found = differences(config, after)
        kinds = {type(change) for change in found}
        assert kinds <= KINDS[verb]
        assert len(found) <= 1
        assert all(change.name in arguments.values() for change in found)
        if config == after:
            assert found == ()
        # What has changed changes back.
        assert len(differences(after, config)) == len(found)
        config = after
