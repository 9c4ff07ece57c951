# SPDX-License-Identifier: GPL-2.0-or-later
"""A blocking initiator for the local bridge: the nbdkit plugin's and the command line's way in.

Data moves between the caller's buffers and the socket, or memory shared with the server. Commands
may be pipelined; their responses are taken as they come. A client belongs to one thread at a time.
What to do about a status other than GOOD, and connecting again, are the caller's business.
"""

from __future__ import annotations

import select
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NoReturn, Self

from bridges.exchange import Request
from bridges.local import shared_wire, wire
from bridges.local.login import LocalError, Login, log_in, reason
from bridges.local.shared_client import LANE_AT, MIN_SHARED_BYTES, SharedMemory
from bridges.local.shared_wire import SharedCommandFrame
from bridges.local.wire import (
    CommandFrame,
    FrameError,
    FrameType,
    ManagementFrame,
    ResponseFrame,
)
from bridges.recovery import Reply
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.sense import Sense
from scsi_backend.target.task_management import TaskManagementFunction

__all__ = ["LocalClient", "LocalError"]

_CONNECT_TIMEOUT_S = 10.0
# READ(16) and WRITE(16): what is executed in the lane, in a frame that is packed in one go.
_LANE_CDB_BYTES: Final = 16
_LANE_FRAME = struct.Struct(f"{shared_wire.SHARED_COMMAND.format}{_LANE_CDB_BYTES}s")
_LANE_FRAME_BYTES: Final = _LANE_FRAME.size
_LANE_REST_BYTES: Final = _LANE_FRAME_BYTES - wire.LENGTH_BYTES
_SHARED_COMMAND: Final = int(FrameType.SHARED_COMMAND)
_SIMPLE: Final = int(TaskAttribute.SIMPLE)
_pack_lane = _LANE_FRAME.pack


@dataclass(slots=True)
class _Pending:
    """A command that was sent and not answered.

    One with shared data has parts of the area, and ``source`` where its data-in is in the area, if
    it is to be copied from there.
    """

    data_in: memoryview | None
    is_shared: bool = False
    source: memoryview | None = None
    parts: tuple[tuple[int, int], ...] = ()

    @property
    def room_bytes(self) -> int:
        return 0 if self.data_in is None else len(self.data_in)

    def copy(self, length_bytes: int) -> None:
        """Bring data-in from the area to where the caller wants it."""
        if self.data_in is not None and self.source is not None:
            self.data_in[:length_bytes] = self.source[:length_bytes]


class LocalClient:
    """A session with a target. ``lun`` is what the name given to ``connect`` stands for."""

    def __init__(self, path: str, login: Login) -> None:
        hello = login.hello
        self.path = path
        self.initiator_name = hello.initiator_name
        self.lun = hello.lun
        self.max_data_bytes = hello.max_data_bytes
        self._sock = login.sock
        self._poll = select.poll()
        self._poll.register(login.sock, select.POLLIN | select.POLLOUT)
        self._header = memoryview(bytearray(wire.RESPONSE.size))
        self._last_tag = 0
        self._pending: dict[int, _Pending] = {}
        self._finished: dict[int, Reply] = {}
        self._failure = ""
        self._shared = None if login.area is None else SharedMemory(login.area)
        self._raw_lun = wire.encode_lun(self.lun)
        # The one command that may be in the lane.
        self._lane = _Pending(None, is_shared=True)

    @classmethod
    def connect(
        cls,
        path: str,
        name: str = "",
        *,
        label: str = "",
        timeout_s: float = _CONNECT_TIMEOUT_S,
        shared_bytes: int = 0,
    ) -> Self:
        """Log in to a target, or to the target that maps a device; raises LocalError.

        ``timeout_s`` is for logging in. Commands take as long as they take. With ``shared_bytes``
        the server is asked for memory of that size to share (16 KiB to 64 MiB): data that fits
        half of it then need not go through the socket. A server that gives none is used without.
        """
        if shared_bytes and shared_bytes < MIN_SHARED_BYTES:
            raise ValueError(f"{shared_bytes} shared bytes: expected {MIN_SHARED_BYTES} or more")
        return cls(path, log_in(path, name, label, shared_bytes, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session; commands not waited for are given up."""
        self._pending.clear()
        self._failure = self._failure or "the connection was closed"
        self._sock.close()
        # The mapping goes with the last view of it.
        self._shared = None
        self._lane.source = None

    @property
    def shared_bytes(self) -> int:
        """Size of the memory shared with the server, 0 for none."""
        return 0 if self._shared is None else self._shared.length_bytes

    def buffer(self, length_bytes: int) -> memoryview:
        """Return a buffer for as long as the client lives.

        While there is room it is part of the shared area, so that its data is never copied.
        """
        made = None if self._shared is None else self._shared.buffer(length_bytes)
        return memoryview(bytearray(length_bytes)) if made is None else made

    def execute(self, request: Request, lun: int | None = None) -> Reply:
        """Send a command and wait for its end; raises LocalError.

        The command goes to ``lun``, or else to the LUN that was named when connecting.
        """
        cdb, data_in, data_out = request.cdb, request.data_in, request.data_out
        shared = self._shared
        if shared is not None and not self._pending:
            room = 0 if data_in is None else len(data_in)
            payload = 0 if data_out is None else len(data_out)
            if (
                len(cdb) == _LANE_CDB_BYTES
                and (not room or not payload)
                and room + payload <= shared.lane_bytes
                and not shared.has(data_in)
                and not shared.has(data_out)
            ):
                if data_out is not None:
                    shared.view[LANE_AT : LANE_AT + payload] = data_out
                raw_lun = self._raw_lun if lun in (None, self.lun) else wire.encode_lun(lun)
                return self._execute_in_lane(shared, raw_lun, cdb, data_in, room, payload)
        number = self.lun if lun is None else lun
        return self.wait(self.submit(number, cdb, data_in, data_out))

    def _execute_in_lane(
        self,
        shared: SharedMemory,
        raw_lun: int,
        cdb: bytes,
        data_in: memoryview | None,
        room: int,
        payload: int,
    ) -> Reply:
        """Execute the only command under way; its data-out is in the lane."""
        tag = self._last_tag = self._last_tag + 1
        lane = self._lane
        lane.data_in = data_in
        source = lane.source = shared.view[LANE_AT : LANE_AT + room] if room else None
        self._pending[tag] = lane
        record = shared.choose_record()
        self._send_short(
            _pack_lane(
                _LANE_REST_BYTES,
                _SHARED_COMMAND,
                _SIMPLE,
                _LANE_CDB_BYTES,
                tag,
                raw_lun,
                room,
                payload,
                LANE_AT,
                LANE_AT,
                record,
                cdb,
            )
        )
        if not record:
            return self.wait(tag)
        ended = shared.take_record() if shared.look() else self._sleep_for_record(shared, tag)
        if ended is None:
            return self.wait(tag)
        length, status = ended
        if length > room:
            self._break(f"the server broke the protocol: tag {tag} and its data fit nothing")
        if data_in is not None and source is not None:
            data_in[:length] = source[:length]
        self._pending.pop(tag, None)
        return Reply(status, None, length)

    def _sleep_for_record(self, shared: SharedMemory, tag: int) -> tuple[int, int] | None:
        """Wait for the command in the lane otherwise; return what its record says, if that."""
        try:
            self._send_short(shared_wire.nudge(tag))
            while tag in self._pending and shared.take_record() is None:
                self._receive_response()
        except LocalError:
            # The command may have ended before the connection did.
            if shared.take_record() is None:
                raise
        return shared.take_record()

    def submit(
        self,
        lun: int,
        cdb: bytes,
        data_in: memoryview | None = None,
        data_out: memoryview | None = None,
        attribute: TaskAttribute = TaskAttribute.SIMPLE,
    ) -> int:
        """Send a command; return the tag to wait for.

        The buffers belong to the command until then. Raises LocalError, and ValueError for a
        command that the protocol has no room for.
        """
        self._check_open()
        room = 0 if data_in is None else len(data_in)
        payload = 0 if data_out is None else len(data_out)
        if not 0 < len(cdb) <= wire.MAX_CDB_BYTES:
            raise ValueError(f"CDB of {len(cdb)} bytes: expected 1 to {wire.MAX_CDB_BYTES}")
        if max(room, payload) > self.max_data_bytes:
            raise ValueError(
                f"{max(room, payload)} bytes of data: expected at most {self.max_data_bytes}"
            )
        tag = self._last_tag + 1
        pending = _Pending(data_in)
        views: list[memoryview] = []
        placed = self._shared.place(data_in, data_out) if self._shared is not None else None
        if placed is None:
            frame = CommandFrame(tag, lun, cdb, room, payload, attribute).serialize()
            if data_out is not None:
                views.append(data_out)
        else:
            pending = _Pending(data_in, True, placed.source, placed.parts)
            frame = SharedCommandFrame(
                tag,
                lun,
                cdb,
                room,
                payload,
                placed.data_in_offset,
                placed.data_out_offset,
                attribute=attribute,
            ).serialize()
        self._last_tag = tag
        self._pending[tag] = pending
        self._send([memoryview(frame), *views])
        return tag

    def manage(self, function: TaskManagementFunction, lun: int, task: int = 0) -> int:
        """Perform a task management function and return its ManagementResponse.

        ``task`` is the tag that ABORT TASK is about. Raises LocalError.
        """
        self._check_open()
        tag = self._last_tag = self._last_tag + 1
        self._pending[tag] = _Pending(None)
        self._send([memoryview(ManagementFrame(tag, function, lun, task).serialize())])
        return self.wait(tag).status

    def wait(self, tag: int) -> Reply:
        """Wait for the command of a tag to end, once; raises LocalError, KeyError for no such."""
        while tag not in self._finished:
            self._check_open()
            if tag not in self._pending:
                raise KeyError(f"tag {tag} is not outstanding")
            self._receive_response()
        return self._finished.pop(tag)

    def _send_short(self, frame: bytes) -> None:
        """Send a frame while nothing else is under way, so that there is room for it."""
        try:
            count = self._sock.send(frame)
        except OSError as error:
            self._send_failed(error)
        if count < len(frame):
            self._send([memoryview(frame)[count:]])

    def _send(self, views: list[memoryview]) -> None:
        try:
            while views:
                try:
                    count = self._sock.sendmsg(views, (), socket.MSG_DONTWAIT)
                except BlockingIOError:
                    self._wait_for_room()
                    continue
                views = _behind(views, count)
        except OSError as error:
            self._send_failed(error)

    def _wait_for_room(self) -> None:
        """Take responses until more can be sent: a server with many unread takes no commands."""
        for _, events in self._poll.poll():
            if events & select.POLLIN:
                self._receive_response()

    def _send_failed(self, error: OSError) -> NoReturn:
        # The server has closed; what it said before that tells more than EPIPE does.
        while self._pending:
            self._receive_response()
        self._break(f"send failed: {reason(error)}", error)

    def _receive_response(self) -> None:
        """Receive a frame and note which command ended."""
        self._fill(self._header)
        try:
            frame = ResponseFrame.parse(self._header)
        except FrameError as error:
            self._break(f"the server broke the protocol: {error}", error)
        if frame.kind == FrameType.ERROR:
            text = bytes(self._take(frame.data_in_length)).decode(errors="replace")
            self._break(f"the server refused: {text}")
        if frame.kind == FrameType.NUDGE:
            # The record is there; whoever asked looks at it, if not before this came.
            return
        pending = self._pending.get(frame.tag)
        is_shared = frame.kind == FrameType.SHARED_RESPONSE
        if (
            pending is None
            or pending.is_shared is not is_shared
            or frame.data_in_length > pending.room_bytes
        ):
            self._break(f"the server broke the protocol: tag {frame.tag} and its data fit nothing")
        sense = self._receive_rest(frame, pending)
        del self._pending[frame.tag]
        self._finished[frame.tag] = Reply(frame.status, sense, frame.data_in_length)

    def _receive_rest(self, frame: ResponseFrame, pending: _Pending) -> Sense | None:
        """Bring data-in to where it belongs, and return the sense data."""
        if pending.is_shared:
            pending.copy(frame.data_in_length)
            if self._shared is not None:
                self._shared.give_back(pending.parts)
        elif pending.data_in is not None and frame.data_in_length:
            self._fill(pending.data_in[: frame.data_in_length])
        return Sense.decode(self._take(frame.sense_length)) if frame.sense_length else None

    def _take(self, length_bytes: int) -> memoryview:
        view = memoryview(bytearray(length_bytes))
        self._fill(view)
        return view

    def _fill(self, view: memoryview) -> None:
        """Receive exactly as much as ``view`` holds."""
        while view:
            try:
                count = self._sock.recv_into(view, len(view), socket.MSG_WAITALL)
            except OSError as error:
                self._break(f"receive failed: {reason(error)}", error)
            if count == 0:
                self._break("the server closed the connection")
            view = view[count:]

    def _check_open(self) -> None:
        if self._failure:
            raise LocalError(f"{self.path}: {self._failure}")

    def _break(self, failure: str, cause: Exception | None = None) -> NoReturn:
        self._failure = failure
        self.close()
        raise LocalError(f"{self.path}: {failure}") from cause


def _behind(views: list[memoryview], count_bytes: int) -> list[memoryview]:
    """What is left of ``views`` after their first ``count_bytes``."""
    rest = list(views)
    while rest and count_bytes >= len(rest[0]):
        count_bytes -= len(rest.pop(0))
    if rest and count_bytes:
        rest[0] = rest[0][count_bytes:]
    return rest
