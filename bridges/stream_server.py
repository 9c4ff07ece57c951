# SPDX-License-Identifier: GPL-2.0-or-later
"""What servers of stream protocols have in common: listeners, connections, and an orderly stop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from bridges.listen import Listen
from bridges.listeners import Address, Listener, peer_host, peer_name
from bridges.sparing_log import SparingLog
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


@dataclass(frozen=True, slots=True)
class Entrance:
    """One way in, as it is now; port 0 is replaced by the one that the kernel chose."""

    address: Address
    listen: Listen
    connections: int


@dataclass(slots=True, eq=False)
class _Gate:
    """A listen line at work."""

    listen: Listen
    listener: Listener | None = None
    connections: int = 0


@dataclass(slots=True, eq=False)
class _Client:
    """A connection, and what its end concerns."""

    connection: Connection
    gate: _Gate
    ended: Callable[[], None] | None


class StreamServer:
    """Owns the listeners and the streams.

    ``connect`` makes what serves a stream that came in by one of ``listens``. ``max_connections``
    may be set until the start; it is for all listeners together.
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
        self.max_connections = max_connections
        self._gates = [_Gate(listen) for listen in listens]
        self._listeners: list[Listener] = []
        for gate in self._gates:
            accepted = partial(self._admit, gate)
            gate.listener = Listener(loop, gate.listen.address, accepted, gate.listen.passed)
            self._listeners.append(gate.listener)
        self._clients: dict[Stream, _Client] = {}
        self._refusals = SparingLog(loop.time, _log.warning)
        self._idle: asyncio.Future[None] | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the server listens; port 0 is replaced by the one that the kernel chose."""
        return tuple(listener.address for listener in self._listeners)

    @property
    def entrances(self) -> tuple[Entrance, ...]:
        """The listeners and how many connections each has, adopted ones included."""
        return tuple(
            Entrance(
                gate.listener.address if gate.listener else gate.listen.address,
                gate.listen,
                gate.connections,
            )
            for gate in self._gates
        )

    @property
    def connections(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    @property
    def peers(self) -> Mapping[str, int]:
        """The initiators that clients stand for, and how many connections each has."""
        return Counter(stream.initiator for stream in self._clients)

    def start(self) -> None:
        """Listen; raises OSError, with nothing left open, if any address cannot be had."""
        try:
            for listener in self._listeners:
                listener.start()
        except OSError:
            for listener in self._listeners:
                listener.stop()
            raise
        for listener in self._listeners:
            _log.info("listening on %s", listener.address)

    def adopt(self, sock: socket.socket, listen: Listen, ended: Callable[[], None]) -> None:
        """Serve a connection that somebody else has accepted, on the terms of ``listen``.

        ``ended`` is called once, when it is over or if it is refused.
        """
        gate = _Gate(listen)
        self._gates.append(gate)
        if not self._admit(gate, sock, ended):
            ended()

    async def stop(self) -> None:
        """Accept no more, answer what is under way, and close every connection.

        Clients that do not take their replies in time are cut off, and commands that do not end
        in time are left to the backend.
        """
        for listener in self._listeners:
            listener.stop()
        for stream in tuple(self._clients):
            stream.end()
        if await self._becomes_idle():
            return
        for stream in tuple(self._clients):
            stream.abort("the peer did not take its replies in time")
        if not await self._becomes_idle():
            _log.error("%d connections have commands that do not end", len(self._clients))

    async def _becomes_idle(self) -> bool:
        if not self._clients:
            return True
        if self._idle is None or self._idle.done():
            self._idle = self._loop.create_future()
        await asyncio.wait((self._idle,), timeout=self._stop_timeout_s)
        return self._idle.done()

    def _admit(
        self, gate: _Gate, sock: socket.socket, ended: Callable[[], None] | None = None
    ) -> bool:
        """Begin to serve a connection, or close it; tell which."""
        listen = gate.listen
        try:
            name, host = self._name_peer(sock), peer_host(sock)
            refusal = self._refusal(gate, sock)
        except OSError:
            # The peer has gone already.
            sock.close()
            return False
        if refusal:
            self._refusals.log(f"{name}: refused: {refusal}")
            sock.close()
            return False
        stream = Stream(
            self._loop,
            sock,
            self._sgv,
            self._closed,
            name,
            self._spinner,
            host=host,
            max_pending_bytes=listen.connection_memory_bytes,
        )
        connection = self._connect(stream, listen)
        self._clients[stream] = _Client(connection, gate, ended)
        gate.connections += 1
        connection.start()
        return True

    def _refusal(self, gate: _Gate, sock: socket.socket) -> str:
        """Why a peer may not stay, or nothing; raises OSError if it is gone."""
        listen = gate.listen
        if not listen.access.admit(sock):
            return f"not allowed at {listen.address}"
        if len(self._clients) >= self.max_connections:
            return f"{self.max_connections} connections are open"
        if listen.max_connections is not None and gate.connections >= listen.max_connections:
            return f"{listen.max_connections} connections are open at {listen.address}"
        return ""

    def _closed(self, stream: Stream) -> None:
        client = self._clients.pop(stream)
        client.gate.connections -= 1
        client.connection.closed()
        if self._idle is not None and not self._clients and not self._idle.done():
            self._idle.set_result(None)
        if client.ended is not None:
            client.ended()
