# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameter lists of EXTENDED COPY: what is wrong with them, and where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsi_backend.servers.command import CheckCondition
from scsi_backend.servers.copy_list import (
    COPY_LIMITS,
    MAX_PARAMETER_LIST_LENGTH,
    cscd_offset,
    parse_copy_list,
)
from scsi_backend.t10.sense import FieldPointer, Sense
from tests.scsi_backend.copies import DC, cscd, naa, parameter_list, segment

TWO = [cscd(0), cscd(1)]
ONE_SEGMENT = [segment(0, 1, 5, 10, 20)]
VALID = parameter_list(TWO, ONE_SEGMENT)


def refusal(data: bytes) -> Sense:
    """The sense data of a list that must be refused."""
    with pytest.raises(CheckCondition) as caught:
        parse_copy_list(data)
    return caught.value.sense


def patched(position: int, digits: str, data: bytes = VALID) -> bytes:
    """A list with other bytes somewhere."""
    replacement = bytes.fromhex(digits)
    return data[:position] + replacement + data[position + len(replacement) :]


def test_valid_list_is_read() -> None:
    found = parse_copy_list(parameter_list(TWO, [segment(0, 1, 5, 10, 20, flags=DC)]))
    assert found.list_identifier == 1
    assert [each.designator.value for each in found.descriptors] == [naa(0), naa(1)]
    assert [each.disk_block_length_bytes for each in found.descriptors] == [512, 512]
    (only,) = found.segments
    assert (only.source, only.destination, only.blocks) == (0, 1, 5)
    assert (only.source_lba, only.destination_lba) == (10, 20)
    assert only.is_destination_count


def test_list_of_nothing_is_valid() -> None:
    found = parse_copy_list(parameter_list([], []))
    assert (found.descriptors, found.segments) == ((), ())


@pytest.mark.parametrize(
    ("identifier", "usage", "expected"), [(9, 0, 9), (0, 0, 0), (9, 2, 9), (0, 3, None)]
)
def test_list_identifier_counts_unless_its_usage_says_there_is_none(
    identifier: int, usage: int, expected: int | None
) -> None:
    data = parameter_list(TWO, ONE_SEGMENT, list_identifier=identifier, usage=usage)
    assert parse_copy_list(data).list_identifier == expected


# STR and PRIORITY.
@pytest.mark.parametrize("flags", ["20", "07", "c0"])
def test_hints_and_reserved_bits_of_the_header_are_ignored(flags: str) -> None:
    assert parse_copy_list(patched(1, flags)) == parse_copy_list(VALID)


def test_most_descriptors_are_accepted() -> None:
    assert MAX_PARAMETER_LIST_LENGTH == 16 + 16 * 32 + 16 * 28
    assert COPY_LIMITS.max_descriptor_list_length_bytes == 16 * 32 + 16 * 28
    found = parse_copy_list(parameter_list([cscd(0)] * 16, ONE_SEGMENT * 16))
    assert (len(found.descriptors), len(found.segments)) == (16, 16)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        VALID[:15],
        # The header alone, and with a part of the descriptors.
        VALID[:16],
        VALID[: 16 + 31],
        VALID[:-1],
        # More than the header speaks of.
        VALID + bytes(1),
        # A segment descriptor that the list's own length cuts short.
        patched(8, "0000001b", VALID[:-1]),
        patched(8, "0000001d", VALID + b"\x02"),
        # Beyond MAXIMUM DESCRIPTOR LIST LENGTH, before the descriptors are counted.
        parameter_list([cscd(0)] * 17, ONE_SEGMENT * 17),
        parameter_list([cscd(0)] * 31, []),
    ],
    ids=lambda data: str(len(data)),
)
def test_length_that_does_not_fit_is_a_parameter_list_length_error(data: bytes) -> None:
    assert refusal(data) == Sense(0x05, 0x1A00)


@pytest.mark.parametrize(
    ("data", "code", "at"),
    [
        # Reserved LIST ID USAGE.
        (patched(1, "08"), 0x2600, (1, 4)),
        # No list identifier, and yet one.
        (patched(1, "18"), 0x2600, (0, 7)),
        (patched(12, "00000001"), 0x260B, (12, 7)),
        # Inline data as announced.
        (patched(12, "00000001") + bytes(1), 0x260B, (12, 7)),
        # 33 bytes of CSCD descriptors.
        (patched(2, "0021", VALID), 0x2600, (2, 7)),
        (parameter_list([cscd(0)] * 17, ONE_SEGMENT), 0x2606, (2, 7)),
        (parameter_list([cscd(0)], ONE_SEGMENT * 17), 0x2608, (16 + 32 + 16 * 28, 7)),
        (parameter_list([cscd(0), cscd(1, type_code=0xE0)], ONE_SEGMENT), 0x2607, (48, 7)),
        # An IPv6 descriptor has 64 bytes; the first is enough to refuse it.
        (parameter_list([cscd(0, type_code=0xEA), cscd(1)], ONE_SEGMENT), 0x2607, (16, 7)),
        (parameter_list([cscd(0), cscd(1, length=21)], ONE_SEGMENT), 0x2600, (48 + 7, 7)),
        (parameter_list(TWO, [segment(0, 1, 1, 0, 0, type_code=0x03)]), 0x2609, (80, 7)),
        # An unsupported segment of another length than ours.
        (
            parameter_list(TWO, [*ONE_SEGMENT, bytes.fromhex("04000004") + bytes(4)]),
            0x2609,
            (108, 7),
        ),
        (parameter_list(TWO, [segment(0, 1, 1, 0, 0, length=0x17)]), 0x2600, (82, 7)),
    ],
)
def test_what_is_wrong_is_pointed_at(data: bytes, code: int, at: tuple[int, int]) -> None:
    pointer = FieldPointer(*at, in_cdb=False)
    assert refusal(data) == Sense(0x05, code, field_pointer=pointer)


def test_offset_of_a_descriptor_is_where_the_builder_puts_it() -> None:
    for index, each in enumerate(TWO):
        assert VALID[cscd_offset(index) :].startswith(each)


def sense_of(data: bytes) -> Sense | None:
    """The sense data with which a list is refused, if it is."""
    try:
        parse_copy_list(data)
    except CheckCondition as failure:
        return failure.sense
    return None


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    sense = sense_of(data)
    assert sense is None or sense.key == 0x05


@given(st.integers(0, len(VALID) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_read(position: int, byte: int) -> None:
    sense = sense_of(patched(position, f"{byte:02x}"))
    assert sense is None or sense.key == 0x05
