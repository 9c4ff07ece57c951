# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's side of a TCMU ring, written from the header alone.

As tcmu_queue_cmd_ring() and tcmu_handle_completions() do: an entry that does not fit before the end
of the ring follows a PAD, and a response ends the command that it names, wherever it lies.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

RING_AT = 128
PAD, CMD, TMR = 0, 1, 2
CHECK_CONDITION = 2


@dataclass(frozen=True, slots=True)
class Response:
    """What the kernel reads of a response; sense data only with CHECK CONDITION."""

    command_id: int
    flags: int
    status: int
    read_bytes: int
    sense: bytes


class KernelSide:
    """Owns ``cmd_head`` and what has been cleaned up, over any memory."""

    def __init__(self, memory: memoryview, ring_bytes: int) -> None:
        self.memory = memory
        self.ring_bytes = ring_bytes
        self.data_at = RING_AT + ring_bytes
        self.head = 0
        self.cleaned = 0
        self.pending: set[int] = set()
        struct.pack_into("<HHIII", memory, 0, 2, 0xF, RING_AT, ring_bytes, 0)

    def data(self, offset: int, length: int) -> memoryview:
        """A part of the data area."""
        return self.memory[self.data_at + offset : self.data_at + offset + length]

    def command(
        self,
        command_id: int,
        cdb: bytes,
        iovs: Sequence[tuple[int, int]] = (),
        bidi: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Queue a command; an iov is offset in the data area, and length."""
        count = len(iovs) + len(bidi)
        base = max(48 + 16 * count, 112)
        entry = bytearray(base + -(-len(cdb) // 8) * 8)
        struct.pack_into("<IHBB", entry, 0, len(entry) | CMD, command_id, 0, 0)
        struct.pack_into("<III4x", entry, 8, len(iovs), len(bidi), 0)
        for index, (offset, length) in enumerate((*iovs, *bidi)):
            struct.pack_into("<QQ", entry, 48 + 16 * index, self.data_at + offset, length)
        entry[base : base + len(cdb)] = cdb
        at = self.make_room(len(entry))
        struct.pack_into("<Q", entry, 24, at + base)
        self.pending.add(command_id)
        self.put(bytes(entry))

    def task_management(self, function: int, ids: Sequence[int] = ()) -> None:
        """Queue a task management entry."""
        length = -(-(32 + 2 * len(ids)) // 8) * 8
        entry = bytearray(length)
        struct.pack_into("<I", entry, 0, length | TMR)
        struct.pack_into("<BxxxI", entry, 8, function, len(ids))
        struct.pack_into(f"<{len(ids)}H", entry, 32, *ids)
        self.make_room(length)
        self.put(bytes(entry))

    def make_room(self, length: int) -> int:
        """Insert a PAD if need be; return where the next entry will be in the mapping."""
        left = self.ring_bytes - self.head
        if left < length:
            self.put(struct.pack("<IHBB", left | PAD, 0, 0, 0), left)
        return RING_AT + self.head

    def put(self, entry: bytes, length: int | None = None) -> None:
        """Write an entry at the head and move that; a full ring would look like an empty one."""
        used = (self.head - self.cleaned) % self.ring_bytes
        assert (len(entry) if length is None else length) < self.ring_bytes - used
        at = RING_AT + self.head
        self.memory[at : at + len(entry)] = entry
        self.head = (self.head + (len(entry) if length is None else length)) % self.ring_bytes
        struct.pack_into("<I", self.memory, 12, self.head)

    def reset(self) -> None:
        """Forget what is in the ring, as by action/reset_ring."""
        self.head = self.cleaned = 0
        self.pending.clear()
        struct.pack_into("<I", self.memory, 12, 0)
        struct.pack_into("<I", self.memory, 64, 0)

    @property
    def tail(self) -> int:
        """The handler's word."""
        (value,) = struct.unpack_from("<I", self.memory, 64)
        return int(value)

    def responses(self) -> list[Response]:
        """Clean up to the tail; a response to a command that does not exist breaks the ring."""
        found = []
        while self.cleaned != self.tail:
            at = RING_AT + self.cleaned
            len_op, command_id, _, flags = struct.unpack_from("<IHBB", self.memory, at)
            if len_op & 7 == CMD:
                status, read_bytes, sense = struct.unpack_from("<BxxxI96s", self.memory, at + 8)
                self.pending.remove(command_id)
                shown = sense if status == CHECK_CONDITION else b""
                found.append(Response(command_id, flags, status, read_bytes, shown))
            self.cleaned = (self.cleaned + (len_op & ~7)) % self.ring_bytes
        return found


def kernel_side(ring_bytes: int = 4096, data_bytes: int = 65536) -> KernelSide:
    """A ring in memory of its own, whose data area holds what must not be seen."""
    memory = memoryview(bytearray(RING_AT + ring_bytes) + b"\xee" * data_bytes)
    return KernelSide(memory, ring_bytes)
