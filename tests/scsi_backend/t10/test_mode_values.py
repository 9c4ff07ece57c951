# SPDX-License-Identifier: GPL-2.0-or-later
"""Changeable mode parameters: where they lie (SPC-5 7.5.10, SBC-4 6.5.6), and their text."""

from __future__ import annotations

from dataclasses import fields

import pytest

from scsi_backend.t10 import mode_values
from scsi_backend.t10.mode_values import CHANGEABLE, PARAMETERS, ModeValues

# Page code, name, the page's first bytes with only that field's bits set, what it may hold.
GOLDEN = [
    (0x08, "wce", "000004", {0, 1}),
    (0x0A, "d_sense", "000004", {0, 1}),
    (0x0A, "queue_algorithm_modifier", "000000f0", {0, 1}),
    (0x0A, "qerr", "00000006", {0, 1, 3}),
    (0x0A, "swp", "0000000008", {0, 1}),
    (0x0A, "tas", "000000000040", {0, 1}),
]


def test_parameters_are_those_of_the_golden_list() -> None:
    found = {(page, each.name) for page, row in CHANGEABLE.items() for each in row}
    assert found == {(page, name) for page, name, _, _ in GOLDEN}
    assert set(PARAMETERS) == {field.name for field in fields(ModeValues)} - {"tst"}


def test_values_are_changed_by_name_and_task_set_type_is_kept() -> None:
    values = ModeValues(wce=True, tst=0)
    changed = values.changed({"wce": False, "qerr": 1})
    assert changed == ModeValues(wce=False, qerr=1, tst=0)
    assert values.changed({}) == values
    assert mode_values.parse("QERR 1\n", values) == ModeValues(wce=True, qerr=1, tst=0)


def test_queue_algorithm_modifier_zero_keeps_the_order() -> None:
    assert ModeValues(wce=True).may_reorder
    assert not ModeValues(wce=True, queue_algorithm_modifier=0).may_reorder


@pytest.mark.parametrize(("page", "name", "mask", "allowed"), GOLDEN)
def test_parameter_lies_where_the_standard_has_it(
    page: int, name: str, mask: str, allowed: set[int]
) -> None:
    parameter = PARAMETERS[name]
    assert parameter in CHANGEABLE[page]
    assert parameter.allowed == allowed
    ones = (1 << parameter.field.width) - 1
    data = bytearray(12)
    parameter.field.write(data, ones)
    assert data.hex() == mask.ljust(24, "0")
    assert parameter.read(bytes(data)) == ones


VALUES = ModeValues(wce=True, d_sense=True, swp=False, qerr=3, tas=True, queue_algorithm_modifier=0)
TEXT = "D_SENSE 1\nQERR 3\nQUEUE_ALGORITHM_MODIFIER 0\nSWP 0\nTAS 1\nWCE 1\n"


def test_values_have_a_text_that_is_read_again() -> None:
    assert mode_values.serialize(VALUES) == TEXT
    assert mode_values.parse(TEXT, ModeValues(wce=False)) == VALUES


def test_what_the_text_does_not_have_is_the_default() -> None:
    default = ModeValues(wce=True, tas=True)
    assert mode_values.parse("", default) == default
    assert mode_values.parse("SWP 1\n", default) == ModeValues(wce=True, tas=True, swp=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("TST 1", "'TST 1': expected each parameter once, one of D_SENSE, QERR, "),
        ("wce 1", "'wce 1': expected each parameter once"),
        ("WCE", "'WCE': expected one of [0, 1]"),
        ("WCE 2", "'WCE 2': expected one of [0, 1]"),
        ("WCE  1", "'WCE  1': expected one of [0, 1]"),
        ("WCE 01", "'WCE 01': expected one of [0, 1]"),
        ("QERR 2", "'QERR 2': expected one of [0, 1, 3]"),
        ("WCE 1\nWCE 1", "'WCE 1': expected each parameter once"),
        ("", "'': expected each parameter once"),
    ],
)
def test_other_text_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        mode_values.parse(line + "\n", VALUES)
    assert str(caught.value).startswith(message)
