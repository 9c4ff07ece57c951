# SPDX-License-Identifier: GPL-2.0-or-later
"""A client's side of a shared area: what lies where in it, and looking at the record.

The area is cut in three: a page with the record, a lane for the one command of a client that waits
for each, and the rest, for commands that are pipelined and for buffers that the caller keeps.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from bridges.local import shared_wire
from bridges.local.allocator import Allocator

# Smaller areas have no room for a lane and anything besides.
MIN_SHARED_BYTES: Final = 4 * mmap.PAGESIZE
# Zero would be no record.
RECORD_AT: Final = shared_wire.RECORD_BYTES
LANE_AT: Final = mmap.PAGESIZE
_DONE_AT: Final = RECORD_AT + shared_wire.RECORD_DONE_AT
_unpack_record = shared_wire.RECORD.unpack_from

# What is written before a record's last byte must be visible before it, without a system call in
# between. These processors keep the order of stores and that of loads.
_ORDERED_MACHINES = frozenset({"x86_64", "AMD64", "i686"})
# How long to look at the record before sleeping: to sleep and be woken takes some 20 us each.
_LOOK_S = 60e-6
_LOOKS_PER_ROUND = 16
# After looking in vain, so many commands are slept for: the device is slower than that.
_SLEEPS = 8


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the data of a pipelined command lies, and which parts are to be given back.

    ``source`` is where data-in is to be copied from; None where it lies in the caller's buffer.
    """

    data_in_offset: int
    data_out_offset: int
    source: memoryview | None
    parts: tuple[tuple[int, int], ...]


class SharedMemory:
    """Owns the mapping of one connection's area."""

    def __init__(self, memory: mmap.mmap, machine: str = platform.machine()) -> None:
        # What ``memoryview.obj`` of its buffers is.
        self.memory = memory
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.view = memoryview(memory)
        self.length_bytes = len(self.view)
        self.lane_bytes = (self.length_bytes // 2 - LANE_AT) // mmap.PAGESIZE * mmap.PAGESIZE
        self._allocator = Allocator(LANE_AT + self.lane_bytes, self.length_bytes)
        self._has_ordered_stores = machine in _ORDERED_MACHINES
        self._sleeps_left = 0

    def buffer(self, length_bytes: int) -> memoryview | None:
        """Return memory of the area that belongs to the caller from now on, None for no room."""
        offset = self._allocator.take(length_bytes)
        return None if offset is None else self.view[offset : offset + length_bytes]

    def has(self, buffer: memoryview | None) -> bool:
        """Whether a buffer is part of the area."""
        return buffer is not None and buffer.obj is self.memory

    def place(self, data_in: memoryview | None, data_out: memoryview | None) -> Placed | None:
        """Find room for a command's data and copy data-out there; None for no room."""
        parts: list[tuple[int, int]] = []
        in_at = self._find(data_in, parts)
        has_source = bool(parts)
        out_at = self._find(data_out, parts)
        if in_at is None or out_at is None:
            self.give_back(parts)
            return None
        if data_out is not None and len(parts) > has_source:
            self.view[out_at : out_at + len(data_out)] = data_out
        source = None
        if data_in is not None and has_source:
            source = self.view[in_at : in_at + len(data_in)]
        return Placed(in_at, out_at, source, tuple(parts))

    def _find(self, buffer: memoryview | None, parts: list[tuple[int, int]]) -> int | None:
        """The offset of a buffer in the area, or that of room for it, which is added to parts."""
        if not buffer:
            return 0
        if self.has(buffer) and not buffer.readonly:
            return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) - self._address
        offset = self._allocator.take(len(buffer))
        if offset is not None:
            parts.append((offset, len(buffer)))
        return offset

    def give_back(self, parts: Iterable[tuple[int, int]]) -> None:
        """Take back what ``place`` took, now that its command has ended."""
        for offset, length in parts:
            self._allocator.give(offset, length)

    def choose_record(self) -> int:
        """Clear the record and return its offset, or 0 where this command is to be slept for."""
        if not self._has_ordered_stores:
            return 0
        if self._sleeps_left:
            self._sleeps_left -= 1
            return 0
        self.view[_DONE_AT] = 0
        return RECORD_AT

    def look(self) -> bool:
        """Look at the record for a while; tell whether the command has ended."""
        view = self.view
        deadline_s = perf_counter() + _LOOK_S
        while True:
            for _ in range(_LOOKS_PER_ROUND):
                if view[_DONE_AT]:
                    return True
            if perf_counter() > deadline_s:
                self._sleeps_left = _SLEEPS
                return False
            # The server may be waiting for this very processor.
            os.sched_yield()

    def take_record(self) -> tuple[int, int] | None:
        """The data-in length and the status of the command in the lane, if the record has both.

        None before the command has ended, and where a response follows.
        """
        if not self.view[_DONE_AT]:
            return None
        length, status, has_response = _unpack_record(self.view, RECORD_AT)
        return None if has_response else (length, status)
