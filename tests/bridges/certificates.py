# SPDX-License-Identifier: GPL-2.0-or-later
"""A certificate authority for tests, and folders as qemu, libnbd and nbdkit want them.

Everything is made anew for each run: nothing here can expire on somebody's disk.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridges.tls import TlsCredentials

DAY = datetime.timedelta(days=1)
_NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0, tzinfo=None)
_SERVER_NAMES: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as files have it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, passphrase: bytes | None = None) -> bytes:
        """The key as files have it."""
        kind: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            kind = serialization.BestAvailableEncryption(passphrase)
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind
        )


def common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Authority:
    """A CA that issues whatever it is asked for."""

    def __init__(self, name: str = "the CA of a test") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(common_name(name), key, 365 * DAY).issuer_name(common_name(name))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, True)
        self.identity = Identity(builder.sign(key, hashes.SHA256()), key)

    def server(self, name: str = "localhost", valid: datetime.timedelta = DAY) -> Identity:
        """A server's certificate for this machine; of negative validity, it has expired."""
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        return self.issue(common_name(name), usage, _SERVER_NAMES, valid)

    def client(self, name: str = "alice", valid: datetime.timedelta = DAY) -> Identity:
        """A client's certificate; of negative validity, it has expired."""
        return self.issue(common_name(name), ExtendedKeyUsageOID.CLIENT_AUTH, (), valid)

    def issue(
        self,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName] = (),
        valid: datetime.timedelta = DAY,
    ) -> Identity:
        """Any certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, key, valid).issuer_name(self.identity.certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return Identity(builder.sign(self.identity.key, hashes.SHA256()), key)

    def revoke(self, *identities: Identity) -> bytes:
        """A revocation list as a file has it."""
        builder = x509.CertificateRevocationListBuilder()
        builder = builder.issuer_name(self.identity.certificate.subject)
        builder = builder.last_update(_NOW - DAY).next_update(_NOW + DAY)
        for identity in identities:
            revoked = x509.RevokedCertificateBuilder()
            revoked = revoked.serial_number(identity.certificate.serial_number)
            builder = builder.add_revoked_certificate(revoked.revocation_date(_NOW - DAY).build())
        crl = builder.sign(self.identity.key, hashes.SHA256())
        return crl.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: datetime.timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, public_key=key.public_key())
    end = _NOW + valid
    builder = builder.not_valid_before(min(_NOW, end) - DAY).not_valid_after(end)
    return builder.serial_number(x509.random_serial_number())


def write_server(folder: Path, authority: Authority, server: Identity | None = None) -> Path:
    """Fill a folder as a server wants it."""
    server = server or authority.server()
    folder.mkdir(exist_ok=True)
    (folder / "ca-cert.pem").write_bytes(authority.identity.certificate_pem)
    (folder / "server-cert.pem").write_bytes(server.certificate_pem)
    (folder / "server-key.pem").write_bytes(server.key_pem())
    return folder


def write_client(folder: Path, authority: Authority, client: Identity | None = None) -> Path:
    """Fill a folder as a client wants it, without a certificate if there is none."""
    folder.mkdir(exist_ok=True)
    (folder / "ca-cert.pem").write_bytes(authority.identity.certificate_pem)
    if client is not None:
        (folder / "client-cert.pem").write_bytes(client.certificate_pem)
        (folder / "client-key.pem").write_bytes(client.key_pem())
    return folder


def client_context(folder: Path) -> ssl.SSLContext:
    """What Python's ssl needs to be the client of such a folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "ca-cert.pem")
    if (folder / "client-cert.pem").exists():
        context.load_cert_chain(folder / "client-cert.pem", folder / "client-key.pem")
    return context


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def contexts(folder: Path) -> Contexts:
    """A server's and a client's context that trust each other; the client is ``alice``."""
    authority = Authority()
    write_server(folder, authority)
    client = client_context(write_client(folder, authority, authority.client()))
    client.check_hostname = False
    # Python hides by default whether the server said goodbye.
    client.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return TlsCredentials.load(folder, verify_peer=True).context(), client
