# SPDX-License-Identifier: GPL-2.0-or-later
"""The TLS handshake of one connection on an event loop, and what to call its failures.

Knows nothing of certificates' files (``tls``) nor of what comes before and after (``stream``).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from bridges.transport import Certificate, PlainTransport, TlsTransport
from bridges.watch import Watch

# Hears of the client's certificate: None if it was not asked for.
Secured = Callable[[Certificate | None], None]

_log = logging.getLogger(__name__)

# OpenSSL's reasons as people would say them; "ALERT" means that the client said so.
_REASONS: Final = MappingProxyType(
    {
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no client certificate",
        "WRONG_VERSION_NUMBER": "plaintext or wrong version number",
        "HTTP_REQUEST": "plaintext: an HTTP request",
        "UNSUPPORTED_PROTOCOL": "the client offers nothing from TLS 1.2 on",
        "NO_SHARED_CIPHER": "no cipher in common",
        "NO_SUITABLE_KEY_SHARE": "no key exchange in common",
        "NO_SUITABLE_SIGNATURE_ALGORITHM": "no signature algorithm in common",
        "TLSV1_ALERT_UNKNOWN_CA": "the client does not know the CA of this server's certificate",
        "SSLV3_ALERT_BAD_CERTIFICATE": "the client refuses this server's certificate",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client refuses this server's certificate",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client finds this server's certificate expired",
        "TLSV1_ALERT_PROTOCOL_VERSION": "the client refuses this version of TLS",
    }
)
_HUNG_UP: Final = "the client hung up"
# X509_V_ERR_ codes of chains that do not lead to the CA: issuer not found (2, 20), only the leaf
# (21), self-signed (18, 19).
_UNKNOWN_CA: Final = frozenset({2, 18, 19, 20, 21})


class TlsHandshake:
    """Watches the descriptor, for itself alone, from ``begin`` until the handshake has ended.

    Then ``secured(the client's certificate)`` or ``failed()`` is called, after a line in the log;
    neither is called after ``cancel``.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        peer: str,
        secured: Secured,
        failed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._context = context
        self._peer = peer
        self._secured = secured
        self._failed = failed
        self._transport: TlsTransport
        self._watch: Watch | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the socket is TLS's."""
        return self._watch is not None

    def begin(self, plain: PlainTransport) -> TlsTransport:
        """Take the socket over; the transport is for nobody else to use before the end.

        Raises OSError.
        """
        self._transport = transport = plain.under_tls(self._context)
        self._watch = Watch(self._loop, transport.fileno(), self._step, self._step)
        # Not at once: whoever calls has yet to take note of the transport.
        self._watch.start_reading()
        return transport

    def cancel(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.stop()

    def fail(self, reason: str) -> None:
        """End it without success."""
        self.cancel()
        _log.warning("%s: TLS handshake failed: %s", self._peer, reason)
        self._failed()

    def _step(self) -> None:
        assert self._watch is not None
        try:
            self._transport.shake_hands()
        except ssl.SSLWantReadError:
            self._watch.stop_writing()
            self._watch.start_reading()
        except ssl.SSLWantWriteError:
            self._watch.stop_reading()
            self._watch.start_writing()
        except OSError as error:
            self.fail(reason_of(error))
        else:
            self._watch.stop()
            _log.debug("%s: %s", self._peer, self._transport.description)
            self._secured(self._transport.certificate)


def reason_of(error: OSError) -> str:
    """Say in plain words why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _UNKNOWN_CA:
            return f"client certificate of an unknown CA ({error.verify_message})"
        return f"client certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return _HUNG_UP
    if isinstance(error, ssl.SSLError) and error.reason:
        return _REASONS.get(error.reason) or error.reason.lower().replace("_", " ")
    return error.strerror or str(error)
