# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS credentials: the X.509 files of a folder, and the initiator that a certificate names.

The files have the names that qemu and nbdkit use, so that one folder serves all of them. There are
no sockets here.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bridges.initiator_name import bounded, escape
from bridges.transport import Certificate

_log = logging.getLogger(__name__)

CA_CERTIFICATE: Final = "ca-cert.pem"
CA_REVOKED: Final = "ca-crl.pem"
SERVER_CERTIFICATE: Final = "server-cert.pem"
SERVER_KEY: Final = "server-key.pem"
_FILES: Final = (CA_CERTIFICATE, CA_REVOKED, SERVER_CERTIFICATE, SERVER_KEY)

_PREFIX: Final = "tls:"

# What tells that a file is another than before, None for one that does not exist.
_Stamp = tuple[tuple[int, int, int, int] | None, ...]


class CredentialsError(Exception):
    """Credentials cannot be used; names the file and says what is wrong with it."""


class TlsCredentials:
    """What a server proves itself with, and by which CA clients must."""

    def __init__(self, folder: Path, *, verify_peer: bool) -> None:
        self.folder = folder
        self.verify_peer = verify_peer
        self._stamp = _stamp(folder)
        self._context = _load(folder, verify_peer)

    @classmethod
    def load(cls, folder: Path, verify_peer: bool) -> TlsCredentials:
        """Read ``server-cert.pem`` and ``server-key.pem``.

        With ``verify_peer`` also ``ca-cert.pem`` and, if there is one, ``ca-crl.pem``: clients must
        have a certificate of that CA. Otherwise they are not asked for one.

        Raises CredentialsError.
        """
        return cls(folder, verify_peer=verify_peer)

    def context(self) -> ssl.SSLContext:
        """What the next connection is to use: files that have changed are read again."""
        if _stamp(self.folder) != self._stamp:
            self.reload()
        return self._context

    def reload(self) -> bool:
        """Read the files again; tell whether they could be used.

        If not, the log says so, what was read before stays, and the files are not looked at again
        until they change or until the next ``reload``.
        """
        # Before reading: what changes meanwhile is then noticed the next time.
        self._stamp = _stamp(self.folder)
        try:
            self._context = _load(self.folder, self.verify_peer)
        except CredentialsError as error:
            _log.error("TLS credentials stay as they were: %s", error)
            return False
        _log.info("%s: TLS credentials read again", self.folder)
        return True


def _stamp(folder: Path) -> _Stamp:
    return tuple(map(_stamp_of_file, (folder / name for name in _FILES)))


def _stamp_of_file(path: Path) -> tuple[int, int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _load(folder: Path, verify_peer: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # proto.md, "TLS versions": at least 1.2.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation would make receiving wait for sending and the other way round.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # An end without close_notify is an end (see ``TlsTransport.recv_into``).
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    # A resumed session would not look at the client's certificate again; connections are too few
    # and too long for resuming to gain anything.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _load_server(context, folder / SERVER_CERTIFICATE, folder / SERVER_KEY)
    if verify_peer:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_ca(context, folder)
    return context


def _load_server(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    text = _read(certificate)
    if b"PRIVATE KEY" not in _read(key):
        raise CredentialsError(f"{key}: expected a private key in PEM form")

    def refuse() -> str:
        # Without this OpenSSL would ask the terminal.
        raise CredentialsError(f"{key}: expected a key without a passphrase")

    try:
        context.load_cert_chain(certificate, key, refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CredentialsError(f"{key}: is not the key of {certificate}") from error
        if b"BEGIN CERTIFICATE" not in text:
            message = f"{certificate}: expected a certificate in PEM form"
            raise CredentialsError(message) from error
        raise CredentialsError(f"{certificate}, {key}: {_words(error)}") from error
    fault = _fault_of(context, certificate)
    if fault is not None:
        _log.warning("%s: clients will refuse it: %s", certificate, fault)


def _load_ca(context: ssl.SSLContext, folder: Path) -> None:
    authority, revoked = folder / CA_CERTIFICATE, folder / CA_REVOKED
    _add_to_store(context, authority, "certificates")
    if revoked.exists():
        _add_to_store(context, revoked, "a revocation list")
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _add_to_store(context: ssl.SSLContext, path: Path, expected: str) -> None:
    _read(path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        message = f"{path}: expected {expected} in PEM form ({_words(error)})"
        raise CredentialsError(message) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsError(f"{path}: {error.strerror}") from error


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")


def _fault_of(context: ssl.SSLContext, certificate: Path) -> str | None:
    """What a client that trusts the server's certificate itself still finds wrong with it.

    Found out by a handshake in memory: ``ssl`` does not show the dates of one's own certificate.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = trusting.wrap_bio(to_client, to_server)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return str(error.verify_message)
        except ssl.SSLError as error:
            return _words(error)
    return None


def initiator_name(certificate: Certificate) -> str:
    """Name the initiator that a verified certificate stands for.

    ``tls:CN=NAME`` with the subject's first common name; without one ``tls:KIND=NAME`` with the
    first alternative name, such as ``tls:DNS=host.example``; else ``tls:`` and the whole subject,
    or ``tls:serial=NUMBER`` where that is empty, too. Blanks and the like are written, and
    long names cut, as in ``bridges.initiator_name``.
    """
    subject = list(_pairs(certificate.get("subject")))
    for kind, value in subject:
        if kind == "commonName":
            return bounded(f"{_PREFIX}CN={escape(value)}")
    for kind, value in _alternatives(certificate.get("subjectAltName")):
        return bounded(f"{_PREFIX}{escape(kind)}={escape(value)}")
    if not subject:
        subject = [("serial", str(certificate.get("serialNumber")))]
    parts = (f"{escape(kind)}={escape(value)}" for kind, value in subject)
    return bounded(_PREFIX + ",".join(parts))


def _pairs(names: object) -> Iterator[tuple[str, str]]:
    """The attributes of a distinguished name, whose relative names may have several."""
    if isinstance(names, tuple):
        for relative in names:
            yield from relative


def _alternatives(names: object) -> Iterator[tuple[str, str]]:
    """The alternative names that are text; a DirName is a distinguished name."""
    if isinstance(names, tuple):
        for kind, value in names:
            if isinstance(value, str):
                yield kind, value
