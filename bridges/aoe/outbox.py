# SPDX-License-Identifier: GPL-2.0-or-later
"""Replies that leave together: slots for their frames, and one system call that sends them.

sendmmsg(2) rather than a TX ring (PACKET_TX_RING): measured, it is no slower; the same few slots
are filled again and again and stay in the processor's cache, where a ring wanders through
megabytes; and a reply that must wait does not hold up those behind it, as the ring's order would.

Source: sendmmsg(2), sendmsg(2).
"""

from __future__ import annotations

import ctypes
import socket
from typing import Final

from bridges.aoe.ring import MAX_BATCH, Slots, slot_bytes

_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class _IoVector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MessageHeader(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _MessageHeader), ("sent_bytes", ctypes.c_uint))


_VECTOR_BYTES: Final = ctypes.sizeof(_IoVector)
_VECTOR_WORDS: Final = _VECTOR_BYTES // ctypes.sizeof(ctypes.c_size_t)


class Outbox(Slots):
    """``MAX_BATCH`` slots of frames, whose lengths in bytes are in ``lengths``.

    The first ``used`` of them are to be sent.
    """

    def __init__(self, frame_bytes: int) -> None:
        size = slot_bytes(frame_bytes)
        buffer = bytearray(MAX_BATCH * size)
        super().__init__(memoryview(buffer), size, 0)
        self.used = 0
        self._unsent = range(0)
        # What the frames of the first slots are alike in, and how many of them.
        self._pattern: object = None
        self._patterned = 0
        # Kept, since their addresses are.
        self._buffer = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        self._vectors = (_IoVector * MAX_BATCH)()
        self._messages = (_Message * MAX_BATCH)()
        start = ctypes.addressof(self._buffer)
        for index in range(MAX_BATCH):
            self._vectors[index].base = start + index * size
            header = self._messages[index].header
            header.vectors = ctypes.addressof(self._vectors) + index * _VECTOR_BYTES
            header.vector_count = 1
        self._first_message = ctypes.addressof(self._messages)
        words = memoryview(self._vectors).cast("B").cast("L")
        self.lengths: memoryview = words[1::_VECTOR_WORDS]

    @property
    def free(self) -> int:
        """How many more slots can be filled."""
        return MAX_BATCH - self.used

    def begin_slot(self) -> int:
        """Take the next slot, which there must be, to fill it."""
        slot = self.used
        self.used = slot + 1
        self._patterned = min(self._patterned, slot)
        return slot

    def put(self, frame: memoryview | bytearray) -> None:
        """Fill the next slot."""
        slot = self.begin_slot()
        start = slot * self.size_bytes
        self.memory[start : start + len(frame)] = frame
        self.lengths[slot] = len(frame)

    def spoil(self) -> None:
        """Take note that data have been put into slots that are not used after all."""
        self._patterned = min(self._patterned, self.used)

    def has_pattern(self, pattern: object, count: int) -> bool:
        """Whether the next slots were last filled with frames that had the same pattern.

        If not, the caller fills them with such frames now.
        """
        first, end = self.used, self.used + count
        if pattern == self._pattern:
            if end <= self._patterned:
                return True
            if first <= self._patterned:
                self._patterned = end
                return False
        if first == 0:
            self._pattern = pattern
            self._patterned = end
        else:
            self._patterned = min(self._patterned, first)
        return False

    def send(self, descriptor: int) -> int:
        """Send what can be sent now; return zero, or the errno that kept the rest."""
        first = 0
        while first < self.used:
            address = self._first_message + first * ctypes.sizeof(_Message)
            sent = _sendmmsg(descriptor, address, self.used - first, socket.MSG_DONTWAIT)
            if sent < 0:
                self._unsent = range(first, self.used)
                self.used = 0
                return ctypes.get_errno()
            first += sent
        self.used = 0
        return 0

    def take_unsent(self) -> list[memoryview]:
        """Copies of the frames that ``send`` did not get rid of."""
        frames = []
        for slot in self._unsent:
            start = slot * self.size_bytes
            frame = self.memory[start : start + self.lengths[slot]]
            frames.append(memoryview(bytearray(frame)))
        self._unsent = range(0)
        return frames
