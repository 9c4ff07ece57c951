# SPDX-License-Identifier: GPL-2.0-or-later
"""VERIFY and WRITE AND VERIFY (SBC-4 5.36 to 5.39, 5.44 to 5.47).

VERIFY reads as READ does, so what is in the page cache is compared there. WRITE AND VERIFY makes
its blocks stable and reads them from the medium.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scsi_backend.io.engine import Done
from scsi_backend.io.scatter import Buffer
from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.errors import read_sense, write_sense
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import check_range, check_transfer, data_out_exactly
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import sense
from scsi_backend.t10.cdb import RANGE_10, RANGE_12, RANGE_16, BlockRange
from scsi_backend.t10.cdb_block import flag_of
from scsi_backend.t10.opcodes import Opcode

_CHUNK_BYTES = 1 << 20

Read = Callable[[Buffer, int, Done], None]


def bind_verify(where: BlockRange) -> Callable[[LogicalUnit], Execute]:
    """VERIFY of one width. BYTCHK: 00b reads, 01b compares, 11b compares each with one block."""
    protect, bytchk_field = flag_of(where, fields.PROTECT), flag_of(where, fields.BYTCHK)

    def bind(unit: LogicalUnit) -> Execute:
        def execute(command: Command) -> None:
            cdb = command.cdb
            if protect.read(cdb):
                raise CheckCondition(protect.invalid())
            lba, blocks = where.unpack(cdb)
            check_range(unit, where, lba, blocks)
            bytchk = bytchk_field.read(cdb)
            if bytchk == 2:
                raise CheckCondition(bytchk_field.invalid())
            # Even where nothing is transferred: a longer one would keep the disk for minutes.
            check_transfer(unit, where, lba, blocks)
            expected_blocks = (0, blocks, 0, min(blocks, 1))[bytchk]
            expected = data_out_exactly(command, expected_blocks << unit.block_shift)
            run_steps(command, _verify(unit, unit.vdisk.read, expected, lba, blocks))

        return execute

    return bind


def bind_write_and_verify(where: BlockRange) -> Callable[[LogicalUnit], Execute]:
    """WRITE AND VERIFY of one width. BYTCHK: 00b reads what was written, 01b compares it too."""
    protect, bytchk = flag_of(where, fields.PROTECT), flag_of(where, fields.BYTCHK)

    def bind(unit: LogicalUnit) -> Execute:
        def execute(command: Command) -> None:
            cdb = command.cdb
            if protect.read(cdb):
                raise CheckCondition(protect.invalid())
            # 11b, one block for all, is VERIFY's: here every block has its own.
            if bytchk.read(cdb) > 1:
                raise CheckCondition(bytchk.invalid())
            lba, blocks = where.unpack(cdb)
            check_transfer(unit, where, lba, blocks)
            data = data_out_exactly(command, blocks << unit.block_shift)
            unit.statistics.writes.add(blocks)
            is_compared = bool(bytchk.read(cdb))
            run_steps(command, _write_and_verify(unit, data, lba, is_compared=is_compared))

        return execute

    return bind


def _write_and_verify(unit: LogicalUnit, data: memoryview, lba: int, *, is_compared: bool) -> Steps:
    if not data:
        return
    vdisk = unit.vdisk
    result = yield partial(vdisk.write, data, lba << unit.block_shift)
    if result >= 0:
        result = yield vdisk.sync
    if result < 0:
        raise CheckCondition(write_sense(result, lba))
    expected = data if is_compared else data[:0]
    yield from _verify(unit, vdisk.read_medium, expected, lba, len(data) >> unit.block_shift)


def _verify(unit: LogicalUnit, read: Read, expected: memoryview, lba: int, blocks: int) -> Steps:
    """Read a range piece by piece and compare each with what the initiator sent, if anything."""
    start_bytes, length_bytes = lba << unit.block_shift, blocks << unit.block_shift
    buffer = memoryview(bytearray(min(length_bytes, _CHUNK_BYTES)))
    position = 0
    while position < length_bytes:
        found = buffer[: length_bytes - position]
        result = yield partial(read, found, start_bytes + position)
        if result < len(found):
            bad_lba = (start_bytes + position + max(result, 0)) >> unit.block_shift
            raise CheckCondition(read_sense(result, bad_lba))
        if expected:
            wanted = _expected_piece(expected, position, len(found), length_bytes)
            if found != wanted:
                raise CheckCondition(sense.miscompare(position + first_difference(found, wanted)))
        position += len(found)


def _expected_piece(expected: memoryview, position: int, length: int, total: int) -> memoryview:
    if len(expected) == total:
        return expected[position : position + length]
    return memoryview(bytes(expected) * (length // len(expected)))


def first_difference(found: memoryview, wanted: memoryview) -> int:
    """The index of the first byte in which two buffers of one length differ, which they must.

    By halving: a loop over the bytes would keep everybody waiting for milliseconds.
    """
    first, end = 0, len(found)
    while end - first > 1:
        middle = (first + end) // 2
        if found[first:middle] == wanted[first:middle]:
            first = middle
        else:
            end = middle
    return first


def _verify_row(opcode: Opcode, where: BlockRange) -> CommandRow:
    return CommandRow(opcode, bind_verify(where), blocks_of=where.unpack)


def _write_and_verify_row(opcode: Opcode, where: BlockRange) -> CommandRow:
    return CommandRow(
        opcode, bind_write_and_verify(where), writes_medium=True, blocks_of=where.unpack
    )


VERIFY_COMMANDS = (
    _verify_row(Opcode.VERIFY_10, RANGE_10),
    _verify_row(Opcode.VERIFY_12, RANGE_12),
    _verify_row(Opcode.VERIFY_16, RANGE_16),
    _write_and_verify_row(Opcode.WRITE_AND_VERIFY_10, RANGE_10),
    _write_and_verify_row(Opcode.WRITE_AND_VERIFY_12, RANGE_12),
    _write_and_verify_row(Opcode.WRITE_AND_VERIFY_16, RANGE_16),
)
