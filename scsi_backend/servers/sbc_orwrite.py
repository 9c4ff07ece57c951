# SPDX-License-Identifier: GPL-2.0-or-later
"""ORWRITE(16) (SBC-4 5.12): set the bits of blocks that are set in the data sent.

That nothing comes between reading and writing is the business of the range lock, not of this file.
ORWRITE(32) is another command, with a generation code that would have to be kept; it is not served.
"""

from __future__ import annotations

from functools import partial

from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.errors import read_sense, write_sense
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import check_transfer, data_out_exactly
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10.cdb import RANGE_16
from scsi_backend.t10.opcodes import Opcode

# What is read, combined and written in one go, so that nobody waits long for the loop's thread.
_PIECE_BYTES = 256 << 10


def bind_orwrite(unit: LogicalUnit) -> Execute:
    """ORWRITE; with FUA or write_through, GOOD means stable storage."""
    return partial(_orwrite, unit)


def _orwrite(unit: LogicalUnit, command: Command) -> None:
    cdb = command.cdb
    if fields.PROTECT.read(cdb):
        raise CheckCondition(fields.PROTECT.invalid())
    lba, blocks = RANGE_16.unpack(cdb)
    check_transfer(unit, RANGE_16, lba, blocks)
    data = data_out_exactly(command, blocks << unit.block_shift)
    unit.statistics.writes.add(blocks)
    is_stable = unit.is_write_through or bool(fields.FUA.read(cdb))
    run_steps(command, _steps(unit, lba, data, is_stable=is_stable))


def _steps(unit: LogicalUnit, lba: int, data: memoryview, *, is_stable: bool) -> Steps:
    vdisk, start_bytes = unit.vdisk, lba << unit.block_shift
    for position in range(0, len(data), _PIECE_BYTES):
        sent = data[position : position + _PIECE_BYTES]
        offset_bytes = start_bytes + position
        stored = memoryview(bytearray(len(sent)))
        result = yield partial(vdisk.read, stored, offset_bytes)
        if result < len(sent):
            bad_lba = (offset_bytes + max(result, 0)) >> unit.block_shift
            raise CheckCondition(read_sense(result, bad_lba))
        result = yield partial(vdisk.write, memoryview(_either(stored, sent)), offset_bytes)
        if result < 0:
            raise CheckCondition(write_sense(result, lba))
    if data and is_stable:
        result = yield vdisk.sync
        if result < 0:
            raise CheckCondition(write_sense(result, lba))


def _either(one: memoryview, other: memoryview) -> bytes:
    """The bits that are set in one of two buffers of one length, or in both."""
    # As numbers: a loop over the bytes would take a thousand times as long.
    together = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return together.to_bytes(len(one), "little")


ORWRITE_COMMANDS = (
    CommandRow(
        Opcode.ORWRITE_16,
        bind_orwrite,
        writes_medium=True,
        blocks_of=RANGE_16.unpack,
        is_atomic=True,
    ),
)
