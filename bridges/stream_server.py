# SPDX-License-Identifier: GPL-2.0-or-later
"""What servers of stream protocols have in common: listeners, connections, and an orderly stop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from bridges.listen import Listen
from bridges.listeners import Address, Listener, peer_name
from bridges.spin import Spinner
from bridges.stream import Stream
from scsi_backend.io.sgv import SgvCache

_log = logging.getLogger(__name__)

# How long a stop waits for what is under way, and then for clients to take their replies.
STOP_TIMEOUT_S = 10.0
# Each may keep some tens of MiB busy; descriptors usually run out before.
MAX_CONNECTIONS = 4096


class Connection(Protocol):
    """What a server does with one connection."""

    def start(self) -> None:
        """Begin with the stream that the connection was made for."""

    def closed(self) -> None:
        """The connection has ended and nothing of it is under way."""


class StreamServer:
    """Owns the listeners and the streams.

    ``connect`` makes what serves a stream that came in by one of ``listens``.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sgv: SgvCache,
        listens: Iterable[Listen],
        connect: Callable[[Stream, Listen], Connection],
        *,
        spinner: Spinner | None = None,
        name_peer: Callable[[socket.socket], str] = peer_name,
        stop_timeout_s: float = STOP_TIMEOUT_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._loop = loop
        self._sgv = sgv
        self._connect = connect
        self._spinner = spinner
        self._name_peer = name_peer
        self._stop_timeout_s = stop_timeout_s
        self._max_connections = max_connections
        self._listeners = [
            Listener(loop, listen.address, partial(self._accepted, listen)) for listen in listens
        ]
        self._connections: dict[Stream, Connection] = {}
        self._idle: asyncio.Future[None] | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the server listens; port 0 is replaced by the one that the kernel chose."""
        return tuple(listener.address for listener in self._listeners)

    @property
    def connections(self) -> int:
        """How many clients there are."""
        return len(self._connections)

    def start(self) -> None:
        """Listen; raises OSError, with nothing left open, if any address cannot be had."""
        try:
            for listener in self._listeners:
                listener.start()
        except OSError:
            for listener in self._listeners:
                listener.stop()
            raise

    async def stop(self) -> None:
        """Accept no more, answer what is under way, and close every connection.

        Clients that do not take their replies in time are cut off, and commands that do not end
        in time are left to the backend.
        """
        for listener in self._listeners:
            listener.stop()
        for stream in tuple(self._connections):
            stream.end()
        if await self._becomes_idle():
            return
        for stream in tuple(self._connections):
            stream.abort("the peer did not take its replies in time")
        if not await self._becomes_idle():
            _log.error("%d connections have commands that do not end", len(self._connections))

    async def _becomes_idle(self) -> bool:
        if not self._connections:
            return True
        if self._idle is None or self._idle.done():
            self._idle = self._loop.create_future()
        await asyncio.wait((self._idle,), timeout=self._stop_timeout_s)
        return self._idle.done()

    def _accepted(self, listen: Listen, sock: socket.socket) -> None:
        try:
            name = self._name_peer(sock)
        except OSError:
            # The peer has gone already.
            sock.close()
            return
        if len(self._connections) >= self._max_connections:
            _log.warning("%s: refused: %d connections are open", name, self._max_connections)
            sock.close()
            return
        stream = Stream(self._loop, sock, self._sgv, self._closed, name, self._spinner)
        connection = self._connect(stream, listen)
        self._connections[stream] = connection
        connection.start()

    def _closed(self, stream: Stream) -> None:
        self._connections.pop(stream).closed()
        if self._idle is not None and not self._connections and not self._idle.done():
            self._idle.set_result(None)
