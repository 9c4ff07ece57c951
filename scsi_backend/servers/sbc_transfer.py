# SPDX-License-Identifier: GPL-2.0-or-later
"""Block commands that move data: READ and WRITE (SBC-4 5.15 to 5.19, 5.39 to 5.43).

Each width of a command is bound to a logical unit as a closure over what does not change, because
READ and WRITE are most of what a disk does. ``complete`` is called inline when the storage could
do the transfer at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from scsi_backend.io.located import ZEROS
from scsi_backend.io.scatter import Buffer, contiguous
from scsi_backend.servers.command import CheckCondition, Command, Execute, ReadByReference
from scsi_backend.servers.errors import read_sense, write_sense
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.statistics import SHORT_BLOCKS
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import sense
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.cdb import RANGE_6, RANGE_10, RANGE_12, RANGE_16, BlockRange
from scsi_backend.t10.cdb_block import flag_of
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense, SenseKey

_log = logging.getLogger(__name__)

_PROTECT_BITS = 0xE0
# READ(6) and WRITE(6): a TRANSFER LENGTH of zero is 256 blocks (SBC-4 5.15).
_ZERO_LENGTH_6 = 256
_DATA_PHASE_ERROR = Sense(SenseKey.ABORTED_COMMAND, AdditionalSense.DATA_PHASE_ERROR)


def check_range(unit: LogicalUnit, where: BlockRange, lba: int, length_blocks: int) -> None:
    """Refuse a range that ends beyond the medium, pointing at the LBA field."""
    if lba + length_blocks > unit.block_count:
        raise CheckCondition(sense.out_of_range(max(lba, unit.block_count), where.lba.pointer))


def check_transfer(unit: LogicalUnit, where: BlockRange, lba: int, length_blocks: int) -> None:
    """Refuse, too, what is longer than MAXIMUM TRANSFER LENGTH."""
    check_range(unit, where, lba, length_blocks)
    # VPD B0h: a transfer beyond MAXIMUM TRANSFER LENGTH is INVALID FIELD IN CDB.
    if length_blocks > unit.max_transfer_blocks:
        raise CheckCondition(where.length.invalid())


def bind_read(where: BlockRange) -> Callable[[LogicalUnit], Execute]:
    """READ of one width. DPO and FUA change nothing: the page cache is coherent (SBC-4 4.15)."""
    is_6, protect = where is RANGE_6, flag_of(where, fields.PROTECT)
    flags = protect.byte

    def bind(unit: LogicalUnit) -> Execute:
        unpack, shift, read_now = where.unpack, unit.block_shift, unit.vdisk.read_now
        long, short = unit.statistics.reads, unit.statistics.reads.short

        def execute(command: Command) -> None:
            cdb = command.cdb
            lba, blocks = unpack(cdb)
            if is_6:
                blocks = blocks or _ZERO_LENGTH_6
            elif cdb[flags] and cdb[flags] & _PROTECT_BITS:
                raise CheckCondition(protect.invalid())
            if lba + blocks > unit.block_count or blocks > SHORT_BLOCKS:
                check_transfer(unit, where, lba, blocks)
                long.add(blocks)
            else:
                short[blocks] += 1
            length = blocks << shift
            offset = lba << shift
            view = command.data_in
            if view is None or len(view) != length:
                view = _find_data(unit, command, offset, length)
                if view is None:
                    return
                length = len(view)
            moved = read_now(view, offset)
            if moved == length:
                command.data_in_length = length
                command.complete()
            else:
                _read_rest(unit, command, view, offset, max(moved, 0))

        return execute

    return bind


def _find_data(
    unit: LogicalUnit, command: Command, offset_bytes: int, length_bytes: int
) -> Buffer | None:
    """Return where to read to, None where nothing is to be read, or not yet."""
    if not isinstance(command, ReadByReference):
        # An initiator with room for less than the CDB asks for gets that much (SAM-5 5.4.2).
        view = command.data_in
        return memoryview(bytearray()) if view is None else view[:length_bytes]
    command.located = unit.vdisk.locate_now(offset_bytes, length_bytes)
    if command.located is not None:
        command.data_in_length = length_bytes
        command.complete()
        return None
    looked = partial(_looked_for_hole, unit, command, offset_bytes, length_bytes)
    if unit.vdisk.find_hole(offset_bytes, length_bytes, looked):
        return None
    command.data_in = command.provide(length_bytes)
    return command.data_in


def _looked_for_hole(
    unit: LogicalUnit, command: ReadByReference, offset_bytes: int, length_bytes: int, result: int
) -> None:
    """Go on with a READ by reference when it is known whether anything is stored there."""
    if result > 0:
        command.located = ZEROS
        command.data_in_length = length_bytes
        command.complete()
        return
    try:
        command.data_in = command.provide(length_bytes)
    except (OSError, MemoryError) as error:
        # Whoever called would not end the command, and what overlaps it would wait for ever.
        _log.error("%s: no memory for a READ of %d bytes: %s", unit.name, length_bytes, error)
        command.check_condition(sense.INTERNAL_TARGET_FAILURE)
        return
    _read_rest(unit, command, command.data_in, offset_bytes, 0)


def _read_rest(
    unit: LogicalUnit, command: Command, view: Buffer, offset_bytes: int, moved: int
) -> None:
    """Read through the engine what ``read_now`` did not get."""
    view = command.lasting(view, moved)

    def done(result: int) -> None:
        total = moved + max(result, 0)
        if total == len(view):
            command.data_in_length = total
            command.complete()
        else:
            bad_lba = (offset_bytes + total) >> unit.block_shift
            command.check_condition(read_sense(result, bad_lba))

    unit.vdisk.read(view[moved:], offset_bytes + moved, done)


def bind_write(where: BlockRange) -> Callable[[LogicalUnit], Execute]:
    """WRITE of one width; with FUA or write_through, GOOD means stable storage."""
    is_6, protect = where is RANGE_6, flag_of(where, fields.PROTECT)
    flags = protect.byte

    def bind(unit: LogicalUnit) -> Execute:
        unpack, shift, write_now = where.unpack, unit.block_shift, unit.vdisk.write_now
        long, short = unit.statistics.writes, unit.statistics.writes.short

        def execute(command: Command) -> None:
            cdb = command.cdb
            lba, blocks = unpack(cdb)
            is_stable = unit.is_write_through
            if is_6:
                blocks = blocks or _ZERO_LENGTH_6
            elif cdb[flags]:
                if cdb[flags] & _PROTECT_BITS:
                    raise CheckCondition(protect.invalid())
                is_stable = is_stable or bool(cdb[flags] & fields.FUA_BIT)
            if lba + blocks > unit.block_count or blocks > SHORT_BLOCKS:
                check_transfer(unit, where, lba, blocks)
                long.add(blocks)
            else:
                short[blocks] += 1
            length = blocks << shift
            view = command.data_out
            if view is None or len(view) != length:
                view = _data_out(command, length)
            offset = lba << shift
            moved = write_now(view, offset)
            if moved == length and not is_stable:
                command.complete()
            else:
                _write_rest(unit, command, view, offset, max(moved, 0), is_stable)

        return execute

    return bind


def data_out_exactly(command: Command, length_bytes: int) -> memoryview:
    """The first ``length_bytes`` of the data-out buffer; too little data ends the command."""
    return contiguous(_data_out(command, length_bytes))


def whole_data_out(command: Command, where: BlockRange, length_bytes: int) -> memoryview:
    """The data-out buffer of a command that is not to write what was not meant.

    A length that contradicts the CDB's is INVALID FIELD IN CDB.
    """
    sent = command.data_out
    if (0 if sent is None else len(sent)) != length_bytes:
        raise CheckCondition(where.length.invalid())
    return data_out_exactly(command, length_bytes)


def _data_out(command: Command, length_bytes: int) -> Buffer:
    view = command.data_out
    if length_bytes == 0:
        return memoryview(b"")
    if view is None or len(view) < length_bytes:
        raise CheckCondition(_DATA_PHASE_ERROR)
    return view[:length_bytes]


def _write_rest(
    unit: LogicalUnit,
    command: Command,
    view: Buffer,
    offset_bytes: int,
    moved: int,
    is_stable: bool,
) -> None:
    """Write through the engine what ``write_now`` did not, then sync if the command wants it."""
    first_lba = offset_bytes >> unit.block_shift

    def done(result: int) -> None:
        if result < 0:
            command.check_condition(write_sense(result, first_lba))
        elif is_stable:
            unit.vdisk.sync(partial(finish_write, command, first_lba))
        else:
            command.complete()

    if moved == len(view):
        done(moved)
    else:
        unit.vdisk.write(command.lasting_out(view)[moved:], offset_bytes + moved, done)


def finish_write(command: Command, lba: int, result: int) -> None:
    """End a writing command by the result of its last storage operation."""
    if result < 0:
        command.check_condition(write_sense(result, lba))
    else:
        command.complete()


def _blocks_6(cdb: bytes) -> tuple[int, int]:
    lba, blocks = RANGE_6.unpack(cdb)
    return lba, blocks or _ZERO_LENGTH_6


TRANSFER_COMMANDS = (
    CommandRow(Opcode.READ_6, bind_read(RANGE_6), blocks_of=_blocks_6),
    CommandRow(Opcode.READ_10, bind_read(RANGE_10), blocks_of=RANGE_10.unpack),
    CommandRow(Opcode.READ_12, bind_read(RANGE_12), blocks_of=RANGE_12.unpack),
    CommandRow(Opcode.READ_16, bind_read(RANGE_16), blocks_of=RANGE_16.unpack),
    CommandRow(Opcode.WRITE_6, bind_write(RANGE_6), writes_medium=True, blocks_of=_blocks_6),
    CommandRow(
        Opcode.WRITE_10, bind_write(RANGE_10), writes_medium=True, blocks_of=RANGE_10.unpack
    ),
    CommandRow(
        Opcode.WRITE_12, bind_write(RANGE_12), writes_medium=True, blocks_of=RANGE_12.unpack
    ),
    CommandRow(
        Opcode.WRITE_16, bind_write(RANGE_16), writes_medium=True, blocks_of=RANGE_16.unpack
    ),
)
