# SPDX-License-Identifier: GPL-2.0-or-later
"""An initiator's connection in version 2: commands whose data lies in memory shared with it.

The device server reads the medium straight into the client's memory and writes from it, and a
command that has ended is told of there. The client may change that memory at any time. Nothing is
read from it twice: CDBs come by the stream, WRITE's data is only handed on to the kernel, and the
data-out of every other command, which the device server looks into, is copied first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

from bridges.buffers import Chunk
from bridges.local import shared_wire, wire
from bridges.local.area import create_area
from bridges.local.session import (
    ATTRIBUTES,
    MIN_CDB_BYTES,
    CommandSession,
    Connection,
    ItNexus,
    TaggedCommand,
    decoded_lun,
)
from bridges.local.shared_wire import AreaReply
from bridges.local.wire import MAX_ATTRIBUTE, FrameError, FrameType, ResponseFrame
from scsi_backend.io.scatter import contiguous
from scsi_backend.io.sgv import SgvCache
from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import MAX_TRANSFER_BYTES
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.opcodes import Opcode

_log = logging.getLogger(__name__)

_HEADER_BYTES = shared_wire.SHARED_COMMAND.size
_HEADER_REST_BYTES = _HEADER_BYTES - wire.LENGTH_BYTES
_RECORD_BYTES: Final = shared_wire.RECORD_BYTES
_DONE_AT: Final = shared_wire.RECORD_DONE_AT
_SHARED_COMMAND: Final = int(FrameType.SHARED_COMMAND)
_unpack_command = shared_wire.SHARED_COMMAND.unpack_from
_pack_record = shared_wire.RECORD.pack_into

# The device server only hands this data-out on.
_WRITES = frozenset({Opcode.WRITE_6, Opcode.WRITE_10, Opcode.WRITE_12, Opcode.WRITE_16})


class _Io(TaggedCommand):
    """A command on its way; ``record`` is where its end is told of, 0 for on the stream.

    One that had not ended when ``submit`` returned ``is_late``.
    """

    __slots__ = ("is_late", "record")

    is_late: bool
    record: int


class SharedSession(CommandSession):
    """Owns the commands of one initiator's connection, and the memory that it shares."""

    def __init__(
        self,
        connection: Connection,
        nexus: ItNexus,
        sgv: SgvCache,
        on_closed: Callable[[], None],
    ) -> None:
        super().__init__(connection, nexus, sgv, on_closed)
        self._area: memoryview | None = None
        self._area_bytes = 0
        # Commands with a record that did not end at once.
        self._recorded: dict[int, _Io] = {}

    def closed(self) -> None:
        """See ``stream.Session``; no command is under way, so nothing uses the memory."""
        self._area = None
        super().closed()

    def _receive_other(self, kind: int, data: memoryview) -> int | None:
        if kind == _SHARED_COMMAND:
            return self._receive_command(data)
        if kind not in (FrameType.AREA_REQUEST, FrameType.NUDGE):
            return super()._receive_other(kind, data)
        try:
            number = shared_wire.parse_short(data)
            if kind == FrameType.NUDGE:
                self._nudged(number)
            else:
                self._make_area(number)
        except FrameError as error:
            self._refuse(error)
        return shared_wire.SHORT_BYTES

    def _make_area(self, length_bytes: int) -> None:
        if self._area is not None:
            raise FrameError("second area request: expected one")
        lowest, highest = shared_wire.MIN_AREA_BYTES, shared_wire.MAX_AREA_BYTES
        if not lowest <= length_bytes <= highest:
            text = f"area of {length_bytes} bytes: expected {lowest} to {highest}"
        elif self.open_requests:
            text = "commands are under way"
        else:
            text = self._send_area(length_bytes)
        if text:
            _log.info("a shared area is refused: %s", text)
            self._connection.put(AreaReply(0, text).serialize())

    def _send_area(self, length_bytes: int) -> str:
        """Make the area and send its descriptor; return what went wrong."""
        try:
            area, descriptor = create_area(length_bytes)
        except OSError as error:
            return f"no memory for {length_bytes} bytes: {error.strerror}"
        try:
            reply = AreaReply(length_bytes).serialize()
            if not self._connection.put_with_descriptor(reply, descriptor):
                return "the descriptor cannot be sent now"
        finally:
            os.close(descriptor)
        self._area, self._area_bytes = memoryview(area), length_bytes
        return ""

    def _receive_command(self, data: memoryview) -> int:
        if len(data) < _HEADER_BYTES:
            return 0
        fields = _unpack_command(data)
        length, _, attribute, cdb_length, tag, raw_lun, room, payload, *offsets = fields
        in_at, out_at, record = offsets
        end = _HEADER_BYTES + cdb_length
        size = self._area_bytes
        if (
            in_at + room > size
            or out_at + payload > size
            or (record and record + _RECORD_BYTES > size)
            or room > MAX_TRANSFER_BYTES
            or payload > MAX_TRANSFER_BYTES
            or attribute > MAX_ATTRIBUTE
            or not 0 < cdb_length <= wire.MAX_CDB_BYTES
            or length != _HEADER_REST_BYTES + cdb_length
            or not size
        ):
            self._fail_shared(data)
        if end > len(data):
            return 0
        area = self._area
        assert area is not None
        cdb = bytes(data[_HEADER_BYTES:end])
        if cdb_length < MIN_CDB_BYTES:
            cdb = cdb.ljust(MIN_CDB_BYTES, b"\0")
        io = _Io(
            cdb,
            area[in_at : in_at + room] if room else None,
            area[out_at : out_at + payload] if payload else None,
            self._shared_ended,
        )
        io.tag, io.record, io.is_late = tag, record, False
        io.payload, io.held_bytes = None, 0
        self.open_requests += 1
        if payload and cdb[0] not in _WRITES:
            self._submit_copied(raw_lun, io, ATTRIBUTES[attribute])
        else:
            self._nexus.submit(decoded_lun(raw_lun) if raw_lun else 0, io, ATTRIBUTES[attribute])
        if io.status is None:
            io.is_late = True
            if record:
                self._recorded[tag] = io
        return int(end)

    def _fail_shared(self, header: memoryview) -> None:
        """Refuse a header that is not in order."""
        try:
            if self._area is None:
                raise FrameError("shared command without an area")
            shared_wire.check_shared_command(header, self._area_bytes, MAX_TRANSFER_BYTES)
        except FrameError as error:
            self._refuse(error)
        raise AssertionError("the fast check and the one that explains it disagree")

    def _submit_copied(self, raw_lun: int, io: _Io, attribute: TaskAttribute) -> None:
        """Submit a command with a copy of its data-out, which then counts as held."""
        assert io.data_out is not None
        length = len(io.data_out)
        chunk = Chunk(self._sgv, length)
        chunk.view[:length] = contiguous(io.data_out)
        io.data_out = chunk.view[:length]
        self._nexus.submit(decoded_lun(raw_lun), io, attribute)
        if io.status is None:
            self._hold(io, chunk)
        chunk.release()

    def _nudged(self, tag: int) -> None:
        """The client looks at the record no longer."""
        io = self._recorded.pop(tag, None)
        if io is None:
            self._connection.put(ResponseFrame(tag, 0, kind=FrameType.NUDGE).serialize())
        else:
            io.record = 0

    def _shared_ended(self, command: Command) -> None:
        """Tell of the end of a command, in the area if the client looks there."""
        assert isinstance(command, _Io)
        assert command.status is not None
        io = command
        self.open_requests -= 1
        if io.held_bytes:
            self._let_go(io)
        record = io.record
        if record:
            if io.is_late and self._recorded.get(io.tag) is io:
                del self._recorded[io.tag]
            area = self._area
            assert area is not None, "the area is there while commands are under way"
            _pack_record(area, record, io.data_in_length, io.status, io.sense is not None)
            area[record + _DONE_AT] = 1
        if not record or io.sense is not None:
            self._respond(io, command.status)
        elif io.is_late:
            self._connection.schedule_flush()
        if self._farewell:
            self._say_farewell()

    def _respond(self, io: _Io, status: int) -> None:
        sense = io.encoded_sense()
        frame = ResponseFrame(
            io.tag, status, io.data_in_length, len(sense), FrameType.SHARED_RESPONSE
        )
        self._connection.put(frame.serialize() + sense)
