# SPDX-License-Identifier: GPL-2.0-or-later
"""How the bytes of a stream connection leave and arrive: as they are, or under TLS.

Owns the socket. What the bytes mean, when to send and when to receive is the stream's business;
whom to trust is ``tls``'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

# A certificate as ssl.SSLSocket.getpeercert() shows it.
Certificate = Mapping[str, object]

_SOCKET_BUFFER_BYTES = 1 << 20
# A peer that is gone without a word is found out after two minutes, not two hours.
_TCP_OPTIONS = (
    (socket.TCP_KEEPIDLE, 60),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 6),
    (socket.TCP_USER_TIMEOUT, 120_000),
)
# RFC 8446, 5.1: the most that one record holds.
_RECORD_BYTES = 16 << 10
# Received in one call under TLS, where each record is a step of its own.
_GATHER_BYTES = 256 << 10
# Given to OpenSSL at once: it keeps a write's progress to itself until all of it has left, and
# until then the memory of the replies in it cannot be used again.
_WRITE_BYTES = 256 << 10


class SendFirstError(BlockingIOError):
    """Nothing can be received before the socket has taken what TLS itself has to send."""


class Transport(Protocol):
    """A connected socket that never blocks."""

    @property
    def has_pending(self) -> bool:
        """Whether there is more to receive at once that poll(2) does not tell of."""

    def recv_into(self, view: memoryview, /) -> int:
        """Receive; return how many bytes came, 0 after the peer's last.

        Fewer than there is room for mean that there is no more for now, or ``has_pending``.

        Raises BlockingIOError (SendFirstError) and OSError.
        """

    def send(self, views: Sequence[memoryview], /) -> int:
        """Send some of the bytes; return how many.

        After BlockingIOError the next call must begin with the same bytes. Raises OSError.
        """

    @property
    def send_file(self) -> Callable[[int, int, int], int] | None:
        """How to send some of a file's bytes without a copy; None where that is not to be had.

        Takes the file's descriptor, an offset and a length in bytes; returns how many bytes were
        sent. Raises BlockingIOError and OSError.
        """

    @property
    def send_file_from_bytes(self) -> int | None:
        """How many bytes ``send_file`` has to be given to cost less than a copy, if it can."""

    def fileno(self) -> int:
        """The descriptor; the same for the whole connection."""

    def say_goodbye(self) -> None:
        """Tell the peer that nothing more comes, if there is room for that and a way to tell."""

    def close(self) -> None:
        """Close the socket; the descriptor must not be watched any more."""


class PlainTransport:
    """Bytes as they are."""

    has_pending = False

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        _enlarge_buffers(sock)
        self._sock = sock
        # Not a method: a call less for each batch.
        self.recv_into: Callable[[memoryview], int] = sock.recv_into
        self.send_file: Callable[[int, int, int], int] | None = self._send_file
        self.send_file_from_bytes: int | None = _send_file_from_bytes(sock)

    def _send_file(self, fd: int, offset_bytes: int, length_bytes: int) -> int:
        count = os.sendfile(self._sock.fileno(), fd, offset_bytes, length_bytes)
        if count == 0:
            # The reply's header has promised more; only the connection's end can take that back.
            raise OSError(errno.EIO, "the file has become shorter")
        return count

    def send(self, views: Sequence[memoryview]) -> int:
        """See ``Transport``."""
        return self._sock.send(views[0]) if len(views) == 1 else self._sock.sendmsg(views)

    def send_descriptor(self, data: bytes, descriptor: int) -> int:
        """Send bytes and, with the first of them, a descriptor (unix(7)); return how many bytes.

        Raises BlockingIOError and OSError.
        """
        return socket.send_fds(self._sock, [data], [descriptor])

    def fileno(self) -> int:
        """See ``Transport``."""
        return self._sock.fileno()

    def say_goodbye(self) -> None:
        """See ``Transport``; closing says it."""

    def close(self) -> None:
        """See ``Transport``."""
        self._sock.close()

    def under_tls(self, context: ssl.SSLContext) -> TlsTransport:
        """Give the socket to TLS, in the server's part; this object is at its end.

        Raises OSError.
        """
        return TlsTransport(
            context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        )


class TlsTransport:
    """Bytes in TLS records. The handshake comes first, step by step."""

    # Encrypting copies anyway.
    send_file: Callable[[int, int, int], int] | None = None
    send_file_from_bytes: int | None = None

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self.has_pending = False
        self._has_ended = False
        # What went wrong behind bytes that were good.
        self._failure: OSError | None = None
        # What OpenSSL has taken in part.
        self._unsent: memoryview | bytes | None = None

    def shake_hands(self) -> None:
        """Go on with the handshake; it is over when this returns.

        Raises ssl.SSLWantReadError, ssl.SSLWantWriteError, and OSError when it has failed.
        """
        self._sock.do_handshake()

    @property
    def certificate(self) -> Certificate | None:
        """The peer's verified certificate; None if it was not asked for."""
        return self._sock.getpeercert() or None

    @property
    def description(self) -> str:
        """Version and cipher, for people."""
        cipher = self._sock.cipher()
        return f"{self._sock.version()} {cipher[0] if cipher else 'without a cipher'}"

    def recv_into(self, view: memoryview) -> int:
        """See ``Transport``; gathers what several records hold.

        An end without close_notify is an end: NBD's requests have lengths, so that a stream that
        somebody has cut off is as harmless as a peer that crashed.
        """
        self.has_pending = False
        if self._failure is not None:
            raise self._failure
        if self._has_ended:
            return 0
        end = min(len(view), _GATHER_BYTES)
        received = 0
        try:
            while received < end:
                count = self._sock.recv_into(view[received:end])
                if count == 0:
                    self._has_ended = self.has_pending = True
                    return received
                received += count
        except ssl.SSLWantReadError:
            if not received:
                raise BlockingIOError from None
            return received
        except ssl.SSLWantWriteError:
            # The answer to a KeyUpdate waits for room (RFC 8446, 4.6.3).
            self.has_pending = True
            if not received:
                raise SendFirstError from None
            return received
        except ssl.SSLZeroReturnError:
            self._has_ended = self.has_pending = True
            return received
        except OSError as error:
            if not received:
                raise
            self._failure = error
            self.has_pending = True
            return received
        self.has_pending = self._sock.pending() > 0
        return received

    def send(self, views: Sequence[memoryview]) -> int:
        """See ``Transport``; short pieces share a record."""
        data = self._unsent
        if data is None:
            data = _next_write(views)
        try:
            count = self._sock.send(data)
        except ssl.SSLWantWriteError:
            # SSL_write(3): it must be tried again with the same bytes, and no fewer.
            self._unsent = data
            raise BlockingIOError from None
        except ssl.SSLWantReadError as error:
            # Only another handshake could want that, and there is none: renegotiation is off and
            # TLS 1.3 knows no such thing. Neither sending nor receiving would bring an end to it.
            raise OSError(errno.EPROTO, "TLS wants to receive before it sends") from error
        self._unsent = None
        return count

    def fileno(self) -> int:
        """See ``Transport``."""
        return self._sock.fileno()

    def say_goodbye(self) -> None:
        """See ``Transport``: send close_notify; the peer's own is not waited for."""
        with contextlib.suppress(OSError):
            self._sock.unwrap()

    def close(self) -> None:
        """See ``Transport``."""
        self._unsent = None
        self._sock.close()


def _next_write(views: Sequence[memoryview]) -> memoryview | bytes:
    """The bytes of the next write: a long piece by itself, or short ones that fill a record."""
    first = views[0]
    if len(views) == 1 or len(first) >= _RECORD_BYTES:
        return first[:_WRITE_BYTES]
    pieces = []
    room = _RECORD_BYTES
    for view in views:
        pieces.append(view[:room])
        room -= len(pieces[-1])
        if room == 0:
            break
    return b"".join(pieces)


def _send_file_from_bytes(sock: socket.socket) -> int:
    """Measured with fio: what sendfile(2) saves on a unix socket comes later over TCP."""
    return 64 << 10 if sock.family == socket.AF_UNIX else 256 << 10


def _enlarge_buffers(sock: socket.socket) -> None:
    """Ask for room for several replies; the kernel grants what its limits allow."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _TCP_OPTIONS:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
