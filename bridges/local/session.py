# SPDX-License-Identifier: GPL-2.0-or-later
"""One initiator's connection to the local bridge, after the hello and without its socket.

The client is a SCSI initiator: its CDBs go to the nexus as they are, and status and sense data
come back as they are; no retry and no translation happens here. Data-in is read straight into the
memory that is sent, behind the response's header; data-out is used where it was received, or,
where it is long, received into memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn, Protocol

from bridges.buffers import Chunk, Outgoing
from bridges.local import wire
from bridges.local.wire import FrameError, FrameType, ResponseFrame
from bridges.stream_session import PeerError
from scsi_backend.io.sgv import SgvCache
from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import MAX_TRANSFER_BYTES
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.sense import MAX_ENCODED_LENGTH
from scsi_backend.target.task_management import ManagementResponse

_HEADER_BYTES = wire.COMMAND.size
_HEADER_REST_BYTES = wire.COMMAND.size - wire.LENGTH_BYTES
_RESPONSE_BYTES = wire.RESPONSE.size
_unpack_command = wire.COMMAND.unpack_from
_pack_response = wire.RESPONSE.pack_into

# Every width of CDB reaches the nexus with at least this many bytes, as iSCSI's do, so that no
# field of a CDB that came short has to be guarded.
MIN_CDB_BYTES = 16
# Data-out up to this is used where it was received; longer ones get memory of their own, so that
# they need not be copied when the chunk is full.
_IN_PLACE_BYTES = 64 << 10
# By their numbers on the wire, so that a command need not make one.
ATTRIBUTES: Final = tuple(TaskAttribute)
# Begins a command whose data-out has come.
_Start = Callable[[memoryview, Chunk], None]
# A number that no LUN map has.
_NO_LUN: Final = -1


def decoded_lun(raw_lun: int) -> int:
    """The number in a LUN field, or one that no LUN map has."""
    lun = wire.decode_lun(raw_lun)
    return _NO_LUN if lun is None else lun


class ItNexus(Protocol):
    """The session with a target (``scsi_backend.target.session``), as far as it is used here."""

    def submit(self, lun: int, command: Command, attribute: TaskAttribute = ...) -> None:
        """Send a command to a LUN, which need not exist."""

    def manage(
        self,
        function: int,
        lun: int,
        is_task: Callable[[Command], bool],
        finished: Callable[[ManagementResponse], None],
    ) -> None:
        """Perform a task management function; ABORT TASK is about the command that ``is_task``."""

    def close(self) -> None:
        """End the session."""


class Connection(Protocol):
    """The stream, as the session sees it."""

    out: Outgoing
    held_bytes: int

    @property
    def incoming(self) -> Chunk:
        """The chunk in which the received bytes lie."""

    @property
    def is_full(self) -> bool:
        """Whether no more commands are to be handled for now."""

    def commit(self, chunk: Chunk, start: int, end: int) -> None:
        """Queue a response reserved in ``out``."""

    def put(self, data: bytes) -> None:
        """Queue a short frame."""

    def put_with_descriptor(self, data: bytes, descriptor: int) -> bool:
        """Send a short frame and a descriptor if nothing is queued before; tell whether it went."""

    def schedule_flush(self) -> None:
        """Have a look whether anything is to be done, when a command ended without a response."""


class TaggedCommand(Command):
    """A command on its way, with the memory of its data-out if that is not the client's."""

    __slots__ = ("held_bytes", "payload", "tag")

    tag: int
    payload: Chunk | None
    held_bytes: int


class _Io(TaggedCommand):
    """A command with the memory of its response.

    ``chunk``, ``start`` and ``end`` are what was reserved for a response with data-in; one without
    gets its few bytes when the command ends.
    """

    __slots__ = ("chunk", "end", "start")

    chunk: Chunk | None
    start: int
    end: int


class CommandSession:
    """Owns the commands of one initiator's connection."""

    def __init__(
        self,
        connection: Connection,
        nexus: ItNexus,
        sgv: SgvCache,
        on_closed: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._out = connection.out
        self._nexus = nexus
        self._sgv = sgv
        self._on_closed = on_closed
        self.receive_limit_bytes = 0
        self.direct: memoryview | None = None
        # What begins the command whose data-out is being received, its memory and its length.
        self._incoming: tuple[_Start, Chunk, int] | None = None
        self._farewell = b""
        self.open_requests = 0
        self.wants_close = False

    def closed(self) -> None:
        """See ``stream.Session``."""
        if self._incoming is not None:
            self._incoming[1].release()
        self._nexus.close()
        self._on_closed()

    def receive(self, data: memoryview) -> int:
        """Handle the whole commands in ``data``; return how many bytes they took."""
        position = 0
        end = len(data)
        connection = self._connection
        while end - position >= _HEADER_BYTES and not connection.is_full:
            fields = _unpack_command(data, position)
            length, kind, attribute, cdb_length, tag, raw_lun, room, payload = fields
            if kind != 1 and (used := self._receive_other(kind, data[position:])) is not None:
                if used == 0:
                    break
                self.receive_limit_bytes = 0
                position += used
                continue
            first = position + _HEADER_BYTES + cdb_length
            if (
                kind != 1
                or not 0 < cdb_length <= wire.MAX_CDB_BYTES
                or room > MAX_TRANSFER_BYTES
                or payload > MAX_TRANSFER_BYTES
                or attribute > wire.MAX_ATTRIBUTE
                or length != _HEADER_REST_BYTES + cdb_length + payload
            ):
                self._fail(data[position:])
            last = first + payload
            if last > end and (first > end or payload <= _IN_PLACE_BYTES):
                break
            lun = decoded_lun(raw_lun)
            cdb = bytes(data[position + _HEADER_BYTES : first]).ljust(MIN_CDB_BYTES, b"\0")
            if last > end:
                start = partial(self._start, tag, lun, cdb, room, ATTRIBUTES[attribute])
                self._receive_directly(start, payload, data[first:])
                return end
            self.receive_limit_bytes = 0
            data_out = data[first:last] if payload else None
            self._start(tag, lun, cdb, room, ATTRIBUTES[attribute], data_out, connection.incoming)
            position = last
        return position

    def _receive_other(self, kind: int, data: memoryview) -> int | None:
        """Handle a frame that is no command; return how many bytes it took, 0 to wait for more.

        None is for a type that does not exist.
        """
        if kind != FrameType.MANAGEMENT:
            return None
        try:
            self._manage(*wire.parse_management(data))
        except FrameError as error:
            self._refuse(error)
        return wire.MANAGEMENT.size

    def _manage(self, function: int, tag: int, raw_lun: int, task: int) -> None:
        self.open_requests += 1

        def finished(response: ManagementResponse) -> None:
            self.open_requests -= 1
            frame = ResponseFrame(tag, response, kind=FrameType.MANAGEMENT_RESPONSE)
            self._connection.put(frame.serialize())
            self._say_farewell()

        def is_task(command: Command) -> bool:
            return isinstance(command, TaggedCommand) and command.tag == task

        self._nexus.manage(function, decoded_lun(raw_lun), is_task, finished)

    def _fail(self, header: memoryview) -> None:
        """Refuse a header that is not in order."""
        try:
            wire.check_command(header, MAX_TRANSFER_BYTES)
        except FrameError as error:
            self._refuse(error)
        raise AssertionError("the fast check and the one that explains it disagree")

    def _refuse(self, error: FrameError) -> NoReturn:
        """End the connection; the error frame follows what is under way."""
        self._farewell = wire.error_frame(str(error))
        if self.open_requests == 0:
            self._connection.put(self._farewell)
        raise PeerError(str(error)) from error

    def _start(
        self,
        tag: int,
        lun: int,
        cdb: bytes,
        room_bytes: int,
        attribute: TaskAttribute,
        data_out: memoryview | None,
        payload: Chunk,
    ) -> None:
        """Submit a command; ``payload`` is where its data-out lies."""
        io = _Io(cdb, None, data_out, self._ended)
        io.tag, io.chunk, io.payload, io.held_bytes = tag, None, None, 0
        if room_bytes:
            out = self._out
            io.start = out.reserve(_RESPONSE_BYTES + room_bytes + MAX_ENCODED_LENGTH)
            io.chunk = out.chunk
            first = io.start + _RESPONSE_BYTES
            io.data_in = io.chunk.view[first : first + room_bytes]
            io.end = first + room_bytes + MAX_ENCODED_LENGTH
        self.open_requests += 1
        self._nexus.submit(lun, io, attribute)
        if io.status is None:
            self._hold(io, payload)

    def _hold(self, io: TaggedCommand, payload: Chunk) -> None:
        """Keep the data-out of a command that is under way, and count it."""
        if io.data_out is not None:
            io.held_bytes = len(io.data_out)
            payload.hold()
            io.payload = payload
            self._connection.held_bytes += io.held_bytes

    def _receive_directly(self, start: _Start, length: int, received: memoryview) -> None:
        """Give long data-out memory of its own and receive the rest of it there."""
        chunk = Chunk(self._sgv, length)
        chunk.view[: len(received)] = received
        self._incoming = (start, chunk, length)
        self._connection.held_bytes += length
        self.direct = chunk.view[len(received) : length]

    def direct_received(self) -> None:
        """See ``stream.Session``."""
        assert self._incoming is not None
        start, chunk, length = self._incoming
        self._incoming = None
        self.direct = None
        # The next command likely has as much data-out: see its header before that.
        self.receive_limit_bytes = _HEADER_BYTES + MIN_CDB_BYTES
        self._connection.held_bytes -= length
        start(chunk.view[:length], chunk)
        chunk.release()

    def _ended(self, command: Command) -> None:
        """Respond to a command."""
        assert isinstance(command, _Io)
        assert command.status is not None
        io, out = command, self._out
        data_length = io.data_in_length
        sense = io.encoded_sense()
        length = _RESPONSE_BYTES + data_length + len(sense)
        if io.chunk is None:
            start = out.reserve(length)
            chunk, end = out.chunk, start + length
        else:
            start, chunk = io.start, io.chunk
            end = start + length
            # Less comes than there was room for, if only by the sense data.
            out.shorten(chunk, io.end, end)
        rest = length - wire.LENGTH_BYTES
        _pack_response(chunk.view, start, rest, 2, io.status, len(sense), io.tag, data_length)
        if sense:
            chunk.view[end - len(sense) : end] = sense
        self.open_requests -= 1
        if io.held_bytes:
            self._let_go(io)
        self._connection.commit(chunk, start, end)
        self._say_farewell()

    def _say_farewell(self) -> None:
        """Send what was wrong once nothing is under way."""
        if self._farewell and self.open_requests == 0:
            self._connection.put(self._farewell)

    def _let_go(self, io: TaggedCommand) -> None:
        self._connection.held_bytes -= io.held_bytes
        if io.payload is not None:
            io.payload.release()
