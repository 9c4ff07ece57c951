# SPDX-License-Identifier: GPL-2.0-or-later
"""Doubles for both sides of a command session, so that it runs without a socket and a loop.

``Wire`` stands for the stream: it has the receive chunk and the queue of responses. ``Recorder``
stands for the nexus and keeps commands until the test completes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from bridges.buffers import CHUNK_BYTES, Chunk, Outgoing
from bridges.local import wire
from bridges.local.session import CommandSession, ItNexus
from bridges.local.wire import CommandFrame, FrameType, ResponseFrame
from scsi_backend.io.scatter import contiguous
from scsi_backend.servers.command import Command
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import ManagementResponse
from tests.bridges.sgv import CountingSgv
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import connect


class Recorder:
    """A nexus that keeps commands until they are completed, or completes them at once."""

    def __init__(self, complete: Callable[[Command], None] | None = None) -> None:
        self.complete = complete
        self.commands: list[tuple[int, Command]] = []
        self.attributes: list[TaskAttribute] = []
        self.is_closed = False

    def submit(
        self, lun: int, command: Command, attribute: TaskAttribute = TaskAttribute.SIMPLE
    ) -> None:
        command.nexus = connect(FaultyVdisk(8)).session.nexuses[0]
        self.commands.append((lun, command))
        self.attributes.append(attribute)
        if self.complete is not None:
            self.complete(command)

    def manage(
        self,
        function: int,
        lun: int,
        is_task: Callable[[Command], bool],
        finished: Callable[[ManagementResponse], None],
    ) -> None:
        finished(ManagementResponse.FUNCTION_NOT_SUPPORTED)

    def close(self) -> None:
        self.is_closed = True

    def command(self, index: int = -1) -> Command:
        return self.commands[index][1]

    def cdb(self, index: int = -1) -> bytes:
        return self.commands[index][1].cdb


class Wire:
    """A connection without a socket; ``is_full`` is as the stream has it."""

    def __init__(
        self,
        nexus: ItNexus,
        limit_bytes: int = 1 << 40,
        make: type[CommandSession] = CommandSession,
    ) -> None:
        self.sgv = CountingSgv()
        self.out = Outgoing(self.sgv)
        self.incoming = Chunk(self.sgv, CHUNK_BYTES)
        self.held_bytes = 0
        self.limit_bytes = limit_bytes
        self.closed_calls = 0
        self.flushes = 0
        # Whether a descriptor can be sent now, and what came of it.
        self.takes_descriptors = True
        self.descriptors: list[int] = []
        self.session = make(self, nexus, self.sgv, self._closed)

    def _closed(self) -> None:
        self.closed_calls += 1

    @property
    def is_full(self) -> bool:
        pending = self.out.used_bytes + self.held_bytes + (self.session.open_requests << 10)
        return pending >= self.limit_bytes

    def commit(self, chunk: Chunk, start: int, end: int) -> None:
        self.out.commit(chunk, start, end)

    def put(self, data: bytes) -> None:
        start = self.out.reserve(len(data))
        self.out.chunk.view[start : start + len(data)] = data
        self.commit(self.out.chunk, start, start + len(data))

    def put_with_descriptor(self, data: bytes, descriptor: int) -> bool:
        if self.out.queued_bytes or not self.takes_descriptors:
            return False
        self.descriptors.append(os.dup(descriptor))
        self.put(data)
        return True

    def schedule_flush(self) -> None:
        self.flushes += 1

    def give(self, data: bytes) -> int:
        """Offer bytes to the session, as the stream would from its chunk; return what it used."""
        self.incoming.view[: len(data)] = data
        return self.session.receive(self.incoming.view[: len(data)])

    def give_direct(self, data: bytes) -> None:
        """Fill the session's own memory."""
        position = 0
        while self.session.direct is not None:
            direct = self.session.direct
            count = min(len(direct), 100_000)
            direct[:count] = data[position : position + count]
            position += count
            if count == len(direct):
                self.session.direct_received()
            else:
                self.session.direct = direct[count:]
        assert position == len(data)

    def take(self) -> bytes:
        """What was sent since the last call."""
        data = b"".join(bytes(view) for view in self.out.views(1 << 20))
        self.out.sent(len(data))
        return data

    def responses(self) -> list[tuple[ResponseFrame, bytes, bytes]]:
        """The frames sent since the last call: header, data-in, sense data."""
        data = self.take()
        found = []
        while data:
            frame = ResponseFrame.parse(data[: wire.RESPONSE.size])
            is_shared = frame.kind == FrameType.SHARED_RESPONSE
            data_end = wire.RESPONSE.size + (0 if is_shared else frame.data_in_length)
            end = data_end + frame.sense_length
            found.append((frame, data[wire.RESPONSE.size : data_end], data[data_end:end]))
            data = data[end:]
        return found

    def assert_let_go(self) -> None:
        """No command is under way, and closing gives every buffer back."""
        assert (self.session.open_requests, self.held_bytes) == (0, 0)
        self.session.closed()
        self.out.close()
        self.incoming.release()
        assert not self.sgv.in_use
        assert self.closed_calls == 1


def disk_wire(vdisk: FaultyVdisk) -> Wire:
    """A connection to a session whose LUN 0 is this disk and has no unit attention."""
    return Wire(connect(vdisk).session)


def frame(cdb: bytes, tag: int = 1, lun: int = 0, room: int = 0, payload: bytes = b"") -> bytes:
    return CommandFrame(tag, lun, cdb, room, len(payload)).serialize() + payload


def good(tag: int, data: bytes = b"") -> tuple[ResponseFrame, bytes, bytes]:
    return ResponseFrame(tag, Status.GOOD, len(data)), data, b""


def data_out(command: Command) -> bytes:
    assert command.data_out is not None
    return bytes(contiguous(command.data_out))


def complete_good(command: Command) -> None:
    command.complete()
