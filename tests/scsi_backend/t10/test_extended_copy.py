# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of EXTENDED COPY(LID1) against bytes written out from SPC-4 6.4 and SPC-3 6.17."""

from __future__ import annotations

import pytest

from scsi_backend.t10.designator import Designator
from scsi_backend.t10.extended_copy import (
    NO_FAILED_SEGMENT_DETAILS,
    BlockSegment,
    CopyHeader,
    CopyLimits,
    CopyManagerStatus,
    CscdDescriptor,
    DescriptorType,
    ListIdUsage,
    copy_status,
    failed_segment_details,
)

HEADER = "ab10" + "0102" + "00000000" + "03040506" + "0708090a"
CSCD = "e420" + "0000" + "0113" + "0008" + "5000000000000001" + "00" * 12 + "00000200"
SEGMENT = (
    "0202" + "0018" + "0001" + "0203" + "0000" + "0405" + "0102030405060708" + "1112131415161718"
)


def test_header_has_its_golden_bytes_both_ways() -> None:
    header = CopyHeader(0xAB, ListIdUsage.DISCARD, 0x0102, 0x03040506, 0x0708090A)
    assert header.serialize().hex() == HEADER
    assert CopyHeader.parse(bytes.fromhex(HEADER)) == header


@pytest.mark.parametrize(
    ("byte", "usage"), [(0xE7, 0b00), (0x0F, 0b01), (0x30, 0b10), (0xFF, 0b11)]
)
def test_list_id_usage_is_two_bits_between_str_and_priority(byte: int, usage: int) -> None:
    data = bytearray.fromhex(HEADER)
    data[1] = byte
    assert CopyHeader.parse(bytes(data)).list_id_usage == usage


def test_cscd_descriptor_has_its_golden_bytes_both_ways() -> None:
    designator = Designator(1, 1, 3, bytes.fromhex("5000000000000001"))
    descriptor = CscdDescriptor(0, True, designator, 8, 512)
    assert descriptor.serialize().hex() == CSCD
    assert CscdDescriptor.parse(bytes.fromhex(CSCD)) == descriptor


def test_cscd_descriptor_leaves_lu_id_type_and_pad_out() -> None:
    data = bytearray.fromhex(CSCD)
    data[1], data[28] = 0xC5, 0x04
    descriptor = CscdDescriptor.parse(bytes(data))
    assert (descriptor.device_type, descriptor.is_null) == (5, False)
    assert descriptor.disk_block_length_bytes == 512


@pytest.mark.parametrize(("length", "is_whole"), [(20, True), (21, False), (255, False)])
def test_designator_longer_than_its_field_is_not_whole(length: int, is_whole: bool) -> None:
    data = bytearray.fromhex(CSCD)
    data[7] = length
    descriptor = CscdDescriptor.parse(bytes(data))
    assert descriptor.has_whole_designator is is_whole
    assert len(descriptor.designator.value) == 20


def test_block_segment_has_its_golden_bytes_both_ways() -> None:
    segment = BlockSegment(
        is_destination_count=True,
        source=1,
        destination=0x0203,
        blocks=0x0405,
        source_lba=0x0102030405060708,
        destination_lba=0x1112131415161718,
    )
    assert segment.serialize().hex() == SEGMENT
    assert BlockSegment.parse(bytes.fromhex(SEGMENT)) == segment


def test_cat_is_not_dc() -> None:
    data = bytearray.fromhex(SEGMENT)
    data[1] = 0x01
    assert not BlockSegment.parse(bytes(data)).is_destination_count


@pytest.mark.parametrize(
    ("status", "segments", "written", "golden"),
    [
        (CopyManagerStatus.IN_PROGRESS, 1, 0, "00000008" + "00" + "0001" + "00" + "00000000"),
        (CopyManagerStatus.COMPLETED, 2, 0xFFFFFFFF, "00000008" + "01" + "0002" + "00ffffffff"),
        (
            CopyManagerStatus.COMPLETED_WITH_ERRORS,
            0x0102,
            (1 << 32) + 1023,
            "00000008" + "02" + "0102" + "01" + "00400000",
        ),
    ],
)
def test_copy_status_counts_bytes_until_they_do_not_fit(
    status: CopyManagerStatus, segments: int, written: int, golden: str
) -> None:
    assert copy_status(status, segments, written).hex() == golden


def test_failed_segment_details_have_their_golden_bytes() -> None:
    data = failed_segment_details(0x02, bytes.fromhex("70000a"))
    assert data.hex() == "0000003b" + "00" * 52 + "02" + "00" + "0003" + "70000a"
    assert NO_FAILED_SEGMENT_DETAILS.hex() == "00000000"


def test_operating_parameters_have_their_golden_bytes() -> None:
    limits = CopyLimits(
        max_cscd_descriptors=0x0102,
        max_segment_descriptors=0x0304,
        max_descriptor_list_length_bytes=0x05060708,
        max_segment_length_bytes=0x090A0B0C,
        max_concurrent_copies=0x0D,
        segment_granularity_log2=9,
    )
    golden = "0000002a" + "01000000" + "0102" + "0304" + "05060708" + "090a0b0c"
    golden += "00000000" * 3 + "0000" + "000d" + "0d" + "090000" + "000000" + "02" + "02e4"
    assert limits.serialize().hex() == golden


def test_codes_are_those_of_the_standard() -> None:
    assert {code.name: code.value for code in DescriptorType} == {
        "BLOCK_TO_BLOCK": 0x02,
        "IDENTIFICATION": 0xE4,
    }
    assert {usage.name: usage.value for usage in ListIdUsage} == {
        "HOLD": 0,
        "DISCARD": 2,
        "NO_LIST_IDENTIFIER": 3,
    }
