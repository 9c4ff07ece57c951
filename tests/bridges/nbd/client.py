# SPDX-License-Identifier: GPL-2.0-or-later
"""A blocking NBD client on a socket, which does what it is told, right or wrong."""

from __future__ import annotations

import socket
import struct
from types import TracebackType

from tests.bridges.nbd import proto


class Client:
    """One connection. Each operation has the socket's time limit."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.size_bytes = 0
        self.flags = 0
        self._cookie = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.sock.close()

    def begin(self, name: str) -> Client:
        """Shake hands and choose an export by GO, which must succeed."""
        self.greet()
        self.send(proto.go(name))
        while True:
            kind, data = self.option_reply()
            if kind == proto.ACK:
                return self
            assert kind == proto.REP_INFO, f"GO failed: {kind:#x} {data!r}"
            if data[:2] == b"\0\0":
                self.size_bytes, self.flags = struct.unpack_from(">QH", data, 2)

    def greet(self) -> None:
        """Take the greeting and send the client's flags."""
        assert self.receive(len(proto.GREETING)) == proto.GREETING
        self.send(proto.FIXED_NEWSTYLE_NO_ZEROES)

    def option_reply(self) -> tuple[int, bytes]:
        """Receive one option reply: its type and its data."""
        head = self.receive(proto.OPTION_REPLY_BYTES)
        length = int.from_bytes(head[16:], "big")
        (reply,) = proto.parse_option_replies(head + self.receive(length))
        return reply.kind, reply.data

    def send(self, *messages: bytes) -> None:
        """Send messages in one piece."""
        self.sock.sendall(b"".join(messages))

    def receive(self, length: int) -> bytes:
        """Receive exactly so many bytes."""
        pieces = []
        while length:
            piece = self.sock.recv(min(length, 1 << 20))
            if not piece:
                raise EOFError("the server has closed the connection")
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def reply(self, length: int = 0) -> tuple[int, int, bytes]:
        """Receive a reply, with so much data if it is no error: (cookie, error, data)."""
        head = self.receive(proto.REPLY_BYTES)
        ((cookie, error, _),) = proto.parse_replies(head, {})
        return cookie, error, b"" if error else self.receive(length)

    def call(
        self, kind: int, offset: int = 0, length: int = 0, payload: bytes = b"", flags: int = 0
    ) -> tuple[int, bytes]:
        """Send one request and wait for its reply: (error, data)."""
        self._cookie += 1
        self.send(proto.request(kind, self._cookie, offset, length, flags, payload))
        cookie, error, data = self.reply(length if kind == proto.READ else 0)
        assert cookie == self._cookie
        return error, data

    def read(self, offset: int, length: int) -> bytes:
        """Read, which must succeed."""
        error, data = self.call(proto.READ, offset, length)
        assert error == 0
        return data

    def write(self, offset: int, payload: bytes, flags: int = 0) -> None:
        """Write, which must succeed."""
        assert self.call(proto.WRITE, offset, len(payload), payload, flags) == (0, b"")

    def is_ended(self) -> bool:
        """Whether the server has closed the connection, which is waited for."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def leave(self) -> None:
        """Disconnect as the protocol wants, and wait for the server to close."""
        self.send(proto.request(proto.DISC, 0))
        assert self.is_ended()
