# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps that fill or clear all of a medium, in pieces, and count them for a long operation.

Each raises CheckCondition with the sense data of the storage operation that failed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from scsi_backend.handlers.vdisk import Extent
from scsi_backend.io.engine import Done
from scsi_backend.io.scatter import ScatterList
from scsi_backend.servers.command import CheckCondition
from scsi_backend.servers.errors import read_sense, write_sense
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.long_operation import LongOperation
from scsi_backend.servers.steps import Steps

_SEGMENT_BYTES = 1 << 20
_SEGMENTS = 8
# Bounds how long a worker thread is away where zeros have to be written after all.
_ZEROS_PIECE_BYTES = 64 << 20
_UNMAP_PIECE_BYTES = 1 << 30
_NO_END = 1 << 64

# ``write_zeros`` or ``unmap`` of a vdisk.
_Clear = Callable[[int, int, Done], None]


def size_bytes(unit: LogicalUnit) -> int:
    """How long the medium is now."""
    return unit.block_count << unit.block_shift


def overwrite(unit: LogicalUnit, operation: LongOperation, pattern: bytes) -> Steps:
    """Write to each block, which ``pattern`` fills as often as it fits (SBC-4 5.30.2)."""
    yield from _write(unit, operation, _piece_of(unit, pattern), 0)


def overwrite_stored(unit: LogicalUnit, operation: LongOperation) -> Steps:
    """Write zeros over whatever is stored, and nothing to holes."""
    piece = _piece_of(unit, b"\0")
    position = 0
    while (left := size_bytes(unit) - position) > 0:
        runs: list[Extent] = []
        result = yield partial(unit.vdisk.extents, position, 1, runs)
        if result < 0:
            raise CheckCondition(read_sense(result, position >> unit.block_shift))
        run = runs[0] if runs else Extent(left, is_mapped=False)
        length_bytes = min(run.length_bytes, left)
        if run.is_mapped:
            yield from _write(unit, operation, piece, position, position + length_bytes)
        else:
            operation.advance(length_bytes)
        position += length_bytes


def clear(unit: LogicalUnit, operation: LongOperation) -> Steps:
    """Make the medium read as zeros and keep its space."""
    yield from _clear(unit, operation, unit.vdisk.write_zeros, _ZEROS_PIECE_BYTES)


def deallocate(unit: LogicalUnit, operation: LongOperation) -> Steps:
    """Make holes of all blocks of a thin-provisioned medium, which then read as zeros."""
    yield from _clear(unit, operation, unit.vdisk.unmap, _UNMAP_PIECE_BYTES)


def flush(unit: LogicalUnit) -> Steps:
    """Wait until what was written has left the cache, whatever the cache counts as."""
    result = yield unit.vdisk.sync_medium
    if result < 0:
        raise CheckCondition(write_sense(result, 0))


def _clear(unit: LogicalUnit, operation: LongOperation, how: _Clear, piece_bytes: int) -> Steps:
    position = 0
    while (left := size_bytes(unit) - position) > 0:
        length_bytes = min(piece_bytes, left)
        result = yield partial(how, position, length_bytes)
        if result == -errno.EOPNOTSUPP:
            yield from _write(unit, operation, _piece_of(unit, b"\0"), position)
            return
        if result < 0:
            raise CheckCondition(write_sense(result, position >> unit.block_shift))
        operation.advance(length_bytes)
        position += length_bytes


def _piece_of(unit: LogicalUnit, pattern: bytes) -> ScatterList:
    """What one storage operation writes: the same memory several times."""
    block_bytes = unit.vdisk.block_size_bytes
    block = (pattern * (block_bytes // len(pattern) + 1))[:block_bytes]
    segment = memoryview(block * (_SEGMENT_BYTES // block_bytes))
    return ScatterList([segment] * _SEGMENTS, len(segment) * _SEGMENTS)


def _write(
    unit: LogicalUnit,
    operation: LongOperation,
    piece: ScatterList,
    position: int,
    end: int = _NO_END,
) -> Steps:
    """Write up to ``end`` or the medium's end, which resync_size may move meanwhile."""
    while (left := min(end, size_bytes(unit)) - position) > 0:
        part = piece[:left]
        result = yield partial(unit.vdisk.write, part, position)
        if result < 0:
            raise CheckCondition(write_sense(result, position >> unit.block_shift))
        operation.advance(len(part))
        position += len(part)
