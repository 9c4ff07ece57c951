# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of frames in memory: the ring that a packet socket's receiver shares with the kernel, and
what its slots have in common with those of the outbox. No socket is here.

A slot of the ring is the kernel's header, and behind it a frame. Who owns it is its status word.
The kernel fills slots strictly in their order: one that is not given back when its turn comes means
that everybody's frames are lost. So what waits takes a copy along, and all slots of a batch are
given back with it.

Source: packet(7), linux/if_packet.h (TPACKET_V2), Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import struct
from typing import Final

# enum tp_status.
_OF_USER: Final = 1

# struct tpacket2_hdr: captured length, and where the frame begins (tp_mac).
_PLACE = struct.Struct("<8xIH")
# Where the kernel puts a frame: TPACKET2_HDRLEN (52) and 16 bytes for the hardware's header, made
# a multiple of 16, less the Ethernet header; PACKET_RESERVE makes that a multiple of 8.
RESERVE_BYTES: Final = 6
RX_FRAME_OFFSET: Final = 80 - 14 + RESERVE_BYTES

# Places in a frame.
TAG_OFFSET: Final = 20
LBA_OFFSET: Final = 28

_SLOT_MULTIPLE_BYTES: Final = 128
_PAGE_BYTES: Final = 4096

# The most slots that are handled as columns.
MAX_BATCH: Final = 64
# TP_STATUS_KERNEL, so many times.
_ZEROS: Final = memoryview(bytes(4 * MAX_BATCH)).cast("I")


def slot_bytes(content_bytes: int) -> int:
    """The size of slots that hold so many bytes.

    No power of two, where the caches would have the same place for every slot.
    """
    return (content_bytes // _SLOT_MULTIPLE_BYTES + 1) * _SLOT_MULTIPLE_BYTES


def ring_request(frame_bytes: int, count: int) -> bytes:
    """struct tpacket_req for PACKET_RX_RING; ``count`` is a multiple of 32.

    A block is a whole number of pages and of slots, so that slots have one distance throughout.
    """
    size = slot_bytes(RX_FRAME_OFFSET + frame_bytes)
    slots_per_block = _PAGE_BYTES // _SLOT_MULTIPLE_BYTES
    return struct.pack("IIII", size * slots_per_block, count // slots_per_block, size, count)


class Slots:
    """A row of slots in memory.

    A column is one native word of each: a memoryview with an item per slot, of which a slice costs
    little more to copy or to compare than a single word.
    """

    def __init__(self, memory: memoryview, size_bytes: int, frame_offset: int) -> None:
        self.memory = memory
        self.size_bytes = size_bytes
        self.count = len(memory) // size_bytes
        self._frame_offset = frame_offset
        self._views: dict[tuple[int, int], list[memoryview]] = {}
        # For replies and requests alike: the tag, and LBA 31:0.
        self.tags = self.column(frame_offset + TAG_OFFSET)
        self.lbas = self.column(frame_offset + LBA_OFFSET)

    def column(self, offset_bytes: int) -> memoryview:
        """The 32-bit word at this place of every slot."""
        return self.memory.cast("I")[offset_bytes // 4 :: self.size_bytes // 4]

    def wide_column(self, offset_bytes: int) -> memoryview:
        """The 64-bit word at this place of every slot."""
        return self.memory.cast("Q")[offset_bytes // 8 :: self.size_bytes // 8]

    def views(self, offset_bytes: int, length_bytes: int) -> list[memoryview]:
        """This part of every slot's frame.

        They are kept, for each of the few lengths that whole sectors have.
        """
        found = self._views.get((offset_bytes, length_bytes))
        if found is None:
            first = self._frame_offset + offset_bytes
            starts = range(first, first + self.count * self.size_bytes, self.size_bytes)
            found = [self.memory[start : start + length_bytes] for start in starts]
            self._views[offset_bytes, length_bytes] = found
        return found


class RxRing(Slots):
    """Received frames. ``next_slot`` is where the kernel's next frame is, or will be."""

    def __init__(self, memory: memoryview, size_bytes: int) -> None:
        super().__init__(memory, size_bytes, RX_FRAME_OFFSET)
        self.next_slot = 0
        self._statuses = self.column(0)
        # Captured length and where the frame begins; and of the frame, the first 20 bytes, flags
        # and command, and LBA 47:32 with what is behind it.
        self.places = self.wide_column(8)
        self.key_columns = (
            self.wide_column(RX_FRAME_OFFSET),
            self.wide_column(RX_FRAME_OFFSET + 8),
            self.column(RX_FRAME_OFFSET + 16),
        )
        self.codes = self.column(RX_FRAME_OFFSET + 24)
        self.upper_lbas = self.column(RX_FRAME_OFFSET + 32)

    @property
    def has_frame(self) -> bool:
        """Whether a frame has come."""
        return bool(self._statuses[self.next_slot] & _OF_USER)

    def ready(self, limit: int) -> int:
        """How many frames have come, up to a limit, in a row that ends with the ring."""
        statuses = self._statuses
        slot = first = self.next_slot
        end = min(first + limit, self.count)
        while slot < end and statuses[slot] & _OF_USER:
            slot += 1
        return slot - first

    def advance(self, count: int) -> None:
        """Go on to the frame behind these."""
        following = self.next_slot + count
        self.next_slot = following if following < self.count else 0

    def frame(self, slot: int) -> memoryview:
        """The frame in a slot, as much of it as the kernel could store."""
        start = slot * self.size_bytes
        length, offset = _PLACE.unpack_from(self.memory, start)
        return self.memory[start + offset : start + offset + length]

    def release(self, first: int, count: int) -> None:
        """Give slots in a row back to the kernel, at most ``MAX_BATCH``."""
        self._statuses[first : first + count] = _ZEROS[:count]

    def close(self) -> None:
        """Let go of the memory, so that it can be unmapped."""
        self._views.clear()
        columns = (self.tags, self.lbas, self._statuses, self.places, *self.key_columns)
        for view in (*columns, self.codes, self.upper_lbas, self.memory):
            view.release()
