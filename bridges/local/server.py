# SPDX-License-Identifier: GPL-2.0-or-later
"""The local bridge's server: a unix socket, and an initiator's session for each connection.

The kernel says which user the peer is (SO_PEERCRED of unix(7)), so that a client can name itself
and still not pretend to be another user's.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from bridges.access import peer_process
from bridges.listen import Listen
from bridges.listeners import Address
from bridges.local.hello import Hello
from bridges.local.hello_wire import HelloRequest
from bridges.local.session import CommandSession
from bridges.local.shared_session import SharedSession
from bridges.local.wire import SHARED_VERSION
from bridges.spin import Spinner
from bridges.stream import Stream
from bridges.stream_server import STOP_TIMEOUT_S, StreamServer
from scsi_backend.target.backend import Backend
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target

_log = logging.getLogger(__name__)

DRIVER = "scst_local"

_HELLO_TIMEOUT_S = 10.0


class LocalServer(StreamServer):
    """The local bridge on one unix socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        path: str,
        spinner: Spinner | None = None,
        *,
        hello_timeout_s: float = _HELLO_TIMEOUT_S,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        def connect(stream: Stream, listen: Listen) -> _Connection:
            timer = loop.call_later(hello_timeout_s, stream.abort, "no hello in time")
            return _Connection(backend, stream, timer)

        super().__init__(
            loop,
            backend.sgv,
            [Listen(Address(path=path))],
            connect,
            spinner=spinner,
            name_peer=_process_name,
            stop_timeout_s=stop_timeout_s,
        )


def _process_name(sock: socket.socket) -> str:
    pid, uid, _ = peer_process(sock)
    return f"local:uid={uid},pid={pid}"


class _Connection:
    """Leads one connection from the hello to commands."""

    def __init__(self, backend: Backend, stream: Stream, timer: asyncio.TimerHandle) -> None:
        self._backend = backend
        self._stream = stream
        # The process is for the log: who the initiator is outlasts it.
        self._user = stream.peer.partition(",")[0]
        self._timer = timer

    def start(self) -> None:
        """Wait for the hello."""
        hello = Hello(self._targets, self._user, self._stream.put, self._opened)
        self._stream.start(hello)

    def closed(self) -> None:
        """The connection has ended."""
        self._timer.cancel()

    def _targets(self) -> tuple[Target, ...]:
        return self._backend.targets_of(DRIVER)

    def _opened(self, session: Session, request: HelloRequest, version: int) -> None:
        self._timer.cancel()
        self._stream.initiator = session.initiator_name
        peer = self._stream.peer
        _log.info("%s: %r logged in, asking for %r", peer, request.label, request.name)

        def closed() -> None:
            _log.info("%s: %r logged out", peer, request.label)

        made = SharedSession if version == SHARED_VERSION else CommandSession
        self._stream.replace_session(made(self._stream, session, self._backend.sgv, closed))
