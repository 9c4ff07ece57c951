# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices are opened and closed."""

from __future__ import annotations

import pytest

from bridges.config_edit_devices import CloseDev, OpenDev, close_dev, open_dev
from bridges.config_edit_tree import EditError, Statements
from bridges.scst_conf import parse, unparse
from tests.bridges.edit_example import LINES, TEXT, changes, tree


def refusal(before: Statements, wish: OpenDev | CloseDev) -> str:
    """Why an edit is refused."""
    try:
        open_dev(before, wish) if isinstance(wish, OpenDev) else close_dev(before, wish)
    except EditError as error:
        return str(error)
    pytest.fail("nothing is refused")


def test_a_device_is_opened_behind_those_of_its_handler() -> None:
    after = open_dev(tree(), OpenDev(device="new", handler="vdisk_nullio"))
    assert changes(after) == ["+ DEVICE new"]
    assert after[0].block is not None
    assert after[0].block[-1].words[1].text == "new"


def test_a_device_has_the_attributes_that_are_given() -> None:
    attributes = {"filename": "/srv/my disk", "blocksize": "4096"}
    wish = OpenDev(device="new", handler="vdisk_fileio", attributes=attributes)
    assert changes(open_dev(tree(), wish)) == [
        "+ HANDLER vdisk_fileio {",
        "+ DEVICE new {",
        '+ filename "/srv/my disk"',
        "+ blocksize 4096",
    ]


def test_a_handler_without_devices_comes_before_all_targets() -> None:
    wish = OpenDev(device="new", handler="vdisk_nullio")
    assert [item.keyword for item in open_dev(tree()[1:2], wish)] == ["HANDLER", "TARGET_DRIVER"]
    assert unparse(open_dev((), wish)) == "HANDLER vdisk_nullio {\n    DEVICE new\n}\n"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            OpenDev(device="new", handler="x"),
            "unknown handler 'x': expected vdisk_fileio, vdisk_nullio",
        ),
        (
            OpenDev(device="d", handler="vdisk_fileio", attributes={"filename": "/f"}),
            f"device d exists already, at line {LINES['DEVICE d']}",
        ),
        (CloseDev(device="x"), "unknown device 'x': expected big, d, e, spare"),
        (
            CloseDev(device="d"),
            "device d: LUN 0 of target disk0 of driver nbd leads to it, at line 15:"
            " expected that removed first",
        ),
        (
            CloseDev(device="big"),
            f"device big: device group g has it, at line {LINES['DEVICE big']}"
            ": expected that removed first",
        ),
    ],
)
def test_what_is_refused_is_told_with_what_was_expected(
    wish: OpenDev | CloseDev, message: str
) -> None:
    assert refusal(tree(), wish) == message


def test_an_unknown_attribute_is_refused() -> None:
    for name in ("o_direct", ""):
        wish = OpenDev(device="new", handler="vdisk_nullio", attributes={name: "1"})
        message = f"unknown attribute '{name}': expected blocksize, eui64_id, expl_alua, "
        assert refusal(tree(), wish).startswith(message)


def test_a_device_that_a_group_leads_to_is_not_closed() -> None:
    text = TEXT.replace("LUN 07 e {", "LUN 07 d {")
    assert refusal(parse(text, "f"), CloseDev(device="e")) == (
        "device e: LUN 0 of group db of target disk0 of driver nbd leads to it, at line 20"
        ": expected that removed first"
    )


def test_no_line_is_told_of_what_was_added_at_run_time() -> None:
    after = open_dev(tree(), OpenDev(device="new", handler="vdisk_nullio"))
    wish = OpenDev(device="new", handler="vdisk_nullio")
    assert refusal(after, wish) == "device new exists already"


def test_a_device_is_closed() -> None:
    assert changes(close_dev(tree(), CloseDev(device="spare"))) == ["- DEVICE spare"]


def test_closing_what_was_opened_leaves_what_there_was() -> None:
    opened = open_dev(tree(), OpenDev(device="new", handler="vdisk_nullio"))
    assert close_dev(opened, CloseDev(device="new")) == tree()
