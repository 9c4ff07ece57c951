# SPDX-License-Identifier: GPL-2.0-or-later
"""Designators as they are read from VPD 83h pages, whole and broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsi_backend.t10.designator import (
    Designator,
    logical_unit_designators,
    relative_target_port_of,
)

T10 = Designator(2, 0, 1, b"SCST_FIOdisk")
NAA = Designator(1, 0, 3, bytes.fromhex("5000000000000001"))
PAGE = bytes.fromhex(
    "00830024" + "0201000c" + b"SCST_FIOdisk".hex() + "0114000400000001" + "01030008"
    "5000000000000001"
)


def test_designators_of_the_unit_are_found_and_those_of_the_port_are_not() -> None:
    assert logical_unit_designators(PAGE) == {T10, NAA}


def test_port_that_the_page_came_through_is_found() -> None:
    assert relative_target_port_of(PAGE) == 1
    assert relative_target_port_of(bytes.fromhex("0083000c" + "01030008" + "50" * 8)) is None


def test_port_has_sixteen_bits_whatever_a_page_says() -> None:
    assert relative_target_port_of(bytes.fromhex("00830008" + "01140004" + "ffff0002")) == 2
    for value in ("", "01", "0001000000000001"):
        page = bytes.fromhex(f"0083{4 + len(value) // 2:04x}0114{len(value) // 2:04x}{value}")
        assert relative_target_port_of(page) is None


def test_protocol_identifier_and_piv_make_no_difference() -> None:
    page = bytes.fromhex("0083000c" + "51830008" + "5000000000000001")
    assert logical_unit_designators(memoryview(page)) == {NAA}


@pytest.mark.parametrize("length", [0, 3, 4, 7, 15])
def test_page_cut_before_the_end_of_a_designator_names_nothing(length: int) -> None:
    assert logical_unit_designators(PAGE[:length]) == frozenset()


def test_page_cut_later_keeps_what_is_whole() -> None:
    assert logical_unit_designators(PAGE[:-1]) == {T10}


def test_bytes_beyond_the_page_length_are_not_read() -> None:
    page = bytearray(PAGE)
    page[3] -= 12
    assert logical_unit_designators(bytes(page)) == {T10}


@given(st.binary(max_size=64))
def test_any_bytes_are_read_without_an_error(page: bytes) -> None:
    for designator in logical_unit_designators(page):
        assert designator.names_logical_unit
        assert designator.value in page
