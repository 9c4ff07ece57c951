# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD requests to SCSI commands, for the daemon's server and for the nbdkit plugin.

This is the one place where bytes become logical blocks. READ and WRITE are single CDBs, made where
they are needed by ``scsi_backend.t10.cdb``; what may take several CDBs is an exchange.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridges.exchange import Exchange, Request, succeed
from bridges.lun import LunInfo
from bridges.nbd.wire import MAX_PAYLOAD_BYTES, TransmissionFlag
from bridges.recovery import ScsiError
from scsi_backend.t10 import cdb
from scsi_backend.t10.sense import SenseKey

_ZEROS = memoryview(bytes(1 << 20))
# The page size: what most storage here allocates in.
_MIN_PREFERRED_BYTES = 4096
_UINT32_MAX = 0xFFFFFFFF


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
    flags |= TransmissionFlag.SEND_WRITE_ZEROES
    return flags | TransmissionFlag.SEND_TRIM if info.can_unmap else flags


def block_sizes(info: LunInfo) -> tuple[int, int, int]:
    """Minimum, preferred and maximum block size in bytes."""
    minimum = info.block_size_bytes
    granularity = info.limits.optimal_granularity * minimum
    preferred = max(_MIN_PREFERRED_BYTES, minimum << info.physical_block_exponent)
    if granularity > preferred and granularity.bit_count() == 1:
        preferred = granularity
    return minimum, min(preferred, MAX_PAYLOAD_BYTES), MAX_PAYLOAD_BYTES


def _pieces(start_block: int, length_blocks: int, limit_blocks: int) -> Iterator[tuple[int, int]]:
    while length_blocks > 0:
        count = min(length_blocks, limit_blocks)
        yield start_block, count
        start_block += count
        length_blocks -= count


def flush(info: LunInfo) -> Exchange[None]:
    """FLUSH: SYNCHRONIZE CACHE of everything; without a volatile cache there is nothing to do."""
    if info.has_volatile_cache:
        succeed((yield Request(cdb.synchronize_cache_16())))


def _sync_range(info: LunInfo, lba: int, blocks: int) -> Exchange[None]:
    if info.has_volatile_cache and blocks:
        length = blocks if blocks <= _UINT32_MAX else 0
        succeed((yield Request(cdb.synchronize_cache_16(lba, length))))


def trim(info: LunInfo, offset_bytes: int, length_bytes: int, *, fua: bool) -> Exchange[None]:
    """TRIM: UNMAP of the whole blocks inside the range. It is a hint: a refusal is no error."""
    size = info.block_size_bytes
    first = -(-offset_bytes // size)
    blocks = (offset_bytes + length_bytes) // size - first
    if blocks <= 0 or not info.can_unmap:
        return
    limit = info.limits.max_unmap or _UINT32_MAX
    for lba, count in _pieces(first, blocks, limit):
        parameters = memoryview(cdb.unmap_parameter_list(lba, count))
        reply = yield Request(cdb.unmap(len(parameters)), data_out=parameters)
        if isinstance(reply, ScsiError) and not _is_refused(reply):
            raise reply
    if fua:
        yield from _sync_range(info, first, blocks)


def write_zeroes(
    info: LunInfo, offset_bytes: int, length_bytes: int, *, fua: bool, no_hole: bool
) -> Exchange[None]:
    """WRITE_ZEROES: WRITE SAME without data, deallocating where that reads as zeros.

    The range must be whole blocks. A device without WRITE SAME gets the zeros written.
    """
    size = info.block_size_bytes
    first, blocks = offset_bytes // size, length_bytes // size
    may_unmap = info.can_unmap and info.provisioning.reads_zeros and not no_hole
    flags = cdb.NDOB_BIT | (cdb.UNMAP_BIT if may_unmap else 0)
    limit = info.limits.max_write_same or _UINT32_MAX
    for lba, count in _pieces(first, blocks, limit):
        reply = yield Request(cdb.write_same_16(lba, count, flags))
        if isinstance(reply, ScsiError):
            if not _is_refused(reply):
                raise reply
            yield from _write_zero_blocks(info, lba, first + blocks - lba)
            break
    if fua:
        yield from _sync_range(info, first, blocks)


def _write_zero_blocks(info: LunInfo, first: int, blocks: int) -> Exchange[None]:
    size = info.block_size_bytes
    for lba, count in _pieces(first, blocks, len(_ZEROS) // size):
        succeed((yield Request(cdb.write_16(lba, count), data_out=_ZEROS[: count * size])))


def cache(info: LunInfo, offset_bytes: int, length_bytes: int) -> Exchange[None]:
    """CACHE: PRE-FETCH; it is a hint, so that no refusal of it is an error."""
    size = info.block_size_bytes
    first = offset_bytes // size
    blocks = -(-(offset_bytes + length_bytes) // size) - first
    yield Request(cdb.pre_fetch_16(first, blocks))


def _is_refused(error: ScsiError) -> bool:
    """Whether the device does not do such commands, rather than failed at this one."""
    sense = error.reply.sense
    return (
        sense is not None
        and sense.key == SenseKey.ILLEGAL_REQUEST
        and sense.asc in (0x20, 0x24, 0x26)
    )
