# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of frames in memory: the ring that a packet socket's receiver shares with the kernel, and
what its slots have in common with those of the outbox. No socket is here.

A slot of the ring is the kernel's header, and behind it a frame. Who owns it is its status word.
The kernel fills slots strictly in their order, so one that is kept here when the kernel's turn
comes to it means that frames are lost.

Source: packet(7), linux/if_packet.h (TPACKET_V2), Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import struct
from typing import Final

# enum tp_status.
_OF_KERNEL: Final = 0
_OF_USER: Final = 1
# Neither the kernel's, which asks for zero only, nor new: somebody here still uses the frame.
_KEPT: Final = 1 << 30

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
ZERO_WORDS: Final = memoryview(bytes(4 * MAX_BATCH)).cast("I")


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
        self._key = 0, 0
        self._views: list[memoryview] = []

    def word_column(self, first: int, count: int, offset_bytes: int) -> memoryview:
        """The word at this place of ``count`` slots in a row, from ``first`` on.

        One step for a column of a batch costs little more than one for a single slot.
        """
        size = self.size_words
        start = first * size + offset_bytes // 4
        return self.words[start : start + (count - 1) * size + 1 : size]

    def views(self, offset_bytes: int, length_bytes: int) -> list[memoryview]:
        """This part of every slot's frame.

        Only one part is remembered: the longest that frames have is nearly all there is.
        """
        key = offset_bytes, length_bytes
        if key != self._key:
            first = self._frame_offset + offset_bytes
            starts = range(first, first + self.count * self.size_bytes, self.size_bytes)
            self._views = [self.memory[start : start + length_bytes] for start in starts]
            self._key = key
        return self._views


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

    def keep(self, first: int, count: int) -> None:
        """Keep slots in a row beyond the moment."""
        self._mark(first, count, _KEPT)

    def release(self, first: int, count: int) -> None:
        """Give slots in a row back to the kernel."""
        self._mark(first, count, _OF_KERNEL)

    def release_batch(self, first: int, count: int) -> None:
        """The same for up to ``MAX_BATCH`` slots at once."""
        if count == 1:
            self.words[first * self.size_words] = _OF_KERNEL
        else:
            self.word_column(first, count, 0)[:] = ZERO_WORDS[:count]

    def release_unkept(self, first: int, count: int) -> None:
        """Give slots back to the kernel unless they are kept."""
        for slot in range(first, first + count):
            if self.words[slot * self.size_words] & _OF_USER:
                self.release(slot, 1)

    def _mark(self, first: int, count: int, status: int) -> None:
        words, size = self.words, self.size_words
        for word in range(first * size, (first + count) * size, size):
            words[word] = status
