# SPDX-License-Identifier: GPL-2.0-or-later
"""One stream connection on an event loop: bytes in batches, a session in between, bytes out.

Each wake-up reads as much as the socket and the chunk hold, lets the session handle every whole
message of it, and sends all replies together. The session is free of sockets; it takes a
memoryview and says how much of it it has used. Payloads too long for the chunk are received
straight into memory that the session provides.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from time import perf_counter

from bridges import spin
from bridges.buffers import Chunk, Outgoing
from bridges.incoming import Incoming
from bridges.spin import Spinner
from bridges.stream_session import PeerError, Session
from bridges.tls_handshake import Secured, TlsHandshake
from bridges.transport import Certificate, PlainTransport, SendFirstError, Transport
from bridges.watch import Watch
from scsi_backend.io.located import FileRange
from scsi_backend.io.sgv import SgvCache
from scsi_backend.target.initiator_pattern import Host

_log = logging.getLogger(__name__)

# A batch that grows beyond this leaves before the rest of it is handled: the peer can work on it
# meanwhile, and the memory is still in the processor's cache when it is used again.
_SEND_EARLY_BYTES = 128 << 10
# Replies not yet taken by the peer, whether they are complete or wait for the medium, and payloads
# not yet written; reading stops at this much.
MAX_PENDING_BYTES = 16 << 20
# What a request under way takes besides its data.
_REQUEST_BYTES = 2 << 10
# How long a peer may take for the last replies of a connection that is ending.
_LINGER_S = 10.0
# Bytes read, and bytes sent, in one wake-up before other connections get their turn. A peer that
# takes bytes of files as fast as they are sent could otherwise keep the loop for itself.
_TURN_BYTES = 4 << 20
_MAX_PIECES = 64


class Stream:
    """Owns the transport, what was received, and the replies; ``host`` is a network peer's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        sgv: SgvCache,
        on_closed: Callable[[Stream], None],
        peer: str,
        spinner: Spinner | None = None,
        *,
        host: Host | None = None,
        max_pending_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        self._loop = loop
        self._transport: Transport = PlainTransport(sock)
        # TLS takes the descriptor over; it stays the same.
        self._watch = Watch(loop, sock.fileno(), self._readable, self._writable)
        self._on_closed = on_closed
        self.peer, self.host = peer, host
        # Another name than the peer's where it has proved, or said, who it is.
        self.initiator = peer
        self._spinner = spinner
        self._max_pending_bytes = max_pending_bytes
        self._received_bytes = 0
        self.out = Outgoing(sgv)
        # Payload bytes that commands in progress still use.
        self.held_bytes = 0
        self._incoming = Incoming(sgv)
        self._session: Session
        self._is_in_batch = False
        self._flush_scheduled = False
        self._send_budget = _TURN_BYTES
        # Receiving waits until the socket takes more; a turn comes that poll(2) will not ask for.
        self._must_send_first = False
        self._turn_scheduled = False
        self._is_ending = False
        self._is_closed = self._is_finished = False
        self._linger: asyncio.TimerHandle | None = None
        # The handshake that is to begin once everything is sent, or has begun.
        self._tls: TlsHandshake | None = None

    def start(self, session: Session) -> None:
        """Begin to receive for ``session``."""
        self._session = session
        self._read_more()

    def replace_session(self, session: Session) -> None:
        """Hand the connection to another session; bytes not used so far go to it.

        The old session's ``closed`` is not called.
        """
        self._session = session

    def start_tls(self, context: ssl.SSLContext, done: Secured) -> None:
        """Send what is queued, shake hands as a TLS server, and go on under TLS.

        The session gets nothing more before ``done`` is called with the client's certificate, or
        None if it was not asked for one. A handshake that fails ends the connection.
        """

        def secured(certificate: Certificate | None) -> None:
            self._tls = None
            self._batch(partial(done, certificate))

        self._watch.stop_reading()
        failed = partial(self.abort, "no TLS")
        self._tls = TlsHandshake(self._loop, context, self.peer, secured, failed)
        self.schedule_flush()

    @property
    def is_full(self) -> bool:
        """Whether the peer must take replies before more of its requests are handled."""
        incoming = self._incoming
        pending = self.out.used_bytes + self.held_bytes + incoming.kept_bytes
        pending += self._session.open_requests * _REQUEST_BYTES
        if pending < self._max_pending_bytes:
            return self._is_closed
        # Commands may have let go of chunks since they were counted.
        pending -= incoming.kept_bytes
        incoming.count_kept()
        return pending + incoming.kept_bytes >= self._max_pending_bytes or self._is_closed

    @property
    def incoming(self) -> Chunk:
        """The chunk in which the bytes lie that the session is shown."""
        return self._incoming.chunk

    def commit(self, chunk: Chunk, start: int, end: int) -> None:
        """Queue a reply that was reserved in ``out``."""
        self.out.commit(chunk, start, end)
        if not self._is_in_batch:
            self.schedule_flush()
        elif self.out.queued_bytes >= _SEND_EARLY_BYTES and not self._watch.is_writing:
            self._send()

    @property
    def send_file_from_bytes(self) -> int | None:
        """From which length on ``commit_with_file`` costs less than a copy; None for never."""
        return self._transport.send_file_from_bytes

    def commit_with_file(
        self, chunk: Chunk, start: int, end: int, where: FileRange, length_bytes: int
    ) -> None:
        """Queue a reply that was reserved in ``out``, and bytes of a file behind it."""
        self.out.commit(chunk, start, end)
        self.out.commit_file(where, length_bytes)
        if not self._is_in_batch:
            self.schedule_flush()
        elif self.out.queued_bytes >= _SEND_EARLY_BYTES and not self._watch.is_writing:
            self._send()

    def put(self, data: bytes) -> None:
        """Queue a short reply."""
        start = self.out.reserve(len(data))
        end = start + len(data)
        chunk = self.out.chunk
        chunk.view[start:end] = data
        self.commit(chunk, start, end)

    def put_with_descriptor(self, data: bytes, descriptor: int) -> bool:
        """Send a short reply and a descriptor, unless others wait; tell whether it went."""
        transport = self._transport
        if self.out.queued_bytes or self._is_closed or not isinstance(transport, PlainTransport):
            return False
        try:
            return transport.send_descriptor(data, descriptor) == len(data)
        except OSError:
            return False

    def schedule_flush(self) -> None:
        """Send, and look whether anything else is to be done, once this batch is over."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def handle_again(self) -> None:
        """Offer the session the bytes that it left, now that it has done what it waited for."""
        self._loop.call_soon(self._batch, self._handle)

    def end(self) -> None:
        """Take no more requests; close when those under way are answered."""
        if not self._is_ending:
            self._is_ending = True
            self._watch.stop_reading()
            self.schedule_flush()

    def abort(self, reason: str) -> None:
        """Close without answering; buffers go back when the last command has let go of them."""
        if self._is_closed:
            return
        self._is_closed = True
        _log.debug("%s: %s", self.peer, reason)
        self._watch.stop()
        if self._linger is not None:
            self._linger.cancel()
        if self._tls is not None:
            self._tls.cancel()
        self._transport.close()
        self._finish_if_idle()

    def _finish_if_idle(self) -> None:
        # While a batch is handled the session still uses the buffers.
        if self._is_finished or self._is_in_batch or self._session.open_requests:
            return
        self._is_finished = True
        self.out.close()
        self._incoming.close()
        self._session.closed()
        self._on_closed(self)

    def _readable(self) -> None:
        self._batch(self._receive_turn)
        spinner = self._spinner
        if spinner is not None and spinner.woke(self):
            self._spin(spinner)

    def _spin(self, spinner: Spinner) -> None:
        """Look for further requests for a short while (see ``spin``)."""
        rounds = spin.MAX_ROUNDS
        deadline_s = perf_counter() + spin.WAIT_S
        while rounds and self._watch.is_reading and not self._session.open_requests:
            before = self._received_bytes
            self._batch(self._receive_turn)
            now_s = perf_counter()
            if self._received_bytes != before:
                rounds -= 1
                deadline_s = now_s + spin.WAIT_S
            elif now_s > deadline_s:
                spinner.missed()
                return
            else:
                spin.pause()

    def _batch(self, work: Callable[[], None]) -> None:
        """Do ``work``, then send what came of it together."""
        if self._is_closed:
            return
        self._is_in_batch = True
        try:
            work()
        except SendFirstError:
            self._must_send_first = True
            self._watch.stop_reading()
            self._watch.start_writing()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.abort(f"receive failed: {error}")
        except PeerError as error:
            _log.warning("%s: closing: %s", self.peer, error)
            # What was answered before the error is still sent.
            self.end()
        except Exception:
            _log.exception("%s: session failed", self.peer)
            self.abort("internal error")
        finally:
            self._is_in_batch = False
        self._flush_now()

    def _receive_turn(self) -> None:
        budget = _TURN_BYTES
        transport = self._transport
        while budget > 0 and self._watch.is_reading:
            direct = self._session.direct
            if direct is not None:
                count = transport.recv_into(direct)
            else:
                window = self._incoming.window(self._session.receive_limit_bytes)
                count = transport.recv_into(window)
            if count == 0:
                # The peer may still read (shutdown(2) of one direction); if not, sending will tell.
                self.end()
                return
            budget -= count
            self._received_bytes += count
            if direct is not None:
                self._direct_filled(direct, count)
                continue
            self._incoming.received(count)
            was_filled = count == len(window)
            self._handle()
            # A transport that gave less than there was room for is empty, or says so.
            if not was_filled and self._session.direct is None and not transport.has_pending:
                return
        if transport.has_pending and self._watch.is_reading:
            self._schedule_turn()

    def _direct_filled(self, direct: memoryview, count: int) -> None:
        if count < len(direct):
            self._session.direct = direct[count:]
            return
        self._session.direct_received()

    def _handle(self) -> None:
        """Let the session use what has come in, again if it was replaced on the way."""
        incoming = self._incoming
        while incoming.unused_bytes and not self._is_ending:
            session = self._session
            incoming.use(session.receive(incoming.unused))
            if session is self._session:
                break
        if self._session.wants_close:
            self.end()
        elif self.is_full and self._session.direct is None:
            # A payload under way is received to its end: nothing else would let go of its memory.
            self._watch.stop_reading()

    def _flush(self) -> None:
        self._flush_scheduled = False
        self._flush_now()

    def _flush_now(self) -> None:
        self._send_budget = _TURN_BYTES
        if self.out.queued_bytes and not self._watch.is_writing and not self._is_closed:
            self._send()
        if self._is_closed:
            self._finish_if_idle()
        elif self._is_ending:
            if self._session.open_requests == 0:
                self._close_when_sent()
        elif self._tls is not None:
            if self.out.queued_bytes == 0 and not self._tls.has_begun:
                self._begin_tls(self._tls)
        elif not self._watch.is_reading and not self.is_full and not self._must_send_first:
            # What waited while the stream was full comes first: what is received next may be the
            # end.
            self.handle_again()
            self._read_more()

    def _close_when_sent(self) -> None:
        if self.out.queued_bytes == 0:
            if self._tls is None:
                self._transport.say_goodbye()
            self.abort("done")
        elif self._linger is None:
            self._linger = self._loop.call_later(
                _LINGER_S, self.abort, "the peer did not take its last replies"
            )

    def _send(self) -> None:
        out = self.out
        try:
            while out.queued_bytes:
                if self._send_budget <= 0:
                    # There may be room: the next turn tells.
                    self._watch.start_writing()
                    return
                file, send_file = out.file, self._transport.send_file
                if file is None or send_file is None:
                    count = self._transport.send(out.views(_MAX_PIECES))
                else:
                    length = min(file.end - file.start, self._send_budget)
                    count = send_file(file.fd, file.start, length)
                out.sent(count)
                self._send_budget -= count
        except (BlockingIOError, InterruptedError):
            self._watch.start_writing()
        except OSError as error:
            self.abort(f"send failed: {error}")

    def _writable(self) -> None:
        self._must_send_first = False
        self._watch.stop_writing()
        self._flush_now()

    def _begin_tls(self, handshake: TlsHandshake) -> None:
        assert isinstance(self._transport, PlainTransport)
        if self._incoming.unused_bytes:
            # Whoever is between could have put them there (the kind of CVE-2021-3716).
            handshake.fail("bytes came in plain text before it")
            return
        try:
            self._transport = handshake.begin(self._transport)
        except OSError as error:
            handshake.fail(str(error))

    def _read_more(self) -> None:
        self._watch.start_reading()
        if self._transport.has_pending:
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        self._batch(self._receive_turn)
