# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's NBD server: listeners, and a handshake and a session for each connection.

This is the only file of the bridge that has sockets.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable

from bridges.initiators import InitiatorPool
from bridges.listeners import Address, Listener, peer_name
from bridges.nbd.exports import LunExport, LunExports
from bridges.nbd.handshake import Export, Handshake
from bridges.nbd.session import TransmissionSession
from bridges.spin import Spinner
from bridges.stream import Stream
from scsi_backend.target.backend import Backend

_log = logging.getLogger(__name__)

_HANDSHAKE_TIMEOUT_S = 30.0
# How long a stop waits for clients to take the replies of what was under way.
_STOP_TIMEOUT_S = 10.0


class NbdServer:
    """Owns the listeners and the connections."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        addresses: Iterable[Address],
        spinner: Spinner | None = None,
    ) -> None:
        self._loop = loop
        self._backend = backend
        self._spinner = spinner
        self._pool = InitiatorPool(loop)
        self._listeners = [Listener(loop, address, self._accepted) for address in addresses]
        self._connections: dict[Stream, _Connection] = {}
        self._all_closed = asyncio.Event()

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
        """Accept no more, answer what is under way, and close every connection."""
        for listener in self._listeners:
            listener.stop()
        for stream in tuple(self._connections):
            stream.end()
        if self._connections:
            self._all_closed.clear()
            try:
                await asyncio.wait_for(self._all_closed.wait(), _STOP_TIMEOUT_S)
            except TimeoutError:
                for stream in tuple(self._connections):
                    stream.abort("the peer did not take its replies in time")

    def _accepted(self, sock: socket.socket) -> None:
        try:
            name = peer_name(sock)
        except OSError:
            # The peer has gone already.
            sock.close()
            return
        stream = Stream(self._loop, sock, self._backend.sgv, self._closed, name, self._spinner)
        connection = _Connection(self._loop, self._backend, self._pool, stream, name)
        self._connections[stream] = connection
        connection.start()

    def _closed(self, stream: Stream) -> None:
        self._connections.pop(stream).closed()
        if not self._connections:
            self._all_closed.set()


class _Connection:
    """Leads one connection from the handshake to transmission."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        pool: InitiatorPool,
        stream: Stream,
        initiator_name: str,
    ) -> None:
        self._loop = loop
        self._stream = stream
        self._sgv = backend.sgv
        self._handshake = Handshake(
            LunExports(backend, pool, initiator_name),
            stream.put,
            self._transmit,
            stream.handle_again,
        )
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Greet the client; it has a limited time to choose an export."""
        self._timer = self._loop.call_later(_HANDSHAKE_TIMEOUT_S, self._timed_out)
        self._stream.start(self._handshake)
        self._handshake.greet()

    def closed(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _timed_out(self) -> None:
        self._stream.abort(f"no export chosen within {_HANDSHAKE_TIMEOUT_S:.0f} s")

    def _transmit(self, export: Export) -> None:
        assert isinstance(export, LunExport)
        assert self._timer is not None
        self._timer.cancel()
        peer = self._stream.peer
        _log.info("%s: opened export %s", peer, export.name)

        def closed() -> None:
            _log.info("%s: closed export %s", peer, export.name)
            export.close()

        session = TransmissionSession(self._stream, export.client, self._sgv, closed)
        self._stream.replace_session(session)
