# SPDX-License-Identifier: GPL-2.0-or-later
"""CDB fields and builders against bytes written out from the T10 tables."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsi_backend.t10 import cdb as fields
from scsi_backend.t10.cdb import (
    RANGE_6,
    RANGE_10,
    RANGE_12,
    RANGE_16,
    RANGE_COMPARE_AND_WRITE,
    BlockRange,
    Field,
)
from scsi_backend.t10.sense import FieldPointer

# Each field with the bytes of a CDB in which only that field's bits are ones.
GOLDEN_MASKS = [
    ("RANGE_6.lba", RANGE_6.lba, "001fffff"),
    ("RANGE_6.length", RANGE_6.length, "00000000ff"),
    ("RANGE_10.lba", RANGE_10.lba, "0000ffffffff"),
    ("RANGE_10.length", RANGE_10.length, "00000000000000ffff"),
    ("RANGE_12.lba", RANGE_12.lba, "0000ffffffff"),
    ("RANGE_12.length", RANGE_12.length, "000000000000ffffffff"),
    ("RANGE_16.lba", RANGE_16.lba, "0000ffffffffffffffff"),
    ("RANGE_16.length", RANGE_16.length, "00000000000000000000ffffffff"),
    ("RANGE_COMPARE_AND_WRITE.lba", RANGE_COMPARE_AND_WRITE.lba, "0000ffffffffffffffff"),
    ("RANGE_COMPARE_AND_WRITE.length", RANGE_COMPARE_AND_WRITE.length, "00" * 13 + "ff"),
    ("IMMED", fields.IMMED, "0002"),
    ("PROTECT", fields.PROTECT, "00e0"),
    ("DPO", fields.DPO, "0010"),
    ("FUA", fields.FUA, "0008"),
    ("BYTCHK", fields.BYTCHK, "0006"),
    ("ANCHOR", fields.ANCHOR, "0010"),
    ("WRITE_SAME_UNMAP", fields.WRITE_SAME_UNMAP, "0008"),
    ("NDOB", fields.NDOB, "0001"),
    ("WRITE_SAME_OBSOLETE", fields.WRITE_SAME_OBSOLETE, "0006"),
    ("UNMAP_ANCHOR", fields.UNMAP_ANCHOR, "0001"),
    ("UNMAP_PARAMETER_LIST_LENGTH", fields.UNMAP_PARAMETER_LIST_LENGTH, "00000000000000ffff"),
    ("EVPD", fields.EVPD, "0001"),
    ("CMDDT", fields.CMDDT, "0002"),
    ("INQUIRY_PAGE_CODE", fields.INQUIRY_PAGE_CODE, "0000ff"),
    ("INQUIRY_ALLOCATION_LENGTH", fields.INQUIRY_ALLOCATION_LENGTH, "000000ffff"),
    ("DESC", fields.DESC, "0001"),
    ("REQUEST_SENSE_ALLOCATION_LENGTH", fields.REQUEST_SENSE_ALLOCATION_LENGTH, "00000000ff"),
    ("DBD", fields.DBD, "0008"),
    ("LLBAA", fields.LLBAA, "0010"),
    ("PAGE_CONTROL", fields.PAGE_CONTROL, "0000c0"),
    ("MODE_PAGE_CODE", fields.MODE_PAGE_CODE, "00003f"),
    ("SUBPAGE_CODE", fields.SUBPAGE_CODE, "000000ff"),
    ("MODE_SENSE_6_ALLOCATION_LENGTH", fields.MODE_SENSE_6_ALLOCATION_LENGTH, "00000000ff"),
    (
        "MODE_SENSE_10_ALLOCATION_LENGTH",
        fields.MODE_SENSE_10_ALLOCATION_LENGTH,
        "00000000000000ffff",
    ),
    ("MODE_SELECT_PF", fields.MODE_SELECT_PF, "0010"),
    ("MODE_SELECT_RTD", fields.MODE_SELECT_RTD, "0002"),
    ("MODE_SELECT_SP", fields.MODE_SELECT_SP, "0001"),
    (
        "MODE_SELECT_6_PARAMETER_LIST_LENGTH",
        fields.MODE_SELECT_6_PARAMETER_LIST_LENGTH,
        "00000000ff",
    ),
    (
        "MODE_SELECT_10_PARAMETER_LIST_LENGTH",
        fields.MODE_SELECT_10_PARAMETER_LIST_LENGTH,
        "00000000000000ffff",
    ),
    ("START_STOP_IMMED", fields.START_STOP_IMMED, "0001"),
    ("POWER_CONDITION", fields.POWER_CONDITION, "00000000f0"),
    ("NO_FLUSH", fields.NO_FLUSH, "0000000004"),
    ("LOEJ", fields.LOEJ, "0000000002"),
    ("SELF_TEST_CODE", fields.SELF_TEST_CODE, "00e0"),
    ("SELFTEST", fields.SELFTEST, "0004"),
    (
        "SEND_DIAGNOSTIC_PARAMETER_LIST_LENGTH",
        fields.SEND_DIAGNOSTIC_PARAMETER_LIST_LENGTH,
        "000000ffff",
    ),
    ("READ_CAPACITY_10_LBA", fields.READ_CAPACITY_10_LBA, "0000ffffffff"),
    ("READ_CAPACITY_10_PMI", fields.READ_CAPACITY_10_PMI, "000000000000000001"),
    ("SERVICE_ACTION", fields.SERVICE_ACTION, "001f"),
    ("VARIABLE_LENGTH_SERVICE_ACTION", fields.VARIABLE_LENGTH_SERVICE_ACTION, "00" * 8 + "ffff"),
    ("SERVICE_ACTION_LBA", fields.SERVICE_ACTION_LBA, "0000ffffffffffffffff"),
    (
        "SERVICE_ACTION_ALLOCATION_LENGTH",
        fields.SERVICE_ACTION_ALLOCATION_LENGTH,
        "00000000000000000000ffffffff",
    ),
    ("READ_CAPACITY_16_PMI", fields.READ_CAPACITY_16_PMI, "0000000000000000000000000000" + "01"),
    ("SELECT_REPORT", fields.SELECT_REPORT, "0000ff"),
    ("REPORT_LUNS_ALLOCATION_LENGTH", fields.REPORT_LUNS_ALLOCATION_LENGTH, "000000000000ffffffff"),
]

PARAMETERS = [pytest.param(field, text, id=name) for name, field, text in GOLDEN_MASKS]
MASKS = {field: bytes.fromhex(text).ljust(16, b"\0") for _, field, text in GOLDEN_MASKS}


def test_every_field_constant_is_in_the_golden_list() -> None:
    constants = {name for name, value in vars(fields).items() if isinstance(value, Field)}
    assert constants == {name for name, _, _ in GOLDEN_MASKS if "." not in name}


@pytest.mark.parametrize(("field", "mask_hex"), PARAMETERS)
def test_field_covers_exactly_its_bits(field: Field, mask_hex: str) -> None:
    mask = bytes.fromhex(mask_hex).ljust(16, b"\0")
    inverse = bytes(byte ^ 0xFF for byte in mask)
    all_ones = (1 << int.from_bytes(mask, "big").bit_count()) - 1
    written = bytearray(16)
    field.write(written, all_ones)
    assert (field.read(mask), field.read(inverse), bytes(written)) == (all_ones, 0, mask)


@given(st.sampled_from(list(MASKS)), st.binary(min_size=16, max_size=16), st.data())
def test_writing_a_field_changes_no_other_bit(
    field: Field, before: bytes, data: st.DataObject
) -> None:
    value = data.draw(st.integers(0, (1 << field.width) - 1))
    after = bytearray(before)
    field.write(after, value)
    assert field.read(after) == value
    changed = bytes(a ^ b for a, b in zip(before, after, strict=True))
    assert not any(byte & ~mask for byte, mask in zip(changed, MASKS[field], strict=True))


@pytest.mark.parametrize("value", [-1, 1 << 5])
def test_value_that_does_not_fit_its_field_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="does not fit 5 bits at byte 1"):
        fields.SERVICE_ACTION.write(bytearray(16), value)


def test_invalid_field_points_at_its_first_byte_and_bit() -> None:
    assert fields.MODE_PAGE_CODE.invalid().field_pointer == FieldPointer(2, 5, in_cdb=True)
    assert fields.MODE_PAGE_CODE.pointer == FieldPointer(2, 5, in_cdb=True)
    in_list = fields.MODE_PAGE_CODE.invalid_in_list(12)
    assert (in_list.key, in_list.code) == (0x05, 0x2600)
    assert in_list.field_pointer == FieldPointer(14, 5, in_cdb=False)


@pytest.mark.parametrize(
    "where",
    [RANGE_6, RANGE_10, RANGE_12, RANGE_16, RANGE_COMPARE_AND_WRITE],
    ids=["6", "10", "12", "16", "compare and write"],
)
@given(cdb=st.binary(min_size=16, max_size=16))
def test_unpacker_of_a_block_range_agrees_with_its_fields(where: BlockRange, cdb: bytes) -> None:
    assert where.unpack(cdb) == (where.lba.read(cdb), where.length.read(cdb))


LBA = 0x0102030405060708
COUNT = 0x090A0B0C


@pytest.mark.parametrize(
    ("built", "golden"),
    [
        (fields.read_16(LBA, COUNT), "88000102030405060708090a0b0c0000"),
        (fields.write_16(LBA, COUNT), "8a000102030405060708090a0b0c0000"),
        (fields.write_16(LBA, COUNT, fields.FUA_BIT), "8a080102030405060708090a0b0c0000"),
        (fields.compare_and_write(LBA, 0xFE), "8900010203040506070800" + "0000fe0000"),
        (
            fields.compare_and_write(LBA, 1, fields.FUA_BIT),
            "8908010203040506070800" + "0000010000",
        ),
        (fields.verify_16(LBA, COUNT), "8f000102030405060708090a0b0c0000"),
        (fields.synchronize_cache_16(), "91000000000000000000000000000000"),
        (fields.synchronize_cache_16(LBA, COUNT), "91000102030405060708090a0b0c0000"),
        (fields.pre_fetch_16(LBA, COUNT), "90020102030405060708090a0b0c0000"),
        (fields.write_same_16(LBA, COUNT, 0), "93000102030405060708090a0b0c0000"),
        (fields.write_same_16(LBA, COUNT, fields.UNMAP_BIT), "93080102030405060708090a0b0c0000"),
        (fields.write_same_16(LBA, COUNT, fields.NDOB_BIT), "93010102030405060708090a0b0c0000"),
        (fields.unmap(24), "42000000000000001800"),
        (fields.inquiry(0x1234), "120000123400"),
        (fields.inquiry(252, 0x00), "12010000fc00"),
        (fields.inquiry(252, 0x83), "12018300fc00"),
        (fields.report_luns(0x01020304), "a00000000000010203040000"),
        (fields.read_capacity_16(), "9e100000000000000000000000200000"),
        (fields.read_capacity_16(0x0102), "9e100000000000000000000001020000"),
        (fields.get_lba_status(LBA, 24), "9e120102030405060708000000180000"),
        (fields.mode_sense_10(0x3F, 0x0102), "5a083f00000000010200"),
        (fields.mode_sense_10(0x08, 255, 1), "5a08480000000000ff00"),
        (fields.mode_select_10(0x0102), "55100000000000010200"),
        (fields.start_stop_unit(3), "1b0000003000"),
        (fields.DEFAULT_SELF_TEST, "1d0400000000"),
        (fields.TEST_UNIT_READY, "000000000000"),
        (
            fields.unmap_parameter_list(LBA, COUNT),
            "0016001000000000" + "0102030405060708090a0b0c00000000",
        ),
    ],
)
def test_builder_makes_the_bytes_of_the_t10_table(built: bytes, golden: str) -> None:
    assert built.hex() == golden


def test_more_blocks_than_compare_and_write_has_room_for_are_refused() -> None:
    with pytest.raises(struct.error):
        fields.compare_and_write(0, 256)
