# SPDX-License-Identifier: GPL-2.0-or-later
"""Command descriptor blocks: where each field lies, and builders and readers for them.

Layouts are immutable constants made of ``Field``s numbered as in the T10 tables (byte, most
significant bit, width). READ and WRITE are in every request's way, so block ranges also have
precompiled ``struct`` readers; they agree with the fields by test.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from scsi_backend.t10.opcodes import Opcode, ServiceActionIn16
from scsi_backend.t10.sense import (
    FieldPointer,
    Sense,
    invalid_field_in_cdb,
    invalid_field_in_parameter_list,
)


@dataclass(frozen=True, slots=True)
class Field:
    """A bit field of a CDB or of a parameter list."""

    byte: int
    msb: int
    width: int

    @property
    def _span_bytes(self) -> int:
        return (7 - self.msb + self.width + 7) // 8

    @property
    def _shift(self) -> int:
        return self._span_bytes * 8 - (7 - self.msb) - self.width

    def read(self, data: bytes | bytearray | memoryview) -> int:
        """Return the field's value; ``data`` must reach its last byte."""
        raw = int.from_bytes(data[self.byte : self.byte + self._span_bytes], "big")
        return raw >> self._shift & (1 << self.width) - 1

    def write(self, data: bytearray, value: int) -> None:
        """Replace the field's value; raises ValueError if it does not fit the width."""
        if not 0 <= value < 1 << self.width:
            raise ValueError(f"{value:#x} does not fit {self.width} bits at byte {self.byte}")
        span = slice(self.byte, self.byte + self._span_bytes)
        others = int.from_bytes(data[span], "big") & ~(((1 << self.width) - 1) << self._shift)
        data[span] = (others | value << self._shift).to_bytes(self._span_bytes, "big")

    def invalid(self) -> Sense:
        """Return INVALID FIELD IN CDB that points at this field."""
        return invalid_field_in_cdb(self.byte, self.msb)

    def invalid_in_list(self, at_byte: int = 0) -> Sense:
        """Return INVALID FIELD IN PARAMETER LIST, for a field of what begins at a byte of it."""
        return invalid_field_in_parameter_list(at_byte + self.byte, self.msb)

    @property
    def pointer(self) -> FieldPointer:
        """Where the field begins, for sense data."""
        return FieldPointer(self.byte, self.msb)


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Where a CDB of one width keeps the logical blocks it is about.

    ``unpack`` returns (lba, length_blocks) without the special meaning of a zero length.
    """

    lba: Field
    length: Field
    unpack: Callable[[bytes], tuple[int, int]]


def _unpack_6(cdb: bytes) -> tuple[int, int]:
    return int.from_bytes(cdb[1:4], "big") & 0x1FFFFF, cdb[4]


def struct_reader(layout: str) -> Callable[[bytes], tuple[int, int]]:
    """Return ``BlockRange.unpack`` for a ``struct`` layout with the two fields."""
    # A function around this would cost every request as much again.
    return cast("Callable[[bytes], tuple[int, int]]", struct.Struct(layout).unpack_from)


RANGE_6: Final = BlockRange(Field(1, 4, 21), Field(4, 7, 8), _unpack_6)
RANGE_10: Final = BlockRange(Field(2, 7, 32), Field(7, 7, 16), struct_reader(">2xIxH"))
RANGE_12: Final = BlockRange(Field(2, 7, 32), Field(6, 7, 32), struct_reader(">2xII"))
RANGE_16: Final = BlockRange(Field(2, 7, 64), Field(10, 7, 32), struct_reader(">2xQI"))
RANGE_COMPARE_AND_WRITE: Final = BlockRange(
    Field(2, 7, 64), Field(13, 7, 8), struct_reader(">2xQ3xB")
)

# PRE-FETCH and SYNCHRONIZE CACHE: byte 1.
IMMED: Final = Field(1, 1, 1)
# READ, WRITE, COMPARE AND WRITE: byte 1.
PROTECT: Final = Field(1, 7, 3)
DPO: Final = Field(1, 4, 1)
FUA: Final = Field(1, 3, 1)
# VERIFY: byte 1.
BYTCHK: Final = Field(1, 2, 2)
# WRITE SAME: byte 1. NDOB exists in the 16-byte form only.
ANCHOR: Final = Field(1, 4, 1)
WRITE_SAME_UNMAP: Final = Field(1, 3, 1)
NDOB: Final = Field(1, 0, 1)
# WRITE SAME(10) and (16) before SBC-3: PBDATA and LBDATA in bits 2 and 1.
WRITE_SAME_OBSOLETE: Final = Field(1, 2, 2)
# UNMAP.
UNMAP_ANCHOR: Final = Field(1, 0, 1)
UNMAP_PARAMETER_LIST_LENGTH: Final = Field(7, 7, 16)
# INQUIRY.
EVPD: Final = Field(1, 0, 1)
CMDDT: Final = Field(1, 1, 1)
INQUIRY_PAGE_CODE: Final = Field(2, 7, 8)
INQUIRY_ALLOCATION_LENGTH: Final = Field(3, 7, 16)
# REQUEST SENSE.
DESC: Final = Field(1, 0, 1)
REQUEST_SENSE_ALLOCATION_LENGTH: Final = Field(4, 7, 8)
# MODE SENSE.
DBD: Final = Field(1, 3, 1)
LLBAA: Final = Field(1, 4, 1)
PAGE_CONTROL: Final = Field(2, 7, 2)
MODE_PAGE_CODE: Final = Field(2, 5, 6)
SUBPAGE_CODE: Final = Field(3, 7, 8)
MODE_SENSE_6_ALLOCATION_LENGTH: Final = Field(4, 7, 8)
MODE_SENSE_10_ALLOCATION_LENGTH: Final = Field(7, 7, 16)
# MODE SELECT: byte 1 of both forms.
MODE_SELECT_PF: Final = Field(1, 4, 1)
MODE_SELECT_RTD: Final = Field(1, 1, 1)
MODE_SELECT_SP: Final = Field(1, 0, 1)
MODE_SELECT_6_PARAMETER_LIST_LENGTH: Final = Field(4, 7, 8)
MODE_SELECT_10_PARAMETER_LIST_LENGTH: Final = Field(7, 7, 16)
# START STOP UNIT.
START_STOP_IMMED: Final = Field(1, 0, 1)
POWER_CONDITION: Final = Field(4, 7, 4)
NO_FLUSH: Final = Field(4, 2, 1)
LOEJ: Final = Field(4, 1, 1)
# SEND DIAGNOSTIC.
SELF_TEST_CODE: Final = Field(1, 7, 3)
SELFTEST: Final = Field(1, 2, 1)
SEND_DIAGNOSTIC_PARAMETER_LIST_LENGTH: Final = Field(3, 7, 16)
# READ CAPACITY.
READ_CAPACITY_10_LBA: Final = Field(2, 7, 32)
READ_CAPACITY_10_PMI: Final = Field(8, 0, 1)
# SERVICE ACTION IN(16).
SERVICE_ACTION: Final = Field(1, 4, 5)
VARIABLE_LENGTH_SERVICE_ACTION: Final = Field(8, 7, 16)
SERVICE_ACTION_LBA: Final = Field(2, 7, 64)
SERVICE_ACTION_ALLOCATION_LENGTH: Final = Field(10, 7, 32)
READ_CAPACITY_16_PMI: Final = Field(14, 0, 1)
# REPORT LUNS.
SELECT_REPORT: Final = Field(2, 7, 8)
REPORT_LUNS_ALLOCATION_LENGTH: Final = Field(6, 7, 32)

# opcode, byte 1, lba, length in blocks, group number, control.
_BLOCK_16 = struct.Struct(">BBQIBB")
# The same with a length of one byte.
_COMPARE_AND_WRITE = struct.Struct(">BBQ3xBBB")
_INQUIRY = struct.Struct(">BBBHB")
_MODE_SENSE_10 = struct.Struct(">BBBBxxxHB")
_MODE_SELECT_10 = struct.Struct(">BB5xHB")
_START_STOP_UNIT = struct.Struct(">BBxxBB")
_SEND_DIAGNOSTIC = struct.Struct(">BBxHB")
_SERVICE_ACTION_IN_16 = struct.Struct(">BBQIBB")
_UNMAP = struct.Struct(">BBxxxxBHB")
_REPORT_LUNS = struct.Struct(">B5xIxB")


def service_action_field(cdb: bytes) -> Field:
    """Where a CDB keeps its SERVICE ACTION."""
    return VARIABLE_LENGTH_SERVICE_ACTION if cdb[0] == Opcode.VARIABLE_LENGTH else SERVICE_ACTION


FUA_BIT: Final = 0x08
IMMED_BIT: Final = 0x02
UNMAP_BIT: Final = 0x08
NDOB_BIT: Final = 0x01

_pack_block_16 = _BLOCK_16.pack


def read_16(lba: int, length_blocks: int) -> bytes:
    """READ(16) (SBC-4 5.16)."""
    return _pack_block_16(0x88, 0, lba, length_blocks, 0, 0)


def write_16(lba: int, length_blocks: int, flags: int = 0) -> bytes:
    """WRITE(16) (SBC-4 5.40); ``flags`` is byte 1: FUA_BIT or zero."""
    return _pack_block_16(0x8A, flags, lba, length_blocks, 0, 0)


def compare_and_write(lba: int, length_blocks: int, flags: int = 0) -> bytes:
    """COMPARE AND WRITE (SBC-4 5.3); ``flags`` is byte 1: FUA_BIT or zero.

    The data-out buffer holds the blocks to compare with, then as many to write. Raises struct.error
    for more than 255 blocks; the device's own limit is ``BlockLimits.max_compare_and_write``.
    """
    return _COMPARE_AND_WRITE.pack(Opcode.COMPARE_AND_WRITE, flags, lba, length_blocks, 0, 0)


def verify_16(lba: int, length_blocks: int) -> bytes:
    """VERIFY(16) (SBC-4 5.37) with BYTCHK=00b: the medium is read, no data is transferred."""
    return _pack_block_16(Opcode.VERIFY_16, 0, lba, length_blocks, 0, 0)


def synchronize_cache_16(lba: int = 0, length_blocks: int = 0) -> bytes:
    """SYNCHRONIZE CACHE(16) (SBC-4 5.34); a length of zero runs to the last LBA."""
    return _pack_block_16(Opcode.SYNCHRONIZE_CACHE_16, 0, lba, length_blocks, 0, 0)


def pre_fetch_16(lba: int, length_blocks: int) -> bytes:
    """PRE-FETCH(16) with IMMED (SBC-4 5.14)."""
    return _pack_block_16(Opcode.PRE_FETCH_16, IMMED_BIT, lba, length_blocks, 0, 0)


def write_same_16(lba: int, length_blocks: int, flags: int) -> bytes:
    """WRITE SAME(16) (SBC-4 5.50); ``flags`` is byte 1: UNMAP_BIT, NDOB_BIT."""
    return _pack_block_16(Opcode.WRITE_SAME_16, flags, lba, length_blocks, 0, 0)


def unmap(parameter_list_length_bytes: int) -> bytes:
    """UNMAP (SBC-4 5.36)."""
    return _UNMAP.pack(Opcode.UNMAP, 0, 0, parameter_list_length_bytes, 0)


def inquiry(allocation_length_bytes: int, page_code: int | None = None) -> bytes:
    """INQUIRY (SPC-5 6.7) of the standard data, or of a vital product data page."""
    evpd = page_code is not None
    return _INQUIRY.pack(Opcode.INQUIRY, evpd, page_code or 0, allocation_length_bytes, 0)


def report_luns(allocation_length_bytes: int) -> bytes:
    """REPORT LUNS (SPC-5 6.33) of all but the well-known logical units."""
    return _REPORT_LUNS.pack(Opcode.REPORT_LUNS, allocation_length_bytes, 0)


def read_capacity_16(allocation_length_bytes: int = 32) -> bytes:
    """READ CAPACITY(16) (SBC-4 5.21)."""
    return _SERVICE_ACTION_IN_16.pack(
        Opcode.SERVICE_ACTION_IN_16,
        ServiceActionIn16.READ_CAPACITY_16,
        0,
        allocation_length_bytes,
        0,
        0,
    )


def get_lba_status(lba: int, allocation_length_bytes: int) -> bytes:
    """GET LBA STATUS(16) (SBC-4 5.9)."""
    return _SERVICE_ACTION_IN_16.pack(
        Opcode.SERVICE_ACTION_IN_16,
        ServiceActionIn16.GET_LBA_STATUS,
        lba,
        allocation_length_bytes,
        0,
        0,
    )


def mode_sense_10(page_code: int, allocation_length_bytes: int, page_control: int = 0) -> bytes:
    """MODE SENSE(10) (SPC-5 6.15), by default of current values, without block descriptors."""
    page = page_control << 6 | page_code
    return _MODE_SENSE_10.pack(Opcode.MODE_SENSE_10, 0x08, page, 0, allocation_length_bytes, 0)


def mode_select_10(parameter_list_length_bytes: int) -> bytes:
    """MODE SELECT(10) (SPC-5 6.13) with PF, for pages in the format of the standard."""
    return _MODE_SELECT_10.pack(Opcode.MODE_SELECT_10, 0x10, parameter_list_length_bytes, 0)


def start_stop_unit(power_condition: int) -> bytes:
    """START STOP UNIT (SBC-4 5.31) with a POWER CONDITION; the cache is flushed before it."""
    return _START_STOP_UNIT.pack(Opcode.START_STOP_UNIT, 0, power_condition << 4, 0)


TEST_UNIT_READY: Final = bytes(6)
# SEND DIAGNOSTIC (SPC-5 6.42) with SELFTEST: the default self-test.
DEFAULT_SELF_TEST: Final = _SEND_DIAGNOSTIC.pack(Opcode.SEND_DIAGNOSTIC, 0x04, 0, 0)


def unmap_parameter_list(lba: int, length_blocks: int) -> bytes:
    """UNMAP's parameter list with one block descriptor (SBC-4 table 131)."""
    return struct.pack(">HH4xQI4x", 22, 16, lba, length_blocks)
