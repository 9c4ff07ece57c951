# SPDX-License-Identifier: GPL-2.0-or-later
"""The local bridge's server: a unix socket, and an initiator's session for each connection.

This is the only file of the bridge's serving side that has sockets. The kernel says who the peer
is (SO_PEERCRED of unix(7)), so an initiator's name cannot be made up by the client.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct

from bridges.listeners import Address, Listener
from bridges.local.hello import Hello
from bridges.local.session import CommandSession
from bridges.local.wire import HelloRequest
from bridges.spin import Spinner
from bridges.stream import Stream
from scsi_backend.target.backend import Backend
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target

_log = logging.getLogger(__name__)

DRIVER = "scst_local"

_HELLO_TIMEOUT_S = 10.0
# How long a stop waits for clients to take the responses of what was under way.
_STOP_TIMEOUT_S = 10.0
# struct ucred: pid, uid, gid.
_PEER_CREDENTIALS = struct.Struct("iII")


class LocalServer:
    """Owns the listener and the connections; ``mode`` says who may connect."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        path: str,
        spinner: Spinner | None = None,
        *,
        mode: int = 0o600,
        hello_timeout_s: float = _HELLO_TIMEOUT_S,
        stop_timeout_s: float = _STOP_TIMEOUT_S,
    ) -> None:
        self._loop = loop
        self._backend = backend
        self._spinner = spinner
        self._listener = Listener(loop, Address(path=path), self._accepted)
        self._path = path
        self._mode = mode
        self._hello_timeout_s = hello_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._connections: dict[Stream, _Connection] = {}
        self._idle: asyncio.Future[None] | None = None

    @property
    def connections(self) -> int:
        """How many clients there are."""
        return len(self._connections)

    def start(self) -> None:
        """Listen; raises OSError, also where another server listens on the path."""
        self._listener.start()
        # Until here the mode was 0600: nobody came in whom the mode keeps out.
        os.chmod(self._path, self._mode)

    async def stop(self) -> None:
        """Take no more clients and commands, answer what is under way, close every connection.

        Clients that have not got or not read their responses after a while are cut off. Their
        commands are waited for nevertheless, because they use the connections' memory.
        """
        self._listener.stop()
        for stream in tuple(self._connections):
            stream.end()
        if not self._connections:
            return
        if self._idle is None or self._idle.done():
            self._idle = self._loop.create_future()
        timer = self._loop.call_later(self._stop_timeout_s, self._abort_all)
        try:
            await self._idle
        finally:
            timer.cancel()

    def _abort_all(self) -> None:
        for stream in tuple(self._connections):
            stream.abort("the peer did not take its responses in time")

    def _accepted(self, sock: socket.socket) -> None:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        pid, uid, _ = _PEER_CREDENTIALS.unpack(raw)
        peer = f"local:uid={uid},pid={pid}"
        stream = Stream(self._loop, sock, self._backend.sgv, self._closed, peer, self._spinner)
        timer = self._loop.call_later(self._hello_timeout_s, stream.abort, "no hello in time")
        connection = _Connection(self._backend, stream, f"local:uid={uid}", timer)
        self._connections[stream] = connection
        connection.start()

    def _closed(self, stream: Stream) -> None:
        self._connections.pop(stream).closed()
        if self._idle is not None and not self._connections and not self._idle.done():
            self._idle.set_result(None)


class _Connection:
    """Leads one connection from the hello to commands."""

    def __init__(
        self, backend: Backend, stream: Stream, initiator_name: str, timer: asyncio.TimerHandle
    ) -> None:
        self._backend = backend
        self._stream = stream
        self._initiator_name = initiator_name
        self._timer = timer

    def start(self) -> None:
        """Wait for the hello."""
        hello = Hello(self._targets, self._initiator_name, self._stream.put, self._opened)
        self._stream.start(hello)

    def closed(self) -> None:
        """The connection has ended."""
        self._timer.cancel()

    def _targets(self) -> tuple[Target, ...]:
        return self._backend.targets_of(DRIVER)

    def _opened(self, session: Session, request: HelloRequest) -> None:
        self._timer.cancel()
        peer = self._stream.peer
        _log.info("%s: %r logged in, asking for %r", peer, request.label, request.name)

        def closed() -> None:
            _log.info("%s: %r logged out", peer, request.label)

        self._stream.replace_session(
            CommandSession(self._stream, session, self._backend.sgv, closed)
        )
