# SPDX-License-Identifier: GPL-2.0-or-later
"""The allocation of a LUN as NBD's extents: BLOCK_STATUS of base:allocation, for both servers.

proto.md, "Metadata contexts"; SBC-4 5.9 and 4.7.4. Flags of zero are always true, so whatever a
device does not say, or says in a way that cannot be, becomes that.
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import Final

from bridges.exchange import Exchange, Request
from bridges.lun import LunInfo
from bridges.nbd.wire import ExtentFlag
from bridges.recovery import ScsiError
from scsi_backend.t10 import cdb

_HEADER_BYTES: Final = 8
# PARAMETER DATA LENGTH does not count itself.
_LENGTH_FIELD_BYTES: Final = 4
# LBA, number of logical blocks, provisioning status in the low half of its byte.
_DESCRIPTOR: Final = struct.Struct(">QIB3x")
_STATUS_MASK: Final = 0x0F
_MAX_DESCRIPTORS: Final = 256
# Replies that add no extent, because all they say is more of the same.
_SPARE_REPLIES: Final = 64

_ALLOCATED: Final = ExtentFlag(0)
_DEALLOCATED_STATUS: Final = 1
_ANCHORED_STATUS: Final = 2
# SBC-4 table 83. Anchored blocks read like deallocated ones, but writing them cannot run out of
# space. Mapped, unknown and reserved: allocated.
_IF_ZEROS: Final = MappingProxyType(
    {_DEALLOCATED_STATUS: ExtentFlag.HOLE | ExtentFlag.ZERO, _ANCHORED_STATUS: ExtentFlag.ZERO}
)
_IF_ANYTHING: Final = MappingProxyType({_DEALLOCATED_STATUS: ExtentFlag.HOLE})

Extents = list[tuple[int, ExtentFlag]]


def extents(
    info: LunInfo, offset_bytes: int, length_bytes: int, limit: int
) -> Exchange[list[tuple[int, ExtentFlag]]]:
    """BLOCK_STATUS: (length in bytes, flags) of contiguous extents from the offset on.

    Neighbours differ. There is at least one, and at most ``limit``; they end with the request (for
    nbdkit aborts where a plugin goes on behind it) or the disk, or earlier at the limit. The offset
    must be on the disk, perhaps inside a block, and the length positive. Fails with what GET LBA
    STATUS fails with; a device that does not know the command has everything allocated.
    """
    runs = _Runs(offset_bytes, min(offset_bytes + length_bytes, info.size_bytes), limit)
    if info.is_thin_provisioned:
        yield from _ask(info, runs)
    if not runs.is_complete:
        runs.add(runs.end_bytes, _ALLOCATED)
    return runs.found


class _Runs:
    """Extents while they are found; ``position_bytes`` is where the next one begins."""

    __slots__ = ("end_bytes", "found", "limit", "position_bytes")

    def __init__(self, position_bytes: int, end_bytes: int, limit: int) -> None:
        self.position_bytes = position_bytes
        self.end_bytes = end_bytes
        self.limit = limit
        self.found: Extents = []

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing more to ask for."""
        return self.position_bytes >= self.end_bytes or len(self.found) >= self.limit

    def add(self, until_bytes: int, flags: ExtentFlag) -> bool:
        """Go on with ``flags`` up to an offset; tell whether the next ones have a place."""
        until_bytes = min(until_bytes, self.end_bytes)
        length = until_bytes - self.position_bytes
        if self.found and self.found[-1][1] == flags:
            self.found[-1] = (self.found[-1][0] + length, flags)
        elif len(self.found) < self.limit:
            self.found.append((length, flags))
        else:
            return False
        self.position_bytes = until_bytes
        return until_bytes < self.end_bytes


def _ask(info: LunInfo, runs: _Runs) -> Exchange[None]:
    """Add what the device says, until it is enough or makes no sense."""
    room = _HEADER_BYTES + _DESCRIPTOR.size * min(runs.limit, _MAX_DESCRIPTORS)
    buffer = memoryview(bytearray(room))
    for _ in range(runs.limit + _SPARE_REPLIES):
        lba = runs.position_bytes // info.block_size_bytes
        outcome = yield Request(cdb.get_lba_status(lba, room), data_in=buffer)
        if isinstance(outcome, ScsiError):
            if outcome.is_refusal:
                return
            raise outcome
        has_sense = _add_descriptors(info, runs, lba, buffer[: outcome.data_in_length])
        if runs.is_complete or not has_sense:
            return


def _add_descriptors(info: LunInfo, runs: _Runs, lba: int, data: memoryview) -> bool:
    """Add the descriptors of a reply; tell whether they went on from ``lba`` without a gap."""
    length = int.from_bytes(data[:_LENGTH_FIELD_BYTES], "big") + _LENGTH_FIELD_BYTES
    body = data[_HEADER_BYTES:length]
    body = body[: len(body) - len(body) % _DESCRIPTOR.size]
    flags_of = _IF_ZEROS if info.provisioning.reads_zeros else _IF_ANYTHING
    next_lba = None
    for start, blocks, status in _DESCRIPTOR.iter_unpack(body):
        end = start + blocks
        # The first descriptor's extent may begin before the block that was asked for.
        if not (start <= lba < end if next_lba is None else start == next_lba < end):
            return False
        next_lba = end
        flags = flags_of.get(status & _STATUS_MASK, _ALLOCATED)
        if not runs.add(end * info.block_size_bytes, flags):
            break
    return next_lba is not None
