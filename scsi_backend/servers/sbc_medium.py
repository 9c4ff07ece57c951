# SPDX-License-Identifier: GPL-2.0-or-later
"""Block commands about the medium: capacity, caching, provisioning (SBC-4 5).

READ CAPACITY, SYNCHRONIZE CACHE, PRE-FETCH, UNMAP and GET LBA STATUS; WRITE SAME has a file of
its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

from scsi_backend.handlers.vdisk import Extent
from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.errors import read_sense, write_sense
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.range_lock import whole_medium
from scsi_backend.servers.sbc_transfer import check_range, data_out_exactly, finish_write
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.servers.vital_product_data import MAX_UNMAP_DESCRIPTORS, block_limits
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import sense
from scsi_backend.t10.cdb import RANGE_10, RANGE_16, BlockRange
from scsi_backend.t10.opcodes import Opcode, ServiceActionIn16

# SCST reports 4 KiB physical blocks: what the page cache reads and writes at least.
_PHYSICAL_BLOCK_BYTES = 4096
# How much one PRE-FETCH brings into the page cache, and in what pieces.
_MAX_PRE_FETCH_BYTES = 64 << 20
_FETCH_BYTES = 1 << 20
_LBPME = 0x8000
_LBPRZ = 0x4000


def read_capacity_10(unit: LogicalUnit, command: Command) -> None:
    """READ CAPACITY(10) (SBC-4 5.20); PMI is obsolete, an LBA without it an error."""
    cdb = command.cdb
    lba = fields.READ_CAPACITY_10_LBA.read(cdb)
    if lba and not fields.READ_CAPACITY_10_PMI.read(cdb):
        raise CheckCondition(fields.READ_CAPACITY_10_LBA.invalid())
    last = min(unit.block_count - 1, 0xFFFFFFFF)
    data = struct.pack(">II", max(last, 0), unit.vdisk.block_size_bytes)
    command.reply(data, len(data))


def read_capacity_16(unit: LogicalUnit, command: Command) -> None:
    """READ CAPACITY(16) (SBC-4 5.21)."""
    cdb = command.cdb
    if fields.SERVICE_ACTION_LBA.read(cdb) and not fields.READ_CAPACITY_16_PMI.read(cdb):
        raise CheckCondition(fields.SERVICE_ACTION_LBA.invalid())
    exponent = 0
    if unit.vdisk.tells_physical_blocks:
        exponent = (_PHYSICAL_BLOCK_BYTES // unit.vdisk.block_size_bytes).bit_length() - 1
    provisioning = _LBPME | _LBPRZ if unit.vdisk.is_thin_provisioned else 0
    data = struct.pack(
        ">QIBBH16x",
        max(unit.block_count - 1, 0),
        unit.vdisk.block_size_bytes,
        0,
        max(exponent, 0),
        provisioning,
    )
    command.reply(data, fields.SERVICE_ACTION_ALLOCATION_LENGTH.read(cdb))


def _synchronize_cache(where: BlockRange, unit: LogicalUnit, command: Command) -> None:
    """SYNCHRONIZE CACHE (SBC-4 5.34). The range is checked; fdatasync covers all of the medium."""
    lba, blocks = where.unpack(command.cdb)
    check_range(unit, where, lba, blocks)
    flush(unit, command, lba, is_immediate=bool(fields.IMMED.read(command.cdb)))


def flush(unit: LogicalUnit, command: Command, lba: int, *, is_immediate: bool) -> None:
    """Make the medium stable, then end the command; ``is_immediate`` ends it before that."""
    if not is_immediate:
        unit.vdisk.sync(partial(finish_write, command, lba))
        return
    nexus = command.nexus

    def report_failure(result: int) -> None:
        if result < 0:
            nexus.defer_error(write_sense(result, lba).as_deferred())

    unit.vdisk.sync(report_failure)
    command.complete()


def _pre_fetch(where: BlockRange, unit: LogicalUnit, command: Command) -> None:
    """PRE-FETCH (SBC-4 5.13): GOOD, since the page cache may let go of any block at any time.

    CONDITION MET would say that all of them are there, and is an error to programs that use Linux's
    SG_IO. Without IMMED the blocks are read, and a block that cannot be is an error.
    """
    cdb = command.cdb
    lba, blocks = where.unpack(cdb)
    check_range(unit, where, lba, blocks)
    start_bytes = lba << unit.block_shift
    blocks = blocks or unit.block_count - lba
    length_bytes = min(blocks << unit.block_shift, _MAX_PRE_FETCH_BYTES)
    if fields.IMMED.read(cdb):
        unit.vdisk.read_ahead(start_bytes, length_bytes, lambda result: command.complete())
    else:
        run_steps(command, _fetch(unit, start_bytes, length_bytes))


def _fetch(unit: LogicalUnit, start_bytes: int, length_bytes: int) -> Steps:
    """Read a range piece by piece, for what stays in the page cache of it."""
    buffer = memoryview(bytearray(min(length_bytes, _FETCH_BYTES)))
    for position in range(0, length_bytes, _FETCH_BYTES):
        piece = buffer[: length_bytes - position]
        result = yield partial(unit.vdisk.read, piece, start_bytes + position)
        if result < len(piece):
            bad_lba = (start_bytes + position + max(result, 0)) >> unit.block_shift
            raise CheckCondition(read_sense(result, bad_lba))


_UNMAP_HEADER_BYTES = 8
_UNMAP_DESCRIPTOR = struct.Struct(">QI4x")


def unmap(unit: LogicalUnit, command: Command) -> None:
    """UNMAP (SBC-4 5.36)."""
    cdb = command.cdb
    if fields.UNMAP_ANCHOR.read(cdb):
        raise CheckCondition(fields.UNMAP_ANCHOR.invalid())
    list_length = fields.UNMAP_PARAMETER_LIST_LENGTH.read(cdb)
    if list_length == 0:
        command.complete()
        return
    if list_length < _UNMAP_HEADER_BYTES:
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    data = data_out_exactly(command, list_length)
    ranges = _unmap_ranges(unit, bytes(data))
    run_steps(command, _unmap_all(unit, ranges))


def _unmap_ranges(unit: LogicalUnit, data: bytes) -> list[tuple[int, int]]:
    """Validate all block descriptors before any of them takes effect."""
    length = min(int.from_bytes(data[2:4], "big"), len(data) - _UNMAP_HEADER_BYTES)
    count = length // _UNMAP_DESCRIPTOR.size
    limits = block_limits(unit)
    if count > MAX_UNMAP_DESCRIPTORS:
        raise CheckCondition(sense.invalid_field_in_parameter_list(2, 7))
    body = data[_UNMAP_HEADER_BYTES : _UNMAP_HEADER_BYTES + count * _UNMAP_DESCRIPTOR.size]
    ranges = list(_UNMAP_DESCRIPTOR.iter_unpack(body))
    total = 0
    for index, (lba, blocks) in enumerate(ranges):
        at_byte = _UNMAP_HEADER_BYTES + index * _UNMAP_DESCRIPTOR.size
        if lba + blocks > unit.block_count:
            pointer = sense.FieldPointer(at_byte, 7, in_cdb=False)
            raise CheckCondition(sense.out_of_range(max(lba, unit.block_count), pointer))
        total += blocks
        if total > limits.max_unmap:
            raise CheckCondition(sense.invalid_field_in_parameter_list(at_byte + 8, 7))
    return [(lba, blocks) for lba, blocks in ranges if blocks]


def _unmap_all(unit: LogicalUnit, ranges: list[tuple[int, int]]) -> Steps:
    shift = unit.block_shift
    for lba, blocks in ranges:
        result = yield partial(unit.vdisk.unmap, lba << shift, blocks << shift)
        if result < 0:
            raise CheckCondition(write_sense(result, lba))
    if unit.is_write_through:
        result = yield unit.vdisk.sync
        if result < 0:
            raise CheckCondition(write_sense(result, 0))


_LBA_STATUS_HEADER_BYTES = 8
_LBA_STATUS_DESCRIPTOR = struct.Struct(">QIB3x")
# SBC-4 table 83: PROVISIONING STATUS.
MAPPED = 0
DEALLOCATED = 1
_MAX_LBA_STATUS_DESCRIPTORS = 4096


def get_lba_status(unit: LogicalUnit, command: Command) -> None:
    """GET LBA STATUS(16) (SBC-4 5.9), from the holes of the backing store."""
    cdb = command.cdb
    lba = fields.SERVICE_ACTION_LBA.read(cdb)
    if lba >= unit.block_count:
        raise CheckCondition(sense.out_of_range(lba, fields.SERVICE_ACTION_LBA.pointer))
    allocation = fields.SERVICE_ACTION_ALLOCATION_LENGTH.read(cdb)
    wanted = (allocation - _LBA_STATUS_HEADER_BYTES) // _LBA_STATUS_DESCRIPTOR.size
    limit = max(1, min(wanted, _MAX_LBA_STATUS_DESCRIPTORS))
    extents: list[Extent] = []

    def finish(result: int) -> None:
        if result < 0:
            command.check_condition(read_sense(result, lba))
            return
        descriptors = _lba_status_descriptors(unit, lba, extents)[:limit]
        body = b"".join(_LBA_STATUS_DESCRIPTOR.pack(*descriptor) for descriptor in descriptors)
        # PARAMETER DATA LENGTH counts what follows it.
        command.reply(struct.pack(">I4x", len(body) + 4) + body, allocation)

    if unit.vdisk.is_thin_provisioned:
        # A hole shorter than a block gives no descriptor, but the run after it does.
        unit.vdisk.extents(lba << unit.block_shift, limit + 1, extents, finish)
    else:
        # A fully provisioned unit has no deallocated blocks (SBC-4 4.7.2), whatever its file has.
        extents.append(Extent((unit.block_count - lba) << unit.block_shift, is_mapped=True))
        finish(0)


def _lba_status_descriptors(
    unit: LogicalUnit, lba: int, extents: list[Extent]
) -> list[tuple[int, int, int]]:
    """Turn byte runs into (lba, blocks, status): a block that holds any data is mapped."""
    shift, block_bytes = unit.block_shift, unit.vdisk.block_size_bytes
    found: list[tuple[int, int, int]] = []
    position = lba << shift
    for extent in extents:
        end = position + extent.length_bytes
        if extent.is_mapped:
            end = end + block_bytes - 1 & -block_bytes
        end = min(end & -block_bytes, unit.block_count << shift)
        start, blocks = lba, (end >> shift) - lba
        position += extent.length_bytes
        while blocks > 0:
            piece = min(blocks, 0xFFFFFFFF)
            found.append((start, piece, MAPPED if extent.is_mapped else DEALLOCATED))
            start, blocks = start + piece, blocks - piece
        lba = start
    return found


def _bind(function: Callable[[LogicalUnit, Command], None]) -> Callable[[LogicalUnit], Execute]:
    return lambda unit: partial(function, unit)


MEDIUM_COMMANDS = (
    CommandRow(Opcode.READ_CAPACITY_10, _bind(read_capacity_10)),
    CommandRow(
        Opcode.SERVICE_ACTION_IN_16,
        _bind(read_capacity_16),
        service_action=ServiceActionIn16.READ_CAPACITY_16,
    ),
    CommandRow(
        Opcode.SERVICE_ACTION_IN_16,
        _bind(get_lba_status),
        service_action=ServiceActionIn16.GET_LBA_STATUS,
    ),
    CommandRow(Opcode.SYNCHRONIZE_CACHE_10, _bind(partial(_synchronize_cache, RANGE_10))),
    CommandRow(Opcode.SYNCHRONIZE_CACHE_16, _bind(partial(_synchronize_cache, RANGE_16))),
    CommandRow(Opcode.PRE_FETCH_10, _bind(partial(_pre_fetch, RANGE_10))),
    CommandRow(Opcode.PRE_FETCH_16, _bind(partial(_pre_fetch, RANGE_16))),
    # Its ranges are in the parameter list; it is rare enough to keep whatever is atomic waiting.
    CommandRow(
        Opcode.UNMAP,
        _bind(unmap),
        writes_medium=True,
        blocks_of=whole_medium,
        is_supported=lambda vdisk: vdisk.is_thin_provisioned,
    ),
)
