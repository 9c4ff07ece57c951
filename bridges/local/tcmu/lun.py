# SPDX-License-Identifier: GPL-2.0-or-later
"""One LUN behind a TCMU ring: the kernel's commands go to the nexus, and its responses back.

The data area is the commands' buffer, so nothing is copied. All entries of a wake-up are handled
before the kernel is told of the responses, once; commands that end later share a telling, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bridges.local.tcmu.ring import Ring
from bridges.local.tcmu.wire import TaskManagement
from scsi_backend.io.scatter import Buffer, ScatterList, contiguous, segments_of
from scsi_backend.servers.command import Command
from scsi_backend.t10.direction import has_data_out
from scsi_backend.t10.status import Status

Submit = Callable[[Command], None]
# The function, and the commands that it hit as far as they are under way.
OnTaskManagement = Callable[[int, Sequence[Command]], None]

# What one system call takes (IOV_MAX); the kernel scatters only where its data area is in pieces.
_MAX_SEGMENTS: Final = 1024
_CHECK_CONDITION: Final = Status.CHECK_CONDITION


class _Io(Command):
    """A command of the kernel's."""

    __slots__ = ("command_id",)

    command_id: int


class _BouncedIo(_Io):
    """A command whose data-in lies in more places than storage takes at once."""

    __slots__ = ("scattered",)

    scattered: ScatterList


class RingLun:
    """Owns the commands that came through one ring."""

    def __init__(
        self,
        ring: Ring,
        submit: Submit,
        on_task_management: OnTaskManagement,
        notify: Callable[[], None],
        schedule: Callable[[Callable[[], None]], object],
    ) -> None:
        """``notify`` has the kernel look at responses, ``schedule`` runs something soon."""
        self._ring = ring
        self._submit = submit
        self._on_task_management = on_task_management
        self._notify = notify
        self._schedule = schedule
        self._is_batching = False
        self._is_scheduled = False
        self._is_closed = False
        # Commands that did not end before submit returned.
        self._late: dict[int, _Io] = {}

    @property
    def outstanding(self) -> int:
        """How many commands are under way."""
        return len(self._late)

    def wake(self) -> None:
        """Handle everything that is in the ring; raises RingError."""
        self._is_batching = True
        try:
            self._ring.receive(self)
        finally:
            self._is_batching = False
            self._flush()

    def command(
        self, command_id: int, cdb: bytes, data: Buffer | None, bidi: Buffer | None
    ) -> None:
        """See ``ring.Taker``."""
        if data is None:
            io = _Io(cdb, None, None, self._ended)
        elif has_data_out(cdb):
            if isinstance(data, ScatterList) and len(data.segments) > _MAX_SEGMENTS:
                data = contiguous(data)
            io = _Io(cdb, bidi, data, self._ended)
        elif isinstance(data, ScatterList) and len(data.segments) > _MAX_SEGMENTS:
            io = _BouncedIo(cdb, memoryview(bytearray(len(data))), None, self._bounced)
            io.scattered = data
        else:
            io = _Io(cdb, data, None, self._ended)
        io.command_id = command_id
        self._submit(io)
        if io.status is None:
            self._late[command_id] = io

    def task_management(self, event: TaskManagement) -> None:
        """See ``ring.Taker``."""
        late = self._late
        hit = [late[number] for number in event.command_ids if number in late]
        self._on_task_management(event.function, hit)

    def _bounced(self, command: Command) -> None:
        """Put the data-in of a command where the kernel looks for it."""
        assert isinstance(command, _BouncedIo)
        assert command.data_in is not None
        length = command.data_in_length
        command.scattered[:length] = contiguous(command.data_in[:length])
        command.data_in = command.scattered
        self._ended(command)

    def _ended(self, command: Command) -> None:
        assert isinstance(command, _Io)
        assert command.status is not None
        read_bytes = 0
        data_in = command.data_in
        if data_in is not None and command.status != _CHECK_CONDITION:
            read_bytes = command.data_in_length
            if read_bytes == len(data_in):
                read_bytes = 0
            else:
                # The kernel hands all of it on where nothing was read, and it may hold what an
                # older command left.
                for segment in segments_of(data_in[read_bytes:]):
                    segment[:] = bytes(len(segment))
        sense = b"" if command.sense is None else command.encoded_sense()
        self._ring.complete(command.command_id, command.status, read_bytes, sense)
        if self._late:
            self._late.pop(command.command_id, None)
        if not self._is_batching and not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(self._flush_late)

    def _flush_late(self) -> None:
        self._is_scheduled = False
        self._flush()

    def _flush(self) -> None:
        if not self._is_closed and self._ring.publish():
            self._notify()

    def close(self) -> None:
        """Show the kernel the responses that there are; it hears of no later ones."""
        self._flush()
        self._is_closed = True
