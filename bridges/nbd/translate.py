# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD requests to SCSI commands, for the daemon's server and for the nbdkit plugin.

This is the one place where bytes become logical blocks. READ and WRITE of whole blocks are single
CDBs, made where they are needed by ``scsi_backend.t10.cdb``; what may take several is an exchange.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bridges.exchange import Exchange, Request, succeed
from bridges.lun import LunInfo
from bridges.nbd.wire import MAX_PAYLOAD_BYTES, TransmissionFlag
from bridges.recovery import Reply, ScsiError
from scsi_backend.t10 import cdb
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status

_ZEROS = memoryview(bytes(1 << 20))
# The page size: what most storage here allocates in.
_MIN_PREFERRED_BYTES = 4096
_UINT32_MAX = 0xFFFFFFFF
_UINT64_MAX = 0xFFFFFFFF_FFFFFFFF
# Each failed try means that somebody else's write succeeded.
_MAX_MODIFY_TRIES = 1000
_SHORT_DATA = Reply(
    Status.CHECK_CONDITION, Sense(SenseKey.ABORTED_COMMAND, AdditionalSense.DATA_PHASE_ERROR), 0
)


def transmission_flags(info: LunInfo) -> TransmissionFlag:
    """The flags of an export (see the table of capabilities in README)."""
    flags = (
        TransmissionFlag.HAS_FLAGS
        | TransmissionFlag.SEND_FLUSH
        | TransmissionFlag.SEND_FUA
        # One cache behind all connections, flushed as a whole.
        | TransmissionFlag.CAN_MULTI_CONN
        | TransmissionFlag.SEND_CACHE
    )
    if info.is_rotational:
        flags |= TransmissionFlag.ROTATIONAL
    if info.is_read_only:
        return flags | TransmissionFlag.READ_ONLY
    # FAST_ZERO is offered always, and refused request by request where it would not be fast.
    flags |= TransmissionFlag.SEND_WRITE_ZEROES | TransmissionFlag.SEND_FAST_ZERO
    return flags | TransmissionFlag.SEND_TRIM if info.can_unmap else flags


def block_sizes(info: LunInfo) -> tuple[int, int, int]:
    """Minimum, preferred and maximum block size in bytes."""
    minimum = info.block_size_bytes
    granularity = info.limits.optimal_granularity * minimum
    preferred = max(_MIN_PREFERRED_BYTES, minimum << info.physical_block_exponent)
    if granularity > preferred and granularity.bit_count() == 1:
        preferred = granularity
    return minimum, min(preferred, MAX_PAYLOAD_BYTES), MAX_PAYLOAD_BYTES


def is_fast_zero(info: LunInfo, offset_bytes: int, length_bytes: int, *, no_hole: bool) -> bool:
    """Tell whether WRITE_ZEROES of a range is surely faster than writing (FAST_ZERO).

    That is deallocating whole blocks; what any other WRITE SAME costs only the device knows.
    """
    is_whole = (offset_bytes | length_bytes) & (info.block_size_bytes - 1) == 0
    return is_whole and _may_unmap(info, no_hole=no_hole)


def _may_unmap(info: LunInfo, *, no_hole: bool) -> bool:
    ways = info.provisioning
    return (
        not no_hole
        and info.is_thin_provisioned
        and ways.has_write_same_16
        # SBC-4 5.50: the device may deallocate only where that reads as the given pattern.
        and ways.reads_zeros
    )


def _pieces(start_block: int, length_blocks: int, limit_blocks: int) -> Iterator[tuple[int, int]]:
    """Divide a range at a reported limit, if there is one, and at what a CDB's field can hold."""
    limit_blocks = min(limit_blocks or _UINT32_MAX, _UINT32_MAX)
    while length_blocks > 0:
        count = min(length_blocks, limit_blocks)
        yield start_block, count
        start_block += count
        length_blocks -= count


class _Part(NamedTuple):
    """Some bytes of one block, or all bytes of some blocks."""

    lba: int
    inside_bytes: int
    length_bytes: int
    is_whole: bool


def _parts(
    info: LunInfo, offset_bytes: int, length_bytes: int, limit_blocks: int
) -> Iterator[_Part]:
    """Divide a range at block boundaries; whole blocks come together, up to a limit."""
    size = info.block_size_bytes
    end = offset_bytes + length_bytes
    while offset_bytes < end:
        lba, inside = divmod(offset_bytes, size)
        left = end - offset_bytes
        is_whole = inside == 0 and left >= size
        count = min(left // size, limit_blocks) * size if is_whole else min(size - inside, left)
        yield _Part(lba, inside, count, is_whole)
        offset_bytes += count


def partial_blocks(info: LunInfo, offset_bytes: int, length_bytes: int) -> frozenset[int]:
    """The LBAs of the blocks, two at most, that a range of bytes has only a part of."""
    size = info.block_size_bytes
    ends = (offset_bytes, offset_bytes + length_bytes)
    return frozenset(end // size for end in ends if end % size)


def read(info: LunInfo, offset_bytes: int, view: memoryview) -> Exchange[None]:
    """READ of any bytes, in as many commands as block boundaries and limits ask for."""
    size = info.block_size_bytes
    position = 0
    for part in _parts(info, offset_bytes, len(view), _transfer_limit(info)):
        piece = view[position : position + part.length_bytes]
        if part.is_whole:
            yield from _read_blocks(part.lba, piece, size)
        else:
            block = memoryview(bytearray(size))
            yield from _read_blocks(part.lba, block, size)
            piece[:] = block[part.inside_bytes : part.inside_bytes + part.length_bytes]
        position += part.length_bytes


def _read_blocks(lba: int, view: memoryview, size: int) -> Exchange[None]:
    command = cdb.read_16(lba, len(view) // size)
    reply = succeed((yield Request(command, data_in=view)))
    if reply.data_in_length < len(view):
        # What lies behind the data is not the medium's.
        raise ScsiError(command, _SHORT_DATA)


def write(info: LunInfo, offset_bytes: int, data: memoryview, *, fua: bool) -> Exchange[None]:
    """WRITE of any bytes. Blocks that are changed in part are read, changed and written back.

    Each such block changes atomically; other initiators' writes next to it are not lost.
    """
    size = info.block_size_bytes
    flags = cdb.FUA_BIT if fua and info.has_fua else 0
    position = 0
    for part in _parts(info, offset_bytes, len(data), _transfer_limit(info)):
        piece = data[position : position + part.length_bytes]
        if part.is_whole:
            command = cdb.write_16(part.lba, part.length_bytes // size, flags)
            succeed((yield Request(command, data_out=piece)))
        else:
            yield from _modify(info, part, piece, flags)
        position += part.length_bytes
    if fua and not flags:
        yield from _sync_bytes(info, offset_bytes, len(data))


def _modify(info: LunInfo, part: _Part, data: memoryview, flags: int) -> Exchange[None]:
    """Change some bytes of one block by COMPARE AND WRITE, again if someone else changed it."""
    size = info.block_size_bytes
    both = memoryview(bytearray(2 * size))
    found, wanted = both[:size], both[size:]
    command = cdb.compare_and_write(part.lba, 1, flags)
    for _ in range(_MAX_MODIFY_TRIES):
        yield from _read_blocks(part.lba, found, size)
        wanted[:] = found
        wanted[part.inside_bytes : part.inside_bytes + part.length_bytes] = data
        reply = yield Request(command, data_out=both)
        if not isinstance(reply, ScsiError):
            return
        failure = reply
        if failure.is_refusal:
            # A device without the command: the last one to write a block wins.
            succeed((yield Request(cdb.write_16(part.lba, 1, flags), data_out=wanted)))
            return
        sense = failure.reply.sense
        if sense is None or sense.key != SenseKey.MISCOMPARE:
            raise failure
    raise failure


def _transfer_limit(info: LunInfo) -> int:
    return info.limits.max_transfer or _UINT32_MAX


def ready() -> Exchange[None]:
    """Have a LUN say whether it is there, and whether it has changed."""
    succeed((yield Request(cdb.TEST_UNIT_READY)))


def flush(info: LunInfo) -> Exchange[None]:
    """FLUSH: SYNCHRONIZE CACHE of everything."""
    yield from _synchronize_cache(info, 0, 0)


def _synchronize_cache(info: LunInfo, lba: int, blocks: int) -> Exchange[None]:
    # Even where WCE was 0: somebody may have set it, of which only the next command is told.
    reply = yield Request(cdb.synchronize_cache_16(lba, blocks))
    if isinstance(reply, ScsiError) and (info.has_volatile_cache or not reply.is_refusal):
        raise reply


def _sync_bytes(info: LunInfo, offset_bytes: int, length_bytes: int) -> Exchange[None]:
    size = info.block_size_bytes
    first = offset_bytes // size
    yield from _sync_range(info, first, -(-(offset_bytes + length_bytes) // size) - first)


def _sync_range(info: LunInfo, lba: int, blocks: int) -> Exchange[None]:
    if blocks:
        yield from _synchronize_cache(info, lba, blocks if blocks <= _UINT32_MAX else 0)


def trim(info: LunInfo, offset_bytes: int, length_bytes: int, *, fua: bool) -> Exchange[None]:
    """TRIM: UNMAP of the whole blocks inside the range. It is a hint: a refusal is no error."""
    size = info.block_size_bytes
    first = -(-offset_bytes // size)
    blocks = (offset_bytes + length_bytes) // size - first
    if blocks <= 0 or not info.can_unmap:
        return
    for request in _unmap_requests(info, first, blocks):
        reply = yield request
        if isinstance(reply, ScsiError):
            if reply.is_refusal:
                # It would refuse the other pieces too, of which 64 bits of length make millions.
                break
            raise reply
    if fua:
        yield from _sync_range(info, first, blocks)


def _unmap_requests(info: LunInfo, first: int, blocks: int) -> Iterator[Request]:
    if not info.provisioning.has_unmap:
        for lba, count in _pieces(first, blocks, info.limits.max_write_same):
            yield Request(cdb.write_same_16(lba, count, cdb.NDOB_BIT | cdb.UNMAP_BIT))
        return
    for lba, count in _pieces(first, blocks, info.limits.max_unmap):
        parameters = memoryview(cdb.unmap_parameter_list(lba, count))
        yield Request(cdb.unmap(len(parameters)), data_out=parameters)


def write_zeroes(
    info: LunInfo, offset_bytes: int, length_bytes: int, *, fua: bool, no_hole: bool
) -> Exchange[None]:
    """WRITE_ZEROES: WRITE SAME without data, deallocating where that reads as zeros.

    A device without WRITE SAME gets the zeros written, and so do blocks that are changed in part.
    """
    size = info.block_size_bytes
    for part in _parts(info, offset_bytes, length_bytes, _UINT64_MAX):
        if part.is_whole:
            blocks = part.length_bytes // size
            yield from _zero_blocks(info, part.lba, blocks, no_hole=no_hole)
        else:
            yield from _modify(info, part, _ZEROS[: part.length_bytes], 0)
    if fua:
        yield from _sync_bytes(info, offset_bytes, length_bytes)


def _zero_blocks(info: LunInfo, first: int, blocks: int, *, no_hole: bool) -> Exchange[None]:
    flags = cdb.NDOB_BIT | (cdb.UNMAP_BIT if _may_unmap(info, no_hole=no_hole) else 0)
    for lba, count in _pieces(first, blocks, info.limits.max_write_same):
        reply = yield Request(cdb.write_same_16(lba, count, flags))
        if isinstance(reply, ScsiError):
            if not reply.is_refusal:
                raise reply
            yield from _write_zero_blocks(info, lba, first + blocks - lba)
            return


def _write_zero_blocks(info: LunInfo, first: int, blocks: int) -> Exchange[None]:
    size = info.block_size_bytes
    limit = min(len(_ZEROS) // size, _transfer_limit(info))
    for lba, count in _pieces(first, blocks, limit):
        succeed((yield Request(cdb.write_16(lba, count), data_out=_ZEROS[: count * size])))


def cache(info: LunInfo, offset_bytes: int, length_bytes: int) -> Exchange[None]:
    """CACHE: PRE-FETCH; it is a hint, so that no refusal of it is an error."""
    size = info.block_size_bytes
    first = offset_bytes // size
    blocks = -(-(offset_bytes + length_bytes) // size) - first
    for lba, count in _pieces(first, blocks, 0):
        yield Request(cdb.pre_fetch_16(lba, count))
