# SPDX-License-Identifier: GPL-2.0-or-later
"""A blocking initiator for the local bridge: the nbdkit plugin's and the command line's way in.

Data moves between the socket and the caller's buffers without a copy. Commands may be pipelined;
their responses are taken as they come. A client belongs to one thread at a time. What to do about
a status other than GOOD, and connecting again, are the caller's business.
"""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

from bridges.exchange import Request
from bridges.local import wire
from bridges.local.wire import (
    CommandFrame,
    FrameError,
    FrameType,
    HelloReply,
    HelloRequest,
    HelloStatus,
    ResponseFrame,
)
from bridges.recovery import Reply
from scsi_backend.t10.sense import Sense

_CONNECT_TIMEOUT_S = 10.0


class LocalError(Exception):
    """The server cannot be reached, refused, or broke off; names the socket and what failed."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A command that was sent and not answered."""

    data_in: memoryview | None

    @property
    def room_bytes(self) -> int:
        return 0 if self.data_in is None else len(self.data_in)


class LocalClient:
    """A session with a target. ``lun`` is what the name given to ``connect`` stands for."""

    def __init__(self, sock: socket.socket, path: str, hello: HelloReply) -> None:
        self.path = path
        self.initiator_name = hello.initiator_name
        self.lun = hello.lun
        self.max_data_bytes = hello.max_data_bytes
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN | select.POLLOUT)
        self._header = memoryview(bytearray(wire.RESPONSE.size))
        self._last_tag = 0
        self._pending: dict[int, _Pending] = {}
        self._finished: dict[int, Reply] = {}
        self._failure = ""

    @classmethod
    def connect(
        cls, path: str, name: str = "", *, label: str = "", timeout_s: float = _CONNECT_TIMEOUT_S
    ) -> Self:
        """Log in to a target, or to the target that maps a device; raises LocalError.

        ``timeout_s`` is for logging in. Commands take as long as they take.
        """
        try:
            request = HelloRequest(name, label).serialize()
        except ValueError as error:
            raise LocalError(f"{path}: {error}") from error
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            hello = _log_in(sock, path, request, timeout_s)
        except BaseException:
            sock.close()
            raise
        return cls(sock, path, hello)

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

    def execute(self, request: Request, lun: int | None = None) -> Reply:
        """Send a command and wait for its end; raises LocalError.

        The command goes to ``lun``, or else to the LUN that was named when connecting.
        """
        number = self.lun if lun is None else lun
        return self.wait(self.submit(number, request.cdb, request.data_in, request.data_out))

    def submit(
        self,
        lun: int,
        cdb: bytes,
        data_in: memoryview | None = None,
        data_out: memoryview | None = None,
    ) -> int:
        """Send a command; return the tag to wait for.

        The buffers belong to the command until then. Raises LocalError, and ValueError for a
        command that the protocol has no room for.
        """
        self._check_open()
        pending = _Pending(data_in)
        tag = self._last_tag + 1
        head = self._frame(tag, lun, cdb, pending.room_bytes, data_out)
        self._last_tag = tag
        self._pending[tag] = pending
        self._send([memoryview(head)] if data_out is None else [memoryview(head), data_out])
        return tag

    def wait(self, tag: int) -> Reply:
        """Wait for the command of a tag to end, once; raises LocalError, KeyError for no such."""
        while tag not in self._finished:
            self._check_open()
            if tag not in self._pending:
                raise KeyError(f"tag {tag} is not outstanding")
            self._receive_response()
        return self._finished.pop(tag)

    def _frame(
        self, tag: int, lun: int, cdb: bytes, room_bytes: int, data_out: memoryview | None
    ) -> bytes:
        data_out_bytes = 0 if data_out is None else len(data_out)
        if not 0 < len(cdb) <= wire.MAX_CDB_BYTES:
            raise ValueError(f"CDB of {len(cdb)} bytes: expected 1 to {wire.MAX_CDB_BYTES}")
        if max(room_bytes, data_out_bytes) > self.max_data_bytes:
            raise ValueError(
                f"{max(room_bytes, data_out_bytes)} bytes of data:"
                f" expected at most {self.max_data_bytes}"
            )
        return CommandFrame(tag, lun, cdb, room_bytes, data_out_bytes).serialize()

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
        self._break(f"send failed: {_reason(error)}", error)

    def _receive_response(self) -> None:
        self._fill(self._header)
        try:
            frame = ResponseFrame.parse(self._header)
        except FrameError as error:
            self._break(f"the server broke the protocol: {error}", error)
        if frame.kind == FrameType.ERROR:
            text = bytes(self._take(frame.data_in_length)).decode(errors="replace")
            self._break(f"the server refused: {text}")
        pending = self._pending.get(frame.tag)
        if pending is None or frame.data_in_length > pending.room_bytes:
            self._break(f"the server broke the protocol: tag {frame.tag} and its data fit nothing")
        if pending.data_in is not None and frame.data_in_length:
            self._fill(pending.data_in[: frame.data_in_length])
        sense = Sense.decode(self._take(frame.sense_length)) if frame.sense_length else None
        del self._pending[frame.tag]
        self._finished[frame.tag] = Reply(frame.status, sense, frame.data_in_length)

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
                self._break(f"receive failed: {_reason(error)}", error)
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


def _log_in(sock: socket.socket, path: str, request: bytes, timeout_s: float) -> HelloReply:
    try:
        sock.settimeout(timeout_s)
        sock.connect(path)
        sock.sendall(request)
        hello = _receive_hello(sock)
        sock.settimeout(None)
    except TimeoutError as error:
        raise LocalError(f"{path}: no answer within {timeout_s:g} s") from error
    except OSError as error:
        raise LocalError(f"{path}: cannot connect: {_reason(error)}") from error
    except FrameError as error:
        raise LocalError(f"{path}: not a server of this protocol: {error}") from error
    if hello.status != HelloStatus.OK:
        raise LocalError(f"{path}: the server refused: {hello.text}")
    return hello


def _receive_hello(sock: socket.socket) -> HelloReply:
    """Receive the reply to a hello and nothing behind it; raises OSError and FrameError."""
    data = b""
    while (parsed := HelloReply.parse(data)) is None:
        piece = sock.recv(HelloReply.missing_bytes(data))
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        data += piece
    return parsed[0]


def _behind(views: list[memoryview], count_bytes: int) -> list[memoryview]:
    """What is left of ``views`` after their first ``count_bytes``."""
    rest = list(views)
    while rest and count_bytes >= len(rest[0]):
        count_bytes -= len(rest.pop(0))
    if rest and count_bytes:
        rest[0] = rest[0][count_bytes:]
    return rest


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
