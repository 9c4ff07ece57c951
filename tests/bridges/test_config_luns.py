# SPDX-License-Identifier: GPL-2.0-or-later
"""LUNs and groups of targets: what they mean, and for each thing that can be wrong the text."""

from __future__ import annotations

import pytest

from bridges.config import Config, TargetConfig, interpret
from bridges.config_luns import GroupConfig, LunConfig, read_groups
from bridges.scst_conf import ConfigError, Location, parse

DEVICES = "HANDLER vdisk_nullio {\nDEVICE d\nDEVICE big {\nblocksize 4096\n}\nDEVICE e\n}\n"
DEVICE_LINES = DEVICES.count("\n")
DRIVERS = {"nbd": ("listen h", "t"), "aoe": ("interface e", "e1.1")}
HERE = Location("f", 1)


def load(statements: str, driver: str = "nbd") -> Config:
    """A target with these statements, which begin three lines after DEVICES."""
    attribute, name = DRIVERS[driver]
    return interpret(
        parse(
            f"{DEVICES}TARGET_DRIVER {driver} {{\n{attribute}\n"
            f"TARGET {name} {{\n{statements}\n}}\n}}\n",
            "f",
        )
    )


def target(statements: str, driver: str = "nbd") -> TargetConfig:
    """The target of these statements."""
    (found,) = load(statements, driver).drivers[driver].targets
    return found


def group(lines: str, name: str = "g") -> str:
    """A group of these lines."""
    return f"GROUP {name} {{\n{lines}\n}}\n"


def test_groups_are_read_in_their_order() -> None:
    found = target(
        group("LUN 0 d\nLUN 7 e {\nread_only 1\n}\nINITIATOR 10.0.0.0/8\nINITIATOR host?-*", "z")
        + "LUN 0 e\n"
        + group("INITIATOR !tls:*\nLUN 1 d", "a")
    )
    assert found.luns == (LunConfig(0, "e", False, HERE),)
    assert found.groups == (
        GroupConfig(
            "z",
            (LunConfig(0, "d", False, HERE), LunConfig(7, "e", True, HERE)),
            ("10.0.0.0/8", "host?-*"),
            HERE,
        ),
        GroupConfig("a", (LunConfig(1, "d", False, HERE),), ("!tls:*",), HERE),
    )
    assert list(found.lun_maps) == [found.luns, *(each.luns for each in found.groups)]


def test_a_group_may_have_no_luns_or_match_nobody() -> None:
    found = target(group("INITIATOR *", "none") + group("LUN 0 d", "nobody") + "GROUP e {\n}")
    assert [(each.name, len(each.luns), each.initiators) for each in found.groups] == [
        ("none", 0, ("*",)),
        ("nobody", 1, ()),
        ("e", 0, ()),
    ]


def test_a_group_has_the_line_of_its_section() -> None:
    (found,) = target("LUN 0 d\n" + group("LUN 1 e\n")).groups
    assert found.location == Location("f", DEVICE_LINES + 5)
    assert found.luns[0].location.line == DEVICE_LINES + 6


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_luns_of_a_group_are_enough_for_an_enabled_target(driver: str) -> None:
    found = target("enabled 1\n" + group("LUN 0 d\nINITIATOR *"), driver)
    assert (found.luns, len(found.groups)) == ((), 1)


def test_aoe_targets_may_be_without_luns_while_nobody_can_use_them() -> None:
    assert target("", "aoe").luns == ()


def test_the_same_meaning_elsewhere_is_the_same_configuration() -> None:
    one = load("LUN 0 d\n" + group("LUN 1 e\nINITIATOR a"))
    other = load("\n\nLUN 00 d {\n}\n\n" + group("\n\nLUN 1 e\nINITIATOR a\n"))
    assert one == other
    assert one.statements != other.statements
    assert load("LUN 0 d\n" + group("LUN 1 e\nINITIATOR b")) != one


@pytest.mark.parametrize(
    ("statements", "line", "message"),
    [
        ("GROUP", 1, "GROUP: expected one name after the keyword"),
        ("GROUP g", 1, "GROUP g: expected a block"),
        (f"GROUP {'n' * 64} {{\n}}", 1, f"name '{'n' * 64}': expected 1 to 63 characters"),
        ('GROUP "" {\n}', 1, "name '': expected 1 to 63 characters"),
        (
            group("") + group("LUN 0 d"),
            4,
            "section 'GROUP g' repeats line 11: expected it only once",
        ),
        (group("black_hole 1"), 2, "unknown word 'black_hole': expected one of INITIATOR, LUN"),
        (group("addr_method LUN"), 2, "unknown word 'addr_method': expected one of INITIATOR, LUN"),
        (group("cpu_mask 1"), 2, "unknown word 'cpu_mask': expected one of INITIATOR, LUN"),
        (
            group("io_grouping_type auto"),
            2,
            "unknown word 'io_grouping_type': expected one of INITIATOR, LUN",
        ),
        (group("INITIATOR"), 2, "expected INITIATOR PATTERN"),
        (group("INITIATOR a b"), 2, "expected INITIATOR PATTERN"),
        (group("INITIATOR a {\n}"), 2, "expected INITIATOR PATTERN"),
        (
            group("INITIATOR a\nINITIATOR b\nINITIATOR a"),
            4,
            "initiator a is in group g already, at line 12",
        ),
        (
            group('INITIATOR ""'),
            2,
            "group g: initiator '': expected 1 to 255 characters",
        ),
        (
            group("INITIATOR 10.1.0.0/8"),
            2,
            "group g: initiator '10.1.0.0/8': address bits behind the prefix: expected 10.0.0.0/8",
        ),
        (group("LUN 0"), 2, "expected LUN NUMBER DEVICE"),
        (group("LUN 16384 d"), 2, "LUN '16384': expected a number from 0 to 16383"),
        (group("LUN 0 d\nLUN 00 e"), 3, "LUN 0 is mapped already, at line 12"),
        (group("LUN 0 x"), 2, "LUN 0: unknown device 'x': expected big, d, e"),
        (group("LUN 0 d {\nread_only 2\n}"), 3, "LUN 0: read_only '2': expected 0 or 1"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(statements: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(statements)
    assert str(caught.value) == f"f:{DEVICE_LINES + 3 + line}: {message}"


@pytest.mark.parametrize(
    ("statements", "line", "message"),
    [
        (
            "LUN 0 d\n" + group("LUN 1 d\nLUN 2 e"),
            2,
            "target e1.1: group g: expected LUN 0, or only one LUN",
        ),
        (
            group("LUN 0 big"),
            2,
            "LUN 0: device big has blocks of 4096 bytes: driver aoe expected 512",
        ),
    ],
)
def test_the_luns_of_groups_must_suit_the_driver(statements: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(statements, "aoe")
    assert str(caught.value) == f"f:{DEVICE_LINES + 3 + line}: {message}"


def test_groups_that_no_file_has_are_told_apart_too() -> None:
    (section,) = parse(group("LUN 0 d"), "f")
    with pytest.raises(ConfigError, match="f:1: group g exists already, at line 1"):
        read_groups((section, section))


def test_enabled_target_without_any_lun_is_worth_a_warning() -> None:
    assert load("enabled 1\nLUN 0 d\n").cautions() == []
    assert load(group("INITIATOR *")).cautions() == []
    found = load("enabled 1\n" + group("INITIATOR *")).cautions()
    where = f"f:{DEVICE_LINES + 3}"
    assert found == [f"{where}: target t is enabled without a LUN: nobody can log in"]
