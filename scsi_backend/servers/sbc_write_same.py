# SPDX-License-Identifier: GPL-2.0-or-later
"""WRITE SAME (SBC-4 5.49, 5.50): one block, or zeros, over a range.

With UNMAP on a thin device, zeros become holes. Zeros without UNMAP keep their space, through the
file system if it can and else by writing. A pattern is written in pieces.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.errors import write_sense
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import check_range, whole_data_out
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.servers.vital_product_data import block_limits
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10.cdb import RANGE_10, RANGE_16, BlockRange, Field
from scsi_backend.t10.cdb_block import flag_of
from scsi_backend.t10.opcodes import Opcode

_PATTERN_BYTES = 1 << 20


def bind_write_same(where: BlockRange) -> Callable[[LogicalUnit], Execute]:
    """WRITE SAME of one width; the 10-byte form has no NDOB."""
    flags = _Flags(
        protect=flag_of(where, fields.PROTECT),
        anchor=flag_of(where, fields.ANCHOR),
        unmap=flag_of(where, fields.WRITE_SAME_UNMAP),
        obsolete=flag_of(where, fields.WRITE_SAME_OBSOLETE),
        ndob=flag_of(where, fields.NDOB),
        has_ndob=where is not RANGE_10,
    )
    return lambda unit: partial(_write_same, where, flags, unit)


@dataclass(frozen=True, slots=True)
class _Flags:
    """Where one width has its flags."""

    protect: Field
    anchor: Field
    unmap: Field
    obsolete: Field
    ndob: Field
    has_ndob: bool


def _write_same(where: BlockRange, flags: _Flags, unit: LogicalUnit, command: Command) -> None:
    cdb = command.cdb
    _check_flags(unit, cdb, flags)
    lba, blocks = where.unpack(cdb)
    check_range(unit, where, lba, blocks)
    # VPD B0h: WSNZ=1 refuses a length of zero, and MAXIMUM WRITE SAME LENGTH bounds it.
    if blocks == 0 or blocks > block_limits(unit).max_write_same:
        raise CheckCondition(where.length.invalid())
    if flags.ndob.read(cdb):
        pattern = bytes(unit.vdisk.block_size_bytes)
    else:
        pattern = bytes(whole_data_out(command, where, unit.vdisk.block_size_bytes))
    may_unmap = bool(flags.unmap.read(cdb))
    run_steps(command, _fill(unit, lba, blocks, pattern, may_unmap=may_unmap))


def _check_flags(unit: LogicalUnit, cdb: bytes, flags: _Flags) -> None:
    # VPD B2h: ANC_SUP=0, so that ANCHOR is refused with UNMAP as it is without.
    for field in (flags.protect, flags.anchor, flags.obsolete):
        if field.read(cdb):
            raise CheckCondition(field.invalid())
    if flags.unmap.read(cdb) and not unit.vdisk.is_thin_provisioned:
        raise CheckCondition(flags.unmap.invalid())
    if flags.ndob.read(cdb) and not flags.has_ndob:
        raise CheckCondition(flags.ndob.invalid())


def _fill(unit: LogicalUnit, lba: int, blocks: int, pattern: bytes, *, may_unmap: bool) -> Steps:
    """Take the cheapest way that the pattern and the device allow."""
    vdisk = unit.vdisk
    start_bytes, length_bytes = lba << unit.block_shift, blocks << unit.block_shift
    result = -errno.EOPNOTSUPP
    if not any(pattern):
        # LBPRZ=1: a deallocated block reads as the zeros that were asked for.
        shortcut = vdisk.unmap if may_unmap else vdisk.write_zeros
        result = yield partial(shortcut, start_bytes, length_bytes)
    if result == -errno.EOPNOTSUPP:
        piece = memoryview(pattern * (min(_PATTERN_BYTES, length_bytes) // len(pattern)))
        for position in range(0, length_bytes, len(piece)):
            part = piece[: length_bytes - position]
            result = yield partial(vdisk.write, part, start_bytes + position)
            if result < 0:
                break
    if result >= 0 and unit.is_write_through:
        result = yield vdisk.sync
    if result < 0:
        raise CheckCondition(write_sense(result, lba))


WRITE_SAME_COMMANDS = (
    CommandRow(
        Opcode.WRITE_SAME_10,
        bind_write_same(RANGE_10),
        writes_medium=True,
        blocks_of=RANGE_10.unpack,
    ),
    CommandRow(
        Opcode.WRITE_SAME_16,
        bind_write_same(RANGE_16),
        writes_medium=True,
        blocks_of=RANGE_16.unpack,
    ),
)
