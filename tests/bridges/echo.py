# SPDX-License-Identifier: GPL-2.0-or-later
"""A stream between a socket pair and a session that sends back what it gets.

The peer's end is a plain socket that never blocks; ``Rig.until`` turns the loop until something
holds.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bridges.buffers import Chunk
from bridges.spin import Spinner
from bridges.stream import Stream
from bridges.stream_session import PeerError
from bridges.transport import Certificate
from tests.bridges.sgv import CountingSgv

DEADLINE_S = 20.0
LENGTH = struct.Struct(">I")
RECORD_BYTES = 16 << 10
# Lengths with a meaning of their own.
CLOSE = 0xFFFFFFFF
PEER_ERROR = 0xFFFFFFFE
ABORT = 0xFFFFFFFD
CRASH = 0xFFFFFFFC
REPLACE = 0xFFFFFFFB


def message(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


def order(kind: int) -> bytes:
    return LENGTH.pack(kind)


@dataclass(frozen=True, slots=True)
class _Held:
    """A reply that waits, and the memory that it has reserved."""

    body: memoryview
    is_payload: bool
    chunk: Chunk
    start: int


class Echo:
    """Messages of a u32 length and that many bytes come back as they are.

    ``direct_from`` is the length from which a body is received directly. While ``is_held`` is set,
    replies wait for ``answer``, with their memory reserved as for a READ; with ``holds_payloads``
    they reserve nothing, and the body counts as held and stays where it was received, as for a
    WRITE.
    """

    def __init__(self, stream: Stream, sgv: CountingSgv, prefix: bytes = b"") -> None:
        self.stream = stream
        self.sgv = sgv
        self.prefix = prefix
        self.receive_limit_bytes = 0
        self.direct: memoryview | None = None
        self.direct_from = 1 << 32
        self.open_requests = 0
        self.wants_close = False
        self.is_held = False
        self.holds_payloads = False
        self.is_waiting = False
        self.held: deque[_Held] = deque()
        # What each call of receive was given, and how many messages it handled.
        self.offered: list[int] = []
        self.handled: list[int] = []
        self.direct_bodies = 0
        self.closed_calls = 0
        self.in_use_in_batch = 0
        self._direct_chunk: Chunk | None = None
        self._direct_bytes = 0

    def receive(self, data: memoryview) -> int:
        self.offered.append(len(data))
        self.handled.append(0)
        position = 0
        while len(data) - position >= LENGTH.size and not self.stream.is_full:
            if self.wants_close or self.is_waiting:
                break
            (length,) = LENGTH.unpack_from(data, position)
            first = position + LENGTH.size
            if length >= REPLACE:
                self._obey(length)
                position = first
                if length == REPLACE:
                    break
            elif first + length <= len(data):
                self.handled[-1] += 1
                self._take(data[first : first + length], self.stream.incoming)
                position = first + length
            elif length >= self.direct_from:
                self._receive_directly(length, data[first:])
                return len(data)
            else:
                break
        return position

    def _obey(self, kind: int) -> None:
        if kind == CLOSE:
            self.wants_close = True
        elif kind == PEER_ERROR:
            raise PeerError("told to")
        elif kind == ABORT:
            self.stream.abort("told to")
            self.in_use_in_batch = len(self.sgv.in_use)
        elif kind == CRASH:
            raise ZeroDivisionError("told to")
        else:
            self.stream.replace_session(Echo(self.stream, self.sgv, b"second:"))

    def _receive_directly(self, length: int, received: memoryview) -> None:
        self._direct_chunk = Chunk(self.sgv, length)
        self._direct_chunk.view[: len(received)] = received
        self._direct_bytes = length
        self.stream.held_bytes += length
        self.direct = self._direct_chunk.view[len(received) : length]

    def direct_received(self) -> None:
        assert self._direct_chunk is not None
        chunk, self._direct_chunk, self.direct = self._direct_chunk, None, None
        self.direct_bodies += 1
        self.stream.held_bytes -= self._direct_bytes
        self._take(chunk.view[: self._direct_bytes], chunk)
        chunk.release()

    def _take(self, body: memoryview, chunk: Chunk) -> None:
        """Reply to a body that lies in ``chunk``, now or later."""
        self.open_requests += 1
        if not self.is_held:
            self.open_requests -= 1
            self.stream.put(message(self.prefix + bytes(body)))
        elif self.holds_payloads:
            self.stream.held_bytes += len(body)
            chunk.hold()
            self.held.append(_Held(body, True, chunk, 0))
        else:
            start = self.stream.out.reserve(LENGTH.size + len(body))
            kept = memoryview(bytes(body))
            self.held.append(_Held(kept, False, self.stream.out.chunk, start))

    def answer(self) -> None:
        """Send the oldest held reply."""
        held = self.held.popleft()
        reply = message(bytes(held.body))
        self.open_requests -= 1
        if held.is_payload:
            self.stream.held_bytes -= len(held.body)
            held.chunk.release()
            self.stream.put(reply)
        else:
            end = held.start + len(reply)
            held.chunk.view[held.start : end] = reply
            self.stream.commit(held.chunk, held.start, end)

    def closed(self) -> None:
        self.closed_calls += 1
        if self._direct_chunk is not None:
            self._direct_chunk.release()


class Rig:
    """A stream with an echo session, and the peer's socket; under TLS if there are contexts."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        kind: int,
        spinner: Spinner | None,
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    ) -> None:
        self.loop = loop
        self.sgv = CountingSgv()
        ours, self.peer = socket.socketpair(socket.AF_UNIX, kind)
        self.peer.setblocking(False)
        self.closed_streams: list[Stream] = []
        self.stream = Stream(loop, ours, self.sgv, self.closed_streams.append, "peer", spinner)
        self.session = Echo(self.stream, self.sgv)
        self.stream.start(self.session)
        self.received = bytearray()
        self.was_cut_off = False
        self.certificates: list[Certificate | None] = []
        if tls is not None:
            self._secure(*tls)

    def _secure(self, ours: ssl.SSLContext, peers: ssl.SSLContext) -> None:
        self.stream.start_tls(ours, self.certificates.append)
        self.wrap_peer(peers)
        self.until(lambda: self.shake_hands() and bool(self.certificates), "TLS is up")

    def wrap_peer(self, context: ssl.SSLContext) -> None:
        """Make the peer a TLS client."""
        self.peer = context.wrap_socket(
            self.peer, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )

    def shake_hands(self) -> bool:
        """The peer's part of the handshake; tell whether it is over."""
        assert isinstance(self.peer, ssl.SSLSocket)
        try:
            self.peer.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def turn(self, times: int = 1) -> None:
        """Let the loop look at its sockets and callbacks."""
        for _ in range(times):
            self.loop.run_until_complete(asyncio.sleep(0))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Turn the loop until a condition holds."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"timed out: {what}"
            self.turn()

    def send_some(self, data: memoryview) -> int:
        """Send what the socket takes now; under TLS no more than one record, taken whole or not."""
        try:
            return self.peer.send(data[:RECORD_BYTES] if self.certificates else data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def receive_some(self) -> bool:
        """Receive what is there; tell whether the stream is still open."""
        try:
            piece = self.peer.recv(1 << 20)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except ssl.SSLZeroReturnError:
            return False
        except (ConnectionResetError, ssl.SSLError):
            # The stream closed with bytes unread, or without goodbye; what it sent came before.
            self.was_cut_off = True
            return False
        self.received += piece
        return bool(piece)

    def exchange(self, data: bytes, expected: bytes) -> None:
        """Send all of ``data`` while receiving, until exactly ``expected`` has come."""
        rest = memoryview(data)

        def done() -> bool:
            nonlocal rest
            if rest:
                rest = rest[self.send_some(rest) :]
            self.receive_some()
            return not rest and len(self.received) >= len(expected)

        self.until(done, "everything is sent and received")
        assert self.received == expected
        self.received.clear()

    def send_until_stuck(self, data: bytes) -> int:
        """Send without receiving until nothing moves any more; return how much was taken."""
        rest = memoryview(data)
        idle = 0
        while rest and idle < 50:
            count = self.send_some(rest)
            rest = rest[count:]
            idle = 0 if count else idle + 1
            self.turn()
        return len(data) - len(rest)

    def receive_to_end(self) -> bytes:
        """Receive until the stream closes."""
        self.until(lambda: not self.receive_some(), "the stream closes")
        return bytes(self.received)

    def assert_closed(self) -> None:
        """The stream has ended, once, and has let go of everything."""
        self.until(lambda: bool(self.closed_streams), "the stream is closed")
        assert self.closed_streams == [self.stream]
        assert self.session.closed_calls == 1
        assert not self.sgv.in_use

    def close(self) -> None:
        self.peer.close()
        while self.session.held:
            self.session.answer()
        self.until(lambda: bool(self.closed_streams), "the stream is closed")
