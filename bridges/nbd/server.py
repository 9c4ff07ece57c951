# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's NBD server: a handshake and a session for each connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from bridges.initiators import InitiatorPool
from bridges.listen import Listen, TlsMode
from bridges.nbd.exports import LunExport, LunExports
from bridges.nbd.handshake import Handshake
from bridges.nbd.negotiated import Negotiated
from bridges.nbd.offer import Export
from bridges.nbd.session import TransmissionSession
from bridges.spin import Spinner
from bridges.stream import Stream
from bridges.stream_server import StreamServer
from bridges.tls import TlsCredentials, initiator_name
from bridges.transport import Certificate
from scsi_backend.target.backend import Backend

_log = logging.getLogger(__name__)

_HANDSHAKE_TIMEOUT_S = 30.0


class NbdServer(StreamServer):
    """NBD on any number of addresses.

    ``credentials`` are what TLS needs where a listener has it; a client that proves who it is by a
    certificate is the initiator ``initiator_name`` of it, and else that of its address.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        listens: Iterable[Listen],
        spinner: Spinner | None = None,
        *,
        credentials: TlsCredentials | None = None,
    ) -> None:
        """Raises ValueError for a listener with TLS where there are no credentials."""
        listens = tuple(listens)
        for each in listens:
            if each.tls is not TlsMode.OFF and credentials is None:
                raise ValueError(f"{each.address}: TLS without credentials")
        pool = InitiatorPool(loop)

        def connect(stream: Stream, listen: Listen) -> _Connection:
            return _Connection(loop, backend, pool, stream, listen.tls, credentials)

        super().__init__(loop, backend.sgv, listens, connect, spinner=spinner)


class _Connection:
    """Leads one connection from the handshake to transmission."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        pool: InitiatorPool,
        stream: Stream,
        tls: TlsMode,
        credentials: TlsCredentials | None,
    ) -> None:
        self._loop = loop
        self._backend = backend
        self._pool = pool
        self._stream = stream
        self._credentials = credentials
        self._handshake = Handshake(
            LunExports(backend, pool, stream.peer, stream.host),
            stream.put,
            self._transmit,
            stream.handle_again,
            tls,
            self._start_tls,
            lambda: stream.is_full,
            lambda text: _log.warning("%s: refused: %s", stream.peer, text),
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

    def _start_tls(self) -> None:
        assert self._credentials is not None
        self._stream.start_tls(self._credentials.context(), self._secured)

    def _secured(self, certificate: Certificate | None) -> None:
        stream = self._stream
        name = stream.peer if certificate is None else initiator_name(certificate)
        _log.info("%s: TLS as initiator %s", stream.peer, name)
        stream.initiator = name
        exports = LunExports(self._backend, self._pool, name, stream.host)
        self._handshake.secured(exports)

    def _transmit(self, export: Export, negotiated: Negotiated) -> None:
        assert isinstance(export, LunExport)
        assert self._timer is not None
        self._timer.cancel()
        peer = self._stream.peer
        _log.info("%s: opened export %s", peer, export.name)

        def target_changed() -> None:
            if export.target.is_removed:
                # A disabled one may come back, and finds its clients where they were.
                _log.info("%s: closing: target %s is gone", peer, export.target.name)
                self._stream.end()

        end_watch = export.target.watch(target_changed)

        def closed() -> None:
            _log.info("%s: closed export %s", peer, export.name)
            end_watch()
            export.close()

        session = TransmissionSession(
            self._stream, export.client, self._backend.sgv, closed, negotiated
        )
        self._stream.replace_session(session)
