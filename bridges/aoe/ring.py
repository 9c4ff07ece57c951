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
    """A row of slots in memory; ``words`` and ``quads`` are its native 32-bit and 64-bit words."""

    def __init__(self, memory: memoryview, size_bytes: int, frame_offset: int) -> None:
        self.memory = memory
        self.words = memory.cast("I")
        self.quads = memory.cast("Q")
        self.size_bytes = size_bytes
        self.size_words = size_bytes // 4
        self.size_quads = size_bytes // 8
        self.count = len(memory) // size_bytes
        self._frame_offset = frame_offset
        self._views: dict[tuple[int, int], list[memoryview]] = {}

    def word_column(self, first: int, count: int, offset_bytes: int) -> memoryview:
        """The word at this place of ``count`` slots in a row, from ``first`` on.

        One step for a column of a batch costs little more than one for a single slot.
        """
        size = self.size_words
        start = first * size + offset_bytes // 4
        return self.words[start : start + (count - 1) * size + 1 : size]

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

    @property
    def has_frame(self) -> bool:
        """Whether a frame has come."""
        return bool(self.words[self.next_slot * self.size_words] & _OF_USER)

    def ready(self, limit: int) -> int:
        """How many frames have come, up to a limit, in a row that ends with the ring."""
        words, size = self.words, self.size_words
        word = start = self.next_slot * size
        end = min(start + limit * size, self.count * size)
        while word < end and words[word] & _OF_USER:
            word += size
        return (word - start) // size

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
        self.word_column(first, count, 0)[:] = _ZEROS[:count]

    def close(self) -> None:
        """Let go of the memory, so that it can be unmapped."""
        self._views.clear()
        for view in (self.words, self.quads, self.memory):
            view.release()
