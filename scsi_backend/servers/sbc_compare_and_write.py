# SPDX-License-Identifier: GPL-2.0-or-later
"""COMPARE AND WRITE (SBC-4 5.3): write blocks if they still hold what the initiator believes.

That nothing comes between its steps is the business of the range lock, not of this file.
"""

from __future__ import annotations

from functools import partial

from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.errors import read_sense, write_sense
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import check_range, whole_data_out
from scsi_backend.servers.sbc_verify import first_difference
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.servers.vital_product_data import block_limits
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import sense
from scsi_backend.t10.cdb import RANGE_COMPARE_AND_WRITE as RANGE
from scsi_backend.t10.opcodes import Opcode


def bind_compare_and_write(unit: LogicalUnit) -> Execute:
    """COMPARE AND WRITE; with FUA or write_through, GOOD means stable storage."""
    return partial(_compare_and_write, unit)


def _compare_and_write(unit: LogicalUnit, command: Command) -> None:
    cdb = command.cdb
    if fields.PROTECT.read(cdb):
        raise CheckCondition(fields.PROTECT.invalid())
    lba, blocks = RANGE.unpack(cdb)
    check_range(unit, RANGE, lba, blocks)
    if blocks > block_limits(unit).max_compare_and_write:
        raise CheckCondition(RANGE.length.invalid())
    length_bytes = blocks << unit.block_shift
    view = whole_data_out(command, RANGE, 2 * length_bytes)
    unit.statistics.writes.add(blocks)
    if blocks == 0:
        command.complete()
        return
    is_stable = unit.is_write_through or bool(fields.FUA.read(cdb))
    steps = _steps(unit, lba, view[:length_bytes], view[length_bytes:], is_stable=is_stable)
    run_steps(command, steps)


def _steps(
    unit: LogicalUnit, lba: int, verify: memoryview, write: memoryview, *, is_stable: bool
) -> Steps:
    """Read and compare, then write; each at once as far as the storage can."""
    vdisk, offset_bytes, length_bytes = unit.vdisk, lba << unit.block_shift, len(verify)
    found = memoryview(bytearray(length_bytes))
    moved = max(vdisk.read_now(found, offset_bytes), 0)
    if moved < length_bytes:
        result = yield partial(vdisk.read, found[moved:], offset_bytes + moved)
        moved += max(result, 0)
        if moved < length_bytes:
            bad_lba = (offset_bytes + moved) >> unit.block_shift
            raise CheckCondition(read_sense(result, bad_lba))
    if found != verify:
        raise CheckCondition(sense.miscompare(first_difference(found, verify)))
    moved = max(vdisk.write_now(write, offset_bytes), 0)
    result = moved
    if moved < length_bytes:
        result = yield partial(vdisk.write, write[moved:], offset_bytes + moved)
    if result >= 0 and is_stable:
        result = yield vdisk.sync
    if result < 0:
        raise CheckCondition(write_sense(result, lba))


COMPARE_AND_WRITE_COMMANDS = (
    CommandRow(
        Opcode.COMPARE_AND_WRITE,
        bind_compare_and_write,
        writes_medium=True,
        blocks_of=RANGE.unpack,
        is_atomic=True,
    ),
)
