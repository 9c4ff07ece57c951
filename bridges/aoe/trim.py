# SPDX-License-Identifier: GPL-2.0-or-later
"""DATA SET MANAGEMENT with TRIM: its ranges, the UNMAP commands they become, and their order.

A TRIM must not pass an earlier write to its sectors, nor a later one pass it: it takes a place
among the writes (ordering.py).

Source: ATA8-ACS 7.10 (DATA SET MANAGEMENT), SBC-4 5.36 (UNMAP), SAT-3 9.3 read backwards.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bridges.aoe.address import Address
from bridges.aoe.ordering import Ranged, Scattered, WriteOrder
from bridges.lun import LunInfo

# LBA in bits 47:0, number of sectors in bits 63:48.
_ENTRY = struct.Struct("<Q")
_LBA_BITS: Final = 48
_LIST_HEADER = struct.Struct(">HH4x")
_DESCRIPTOR = struct.Struct(">QI4x")

# First LBA and the one after the last.
Range = tuple[int, int]


def can_trim(info: LunInfo) -> bool:
    """Whether a LUN can deallocate sectors by UNMAP."""
    return info.is_thin_provisioned and info.provisioning.has_unmap


def trim_ranges(data: memoryview | bytes) -> tuple[Range, ...]:
    """Return the ranges of a TRIM's data, ascending and disjoint; empty entries are padding."""
    found = []
    for (entry,) in _ENTRY.iter_unpack(data):
        lba, sectors = entry & (1 << _LBA_BITS) - 1, entry >> _LBA_BITS
        if sectors:
            found.append((lba, lba + sectors))
    merged: list[Range] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def unmap_lists(ranges: Sequence[Range], info: LunInfo) -> Iterator[bytes]:
    """Return the parameter lists of the UNMAP commands, each within the LUN's limits (VPD B0h).

    The ranges are those of one TRIM: at most 64, of 65535 sectors before any are merged. What an
    UNMAP can count is far more.
    """
    # A limit of zero is one that is not reported.
    blocks_left = max_blocks = info.limits.max_unmap or sum(end - start for start, end in ranges)
    max_descriptors = info.limits.max_unmap_descriptors or len(ranges)
    descriptors: list[bytes] = []
    for start, end in ranges:
        while start < end:
            if not blocks_left or len(descriptors) == max_descriptors:
                yield _parameter_list(descriptors)
                descriptors, blocks_left = [], max_blocks
            blocks = min(end - start, blocks_left)
            descriptors.append(_DESCRIPTOR.pack(start, blocks))
            start, blocks_left = start + blocks, blocks_left - blocks
    if descriptors:
        yield _parameter_list(descriptors)


def _parameter_list(descriptors: Sequence[bytes]) -> bytes:
    body = b"".join(descriptors)
    return _LIST_HEADER.pack(len(body) + 6, len(body)) + body


class TrimPlace:
    """The place of one TRIM in the order of writes; stands for the disk as its owner.

    ``ranges`` are as ``trim_ranges`` returns them.
    """

    __slots__ = (
        "_begin",
        "_order",
        "_ranges",
        "address",
        "blockers",
        "durable",
        "end_lba",
        "followers",
        "is_write",
        "lba",
    )

    def __init__(
        self, address: Address, order: WriteOrder, ranges: Sequence[Range], *, durable: bool
    ) -> None:
        self.address = address
        self.durable = durable
        self._order = order
        self._ranges = ranges
        self.lba, self.end_lba = (ranges[0][0], ranges[-1][1]) if ranges else (0, 0)
        self.is_write = True
        self.blockers = 0
        self.followers: list[Ranged] = []
        self._begin: Callable[[], None] | None = None

    @property
    def order(self) -> TrimPlace:
        """See ``Owner.order``."""
        return self

    def overlaps(self, lba: int, end_lba: int) -> bool:
        """See ``Scattered``."""
        # Of the ranges that begin before ``end_lba``, the last one ends last.
        index = bisect_left(self._ranges, (end_lba, 0))
        return index > 0 and self._ranges[index - 1][1] > lba

    def overlaps_any(self, other: Scattered) -> bool:
        """See ``Scattered``."""
        return any(other.overlaps(start, end) for start, end in self._ranges)

    def enter(self, begin: Callable[[], None]) -> None:
        """Take the place; ``begin`` is called when no write to any of the ranges stands before."""
        self._begin = begin
        if self._order.enter_scattered(self):
            begin()

    def start(self) -> None:
        """See ``Ranged.start``."""
        assert self._begin is not None, "the place is taken"
        self._begin()

    def leave(self, command: Ranged) -> None:
        """The TRIM is done: let those behind it go on."""
        self._order.leave_scattered(self)
