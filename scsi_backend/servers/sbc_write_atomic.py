# SPDX-License-Identifier: GPL-2.0-or-later
"""WRITE ATOMIC (SBC-4 4.29, 5.48): all blocks are written or none, whatever happens meanwhile.

Against other commands that is the business of the range lock; against errors, the end of the daemon
and power failures it is the device's (``Vdisk.write_atomic``). A device without a way to do that
has no such command.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.errors import write_sense
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import check_range, data_out_exactly
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.servers.vital_product_data import block_limits
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10.cdb import BlockRange, Field
from scsi_backend.t10.cdb_block import ATOMIC_BOUNDARY_16, RANGE_WRITE_ATOMIC_16, flag_of
from scsi_backend.t10.opcodes import Opcode


def bind_write_atomic(where: BlockRange, boundary: Field) -> Callable[[LogicalUnit], Execute]:
    """WRITE ATOMIC of one width; GOOD always means stable storage, so FUA changes nothing."""
    return lambda unit: partial(_write_atomic, where, boundary, unit)


def _write_atomic(where: BlockRange, boundary: Field, unit: LogicalUnit, command: Command) -> None:
    cdb = command.cdb
    protect = flag_of(where, fields.PROTECT)
    # VPD B0h: MAXIMUM ATOMIC BOUNDARY SIZE of zero, so the whole is the only unit.
    for field in (protect, boundary):
        if field.read(cdb):
            raise CheckCondition(field.invalid())
    lba, blocks = where.unpack(cdb)
    check_range(unit, where, lba, blocks)
    if blocks > block_limits(unit).max_atomic:
        raise CheckCondition(where.length.invalid())
    data = data_out_exactly(command, blocks << unit.block_shift)
    unit.statistics.writes.add(blocks)
    run_steps(command, _steps(unit, lba, data))


def _steps(unit: LogicalUnit, lba: int, data: memoryview) -> Steps:
    if data:
        result = yield partial(unit.vdisk.write_atomic, data, lba << unit.block_shift)
        if result < 0:
            raise CheckCondition(write_sense(result, lba))


def has_write_atomic(vdisk: Vdisk) -> bool:
    """Whether a device has the command."""
    return vdisk.max_atomic_bytes > 0


WRITE_ATOMIC_COMMANDS = (
    CommandRow(
        Opcode.WRITE_ATOMIC_16,
        bind_write_atomic(RANGE_WRITE_ATOMIC_16, ATOMIC_BOUNDARY_16),
        writes_medium=True,
        blocks_of=RANGE_WRITE_ATOMIC_16.unpack,
        is_atomic=True,
        is_supported=has_write_atomic,
    ),
)
