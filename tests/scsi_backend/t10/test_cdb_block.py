# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of rare block commands against bytes written out from the T10 tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsi_backend.t10 import cdb as common
from scsi_backend.t10 import cdb_block as fields
from scsi_backend.t10.cdb import RANGE_10, RANGE_12, RANGE_16, BlockRange, Field
from scsi_backend.t10.cdb_block import RANGE_32, RANGE_WRITE_ATOMIC_16, blocks_32, flag_of

# Each field with the bytes of a CDB in which only that field's bits are ones.
GOLDEN_MASKS = [
    ("ADDITIONAL_CDB_LENGTH", fields.ADDITIONAL_CDB_LENGTH, "00" * 7 + "ff"),
    ("RANGE_32.lba", RANGE_32.lba, "00" * 12 + "ff" * 8),
    ("RANGE_32.length", RANGE_32.length, "00" * 28 + "ff" * 4),
    ("RANGE_WRITE_ATOMIC_16.lba", RANGE_WRITE_ATOMIC_16.lba, "0000" + "ff" * 8),
    ("RANGE_WRITE_ATOMIC_16.length", RANGE_WRITE_ATOMIC_16.length, "00" * 12 + "ffff"),
    ("ATOMIC_BOUNDARY_16", fields.ATOMIC_BOUNDARY_16, "00" * 10 + "ffff"),
    ("ATOMIC_BOUNDARY_32", fields.ATOMIC_BOUNDARY_32, "00000000ffff"),
    ("DEFECT_FLAGS_10", fields.DEFECT_FLAGS_10, "00001f"),
    ("DEFECT_ALLOCATION_LENGTH_10", fields.DEFECT_ALLOCATION_LENGTH_10, "00" * 7 + "ffff"),
    ("DEFECT_FLAGS_12", fields.DEFECT_FLAGS_12, "001f"),
    ("DEFECT_ALLOCATION_LENGTH_12", fields.DEFECT_ALLOCATION_LENGTH_12, "00" * 6 + "ff" * 4),
    ("PROTECT of 32", flag_of(RANGE_32, common.PROTECT), "00" * 10 + "e0"),
    ("FUA of 32", flag_of(RANGE_32, common.FUA), "00" * 10 + "08"),
    ("BYTCHK of 32", flag_of(RANGE_32, common.BYTCHK), "00" * 10 + "06"),
    ("ANCHOR of 32", flag_of(RANGE_32, common.ANCHOR), "00" * 10 + "10"),
    ("WRITE_SAME_UNMAP of 32", flag_of(RANGE_32, common.WRITE_SAME_UNMAP), "00" * 10 + "08"),
    ("NDOB of 32", flag_of(RANGE_32, common.NDOB), "00" * 10 + "01"),
]
PARAMETERS = [pytest.param(field, text, id=name) for name, field, text in GOLDEN_MASKS]


def test_every_field_constant_is_in_the_golden_list() -> None:
    constants = {name for name, value in vars(fields).items() if isinstance(value, Field)}
    assert constants == {name for name, _, _ in GOLDEN_MASKS if not set(name) & set(". ")}


@pytest.mark.parametrize(("field", "mask_hex"), PARAMETERS)
def test_field_covers_exactly_its_bits(field: Field, mask_hex: str) -> None:
    mask = bytes.fromhex(mask_hex).ljust(32, b"\0")
    inverse = bytes(byte ^ 0xFF for byte in mask)
    all_ones = (1 << int.from_bytes(mask, "big").bit_count()) - 1
    written = bytearray(32)
    field.write(written, all_ones)
    assert (field.read(mask), field.read(inverse), bytes(written)) == (all_ones, 0, mask)


@pytest.mark.parametrize("where", [RANGE_10, RANGE_12, RANGE_16, RANGE_WRITE_ATOMIC_16])
def test_shorter_forms_keep_their_flags_in_byte_1(where: BlockRange) -> None:
    assert flag_of(where, common.FUA) == Field(1, 3, 1)


@pytest.mark.parametrize("where", [RANGE_32, RANGE_WRITE_ATOMIC_16], ids=["32", "atomic"])
@given(cdb=st.binary(min_size=32, max_size=32))
def test_unpacker_of_a_block_range_agrees_with_its_fields(where: BlockRange, cdb: bytes) -> None:
    assert where.unpack(cdb) == (where.lba.read(cdb), where.length.read(cdb))


def test_cdb_that_is_cut_short_is_about_no_blocks() -> None:
    cdb = bytes.fromhex("7f0000000000001800090000" + "0102030405060708" + "00" * 8 + "090a0b0c")
    assert blocks_32(cdb) == (0x0102030405060708, 0x090A0B0C)
    for length in (10, 16, 31):
        assert blocks_32(cdb[:length]) == (0, 0)
