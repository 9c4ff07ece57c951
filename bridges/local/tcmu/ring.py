# SPDX-License-Identifier: GPL-2.0-or-later
"""TCMU's command ring without its device: entries are taken from it, responses put into it.

Entries are taken in order, and commands may end in any order: a response goes into the *oldest*
entry that has been taken and not given back, whichever command that entry brought, for the kernel
finds the command by the id in the response. So everything is read from an entry before a response
may lie over it; the data area of a command is its own until its response.

After a restart of the handler an entry may therefore name a command that has ended: what is in the
ring must be reset by the kernel (configfs, action/reset_ring), never taken once more.

The kernel keeps the data area of a command that it no longer waits for until the response, however
late. A reset gives it to other commands at once: if somebody has the ring reset while it is served,
nothing more can be taken or given back, for storage may still write to what is others' now.

Source: Linux, drivers/target/target_core_user.c, tcmu_handle_completions(). The words of the
mailbox are read and written without barriers, as is right on x86.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from bridges.local.tcmu import wire
from bridges.local.tcmu.wire import Mailbox, Opcode, RingError, TaskManagement, UserFlag
from scsi_backend.io.scatter import Buffer, ScatterList

_CMD: Final = int(Opcode.CMD)
_READ_LEN: Final = int(UserFlag.READ_LEN)
_MASK: Final = wire.OPCODE_MASK
_HEAD: Final = wire.HEAD_WORD
_TAIL: Final = wire.TAIL_WORD
_IOV_AT: Final = wire.IOV_AT
_MIN_COMMAND_BYTES: Final = wire.MIN_COMMAND_BYTES
_SENSE_AT: Final = wire.SENSE_AT
_SENSE_BYTES: Final = wire.SENSE_BYTES
_unpack_command = wire.COMMAND.unpack_from
_pack_response = wire.RESPONSE.pack_into

# The longest CDB of the ones without a length in them; shorter ones reach the nexus filled up, so
# that no field has to be guarded.
_MIN_CDB_BYTES: Final = 16


class Taker(Protocol):
    """Who gets what comes out of the ring."""

    def command(
        self, command_id: int, cdb: bytes, data: Buffer | None, bidi: Buffer | None
    ) -> None:
        """A command; ``data`` is its data area, ``bidi`` where its data-in goes if it has both."""

    def task_management(self, event: TaskManagement) -> None:
        """A task management function."""


class Ring:
    """Owns the handler's places in the ring: how far it has taken, and given back."""

    def __init__(self, memory: memoryview) -> None:
        """``memory`` is the whole mapping; raises RingError."""
        mailbox = Mailbox.parse(memory)
        self._memory = memory
        # Words are read and written whole this way.
        self._words = memory.cast("I")
        self._base = mailbox.ring_offset_bytes
        self._size = mailbox.ring_bytes
        self._data_at = self._base + self._size
        # Where the next entry is taken, where the next response goes, and what the kernel knows of.
        self._taken = self._tail = self._shown = self._words[_TAIL]
        if self._tail >= self._size or self._tail % wire.ALIGNMENT:
            raise RingError(f"tail {self._tail} in a ring of {self._size} bytes")
        # The lengths of the entries from the tail on; negative for those that get no response.
        self._slots: deque[int] = deque()

    def close(self) -> None:
        """Let the memory go; nothing is to be called after."""
        self._words.release()
        self._memory.release()

    @property
    def has_entries(self) -> bool:
        """Whether there is something to take."""
        return self._words[_HEAD] != self._taken

    @property
    def open_slots(self) -> int:
        """How many entries have been taken and not given back."""
        return len(self._slots)

    def receive(self, taker: Taker) -> None:
        """Hand everything that is in the ring to ``taker``.

        Raises RingError for what leaves no way to find the next entry.
        """
        words, size, base = self._words, self._size, self._base
        head = words[_HEAD]
        if head >= size or head % wire.ALIGNMENT:
            raise RingError(f"head {head} in a ring of {size} bytes")
        if self._is_reset:
            raise RingError("the kernel's end of the ring was reset")
        while (at := self._taken) != head:
            offset = base + at
            len_op = words[offset >> 2]
            length = len_op & ~_MASK
            if not 0 < length <= size - at:
                raise RingError(f"entry of {length} bytes at {at} in a ring of {size}")
            # Before the command is handed on: it may fail, but is never handed on twice.
            at += length
            self._taken = at if at < size else 0
            if len_op & _MASK == _CMD and length >= _MIN_COMMAND_BYTES:
                self._slots.append(length)
                self._take_command(taker, offset, length)
            else:
                self._slots.append(-length)
                self._take_other(taker, offset, length, len_op & _MASK)

    @property
    def _is_reset(self) -> bool:
        """Whether the kernel has changed the handler's word, or gone behind what was taken."""
        words, size, shown = self._words, self._size, self._shown
        return words[_TAIL] != shown or (
            (words[_HEAD] - shown) % size < (self._taken - shown) % size
        )

    def _take_command(self, taker: Taker, offset: int, length: int) -> None:
        memory = self._memory
        _, command_id, count, bidi_count, cdb_at, start, extent = _unpack_command(memory, offset)
        end = offset + length
        if not offset + _IOV_AT + (count + bidi_count) * 16 <= cdb_at < end:
            self._refuse(command_id)
            return
        cdb = bytes(memory[cdb_at:end])
        if len(cdb) < _MIN_CDB_BYTES:
            cdb = cdb.ljust(_MIN_CDB_BYTES, b"\0")
        if count == 1 and not bidi_count:
            if start < self._data_at or start + extent > len(memory):
                self._refuse(command_id)
                return
            taker.command(command_id, cdb, memory[start : start + extent], None)
            return
        try:
            data = self._gather(offset + _IOV_AT, count)
            bidi = self._gather(offset + _IOV_AT + count * 16, bidi_count)
        except RingError:
            self._refuse(command_id)
            return
        taker.command(command_id, cdb, data, bidi)

    def _gather(self, at: int, count: int) -> Buffer | None:
        """The places that ``count`` iovs at an offset name; raises RingError."""
        if count == 0:
            return None
        memory = self._memory
        places = []
        length = 0
        for start, extent in wire.IOV.iter_unpack(memory[at : at + count * 16]):
            if start < self._data_at or start + extent > len(memory):
                raise RingError(f"{extent} bytes at {start}: not in the data area")
            places.append(memory[start : start + extent])
            length += extent
        return places[0] if count == 1 else ScatterList(places, length)

    def _take_other(self, taker: Taker, offset: int, length: int, opcode: int) -> None:
        if opcode == Opcode.PAD:
            return
        if opcode == Opcode.TMR and length >= wire.TMR_IDS_AT:
            function, count = wire.TMR.unpack_from(self._memory, offset)
            first = offset + wire.TMR_IDS_AT
            ids = self._memory[first : offset + length][: count * 2].cast("H").tolist()
            taker.task_management(TaskManagement(function, tuple(ids)))
            return
        self._memory[offset + wire.USER_FLAGS_AT] |= UserFlag.UNKNOWN_OP

    def _refuse(self, command_id: int) -> None:
        """End a command whose entry makes no sense."""
        self._respond(command_id, UserFlag.UNKNOWN_OP, 0, 0, b"")

    def complete(self, command_id: int, status: int, read_bytes: int, sense: bytes) -> None:
        """Put the response of a command into the ring, for ``publish`` to show it.

        ``read_bytes`` is 0 where the data-in fills its area, or there is none of it. The sense
        data are cut to what the ring has room for.
        """
        self._respond(command_id, _READ_LEN if read_bytes else 0, status, read_bytes, sense)

    def _respond(
        self, command_id: int, flags: int, status: int, read_bytes: int, sense: bytes
    ) -> None:
        self._skip()
        at = self._base + self._tail
        length = self._slots.popleft()
        _pack_response(self._memory, at + 4, command_id, 0, flags, status, read_bytes)
        if sense:
            room = self._memory[at + _SENSE_AT : at + _SENSE_AT + _SENSE_BYTES]
            room[:] = sense[:_SENSE_BYTES].ljust(_SENSE_BYTES, b"\0")
        self._tail = (self._tail + length) % self._size

    def _skip(self) -> None:
        """Give back the oldest entries as far as they get no response."""
        slots = self._slots
        while slots and slots[0] < 0:
            self._tail = (self._tail - slots.popleft()) % self._size

    def publish(self) -> bool:
        """Show the kernel what has been given back; tell whether there was anything.

        The kernel looks when the device is written to. It is shown nothing in a ring that was
        reset, where the same ids are other commands'.
        """
        self._skip()
        if self._tail == self._shown or self._is_reset:
            return False
        self._words[_TAIL] = self._shown = self._tail
        return True
