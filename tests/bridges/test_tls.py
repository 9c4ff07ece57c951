# SPDX-License-Identifier: GPL-2.0-or-later
"""Credentials from files, good and bad, read again while in use; and the names of initiators."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridges.tls import CredentialsError, TlsCredentials, initiator_name
from bridges.transport import Certificate
from tests.bridges.certificates import (
    DAY,
    Authority,
    Identity,
    client_context,
    write_client,
    write_server,
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    return write_server(tmp_path / "server", authority)


def meet(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands in memory and say a byte; return the server's and the client's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
    )
    for _ in range(4):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    ends[1].write(b"x")
    assert ends[0].read(1) == b"x"
    return ends


def certificate_of(authority: Authority, folder: Path, client: Identity) -> Certificate:
    """What the server sees of a client's certificate."""
    write_server(folder, authority)
    server = TlsCredentials.load(folder, verify_peer=True).context()
    seen = meet(server, client_context(write_client(folder, authority, client)))[0].getpeercert()
    assert seen
    return seen


class TestLoad:
    def test_server_proves_itself(self, folder: Path, authority: Authority, tmp_path: Path) -> None:
        server = TlsCredentials.load(folder, verify_peer=False).context()
        ends = meet(server, client_context(write_client(tmp_path, authority)))
        assert ends[1].version() == "TLSv1.3"
        assert ends[0].getpeercert() is None

    def test_client_must_prove_itself_if_that_is_wanted(
        self, folder: Path, authority: Authority, tmp_path: Path
    ) -> None:
        server = TlsCredentials.load(folder, verify_peer=True).context()
        nobody = client_context(write_client(tmp_path / "nobody", authority))
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            meet(server, nobody)
        alice = client_context(write_client(tmp_path / "alice", authority, authority.client()))
        assert meet(server, alice)[0].getpeercert()

    def test_terms_of_the_context(self, folder: Path) -> None:
        context = TlsCredentials.load(folder, verify_peer=False).context()
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.num_tickets == 0

    def test_revoked_client_is_refused(
        self, folder: Path, authority: Authority, tmp_path: Path
    ) -> None:
        alice, bob = authority.client("alice"), authority.client("bob")
        (folder / "ca-crl.pem").write_bytes(authority.revoke(bob))
        server = TlsCredentials.load(folder, verify_peer=True).context()
        meet(server, client_context(write_client(tmp_path / "alice", authority, alice)))
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
            meet(server, client_context(write_client(tmp_path / "bob", authority, bob)))

    def test_authority_is_not_needed_where_clients_are_not_asked(self, folder: Path) -> None:
        (folder / "ca-cert.pem").unlink()
        assert TlsCredentials.load(folder, verify_peer=False).context()

    @pytest.mark.parametrize("name", ["ca-cert.pem", "server-cert.pem", "server-key.pem"])
    def test_missing_file_is_named(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(CredentialsError) as caught:
            TlsCredentials.load(folder, verify_peer=True)
        assert str(caught.value) == f"{folder / name}: No such file or directory"

    @pytest.mark.parametrize("name", ["ca-cert.pem", "server-cert.pem", "server-key.pem"])
    def test_unreadable_file_is_named(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()
        with pytest.raises(CredentialsError) as caught:
            TlsCredentials.load(folder, verify_peer=True)
        assert str(caught.value) == f"{folder / name}: Is a directory"

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("ca-cert.pem", "expected certificates in PEM form"),
            ("ca-crl.pem", "expected a revocation list in PEM form"),
            ("server-cert.pem", "expected a certificate in PEM form"),
            ("server-key.pem", "expected a private key in PEM form"),
        ],
    )
    @pytest.mark.parametrize("text", [b"", b"\xff\x00nonsense"])
    def test_file_of_something_else_is_named(
        self, folder: Path, name: str, expected: str, text: bytes
    ) -> None:
        (folder / name).write_bytes(text)
        with pytest.raises(CredentialsError) as caught:
            TlsCredentials.load(folder, verify_peer=True)
        assert str(caught.value).startswith(f"{folder / name}: {expected}")

    def test_damaged_certificate_is_named(self, folder: Path) -> None:
        path = folder / "server-cert.pem"
        path.write_bytes(path.read_bytes().replace(b"M", b"", 1))
        with pytest.raises(CredentialsError, match=r"server-cert\.pem"):
            TlsCredentials.load(folder, verify_peer=False)

    def test_key_of_another_certificate_is_refused(
        self, folder: Path, authority: Authority
    ) -> None:
        (folder / "server-key.pem").write_bytes(authority.server().key_pem())
        with pytest.raises(CredentialsError) as caught:
            TlsCredentials.load(folder, verify_peer=False)
        key, certificate = folder / "server-key.pem", folder / "server-cert.pem"
        assert str(caught.value) == f"{key}: is not the key of {certificate}"

    def test_key_with_a_passphrase_is_refused_without_asking_for_it(
        self, folder: Path, authority: Authority
    ) -> None:
        server = authority.server()
        write_server(folder, authority, server)
        (folder / "server-key.pem").write_bytes(server.key_pem(b"secret"))
        with pytest.raises(CredentialsError) as caught:
            TlsCredentials.load(folder, verify_peer=False)
        path = folder / "server-key.pem"
        assert str(caught.value) == f"{path}: expected a key without a passphrase"

    def test_expired_server_certificate_is_only_a_warning(
        self, folder: Path, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_server(folder, authority, authority.server(valid=-DAY))
        assert TlsCredentials.load(folder, verify_peer=True).context()
        path = folder / "server-cert.pem"
        assert caplog.messages == [f"{path}: clients will refuse it: certificate has expired"]

    def test_clients_certificate_as_the_servers_is_only_a_warning(
        self, folder: Path, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_server(folder, authority, authority.client())
        assert TlsCredentials.load(folder, verify_peer=False).context()
        assert "server-cert.pem: clients will refuse it: unsuit" in caplog.text

    def test_good_certificate_is_nothing_to_write_about(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        TlsCredentials.load(folder, verify_peer=True)
        assert caplog.messages == []


def replace(path: Path, text: bytes) -> None:
    """Change a file as tools do, so that nobody sees half of it."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(text)
    os.replace(fresh, path)


class TestReload:
    def test_files_that_stay_are_read_once(self, folder: Path) -> None:
        credentials = TlsCredentials.load(folder, verify_peer=True)
        assert credentials.context() is credentials.context()

    @pytest.mark.parametrize("verify_peer", [True, False])
    def test_new_certificate_is_used_for_the_next_connection(
        self, folder: Path, authority: Authority, tmp_path: Path, verify_peer: bool
    ) -> None:
        credentials = TlsCredentials.load(folder, verify_peer=verify_peer)
        client = client_context(write_client(tmp_path / "client", authority, authority.client()))
        old = meet(credentials.context(), client)
        fresh = authority.server()
        write_server(folder, authority, fresh)
        new = meet(credentials.context(), client)
        served = [end.getpeercert(binary_form=True) for end in (old[1], new[1])]
        assert served[0] != served[1]
        # Who is connected stays so.
        old[0].write(b"y")
        assert old[1].read(1) == b"y"

    def test_revocation_list_that_appears_is_used(
        self, folder: Path, authority: Authority, tmp_path: Path
    ) -> None:
        credentials = TlsCredentials.load(folder, verify_peer=True)
        bob = authority.client("bob")
        client = client_context(write_client(tmp_path / "bob", authority, bob))
        meet(credentials.context(), client)
        (folder / "ca-crl.pem").write_bytes(authority.revoke(bob))
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
            meet(credentials.context(), client)

    def test_broken_files_keep_the_old_ones_in_use_and_are_told_of_once(
        self, folder: Path, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        credentials = TlsCredentials.load(folder, verify_peer=True)
        good = credentials.context()
        replace(folder / "server-key.pem", authority.server().key_pem())
        for _ in range(3):
            assert credentials.context() is good
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "server-key.pem: is not the key of" in caplog.text

    def test_files_that_are_whole_again_are_used(self, folder: Path, authority: Authority) -> None:
        credentials = TlsCredentials.load(folder, verify_peer=True)
        first = credentials.context()
        fresh = authority.server()
        replace(folder / "server-key.pem", fresh.key_pem())
        assert credentials.context() is first
        replace(folder / "server-cert.pem", fresh.certificate_pem)
        second = credentials.context()
        assert second is not first
        (folder / "server-cert.pem").unlink()
        assert credentials.context() is second
        replace(folder / "server-cert.pem", fresh.certificate_pem)
        assert credentials.context() is not second

    def test_reload_reads_whether_or_not_files_seem_changed(self, folder: Path) -> None:
        credentials = TlsCredentials.load(folder, verify_peer=True)
        first = credentials.context()
        assert credentials.reload()
        second = credentials.context()
        assert second is not first
        (folder / "ca-cert.pem").unlink()
        assert not credentials.reload()
        assert credentials.context() is second


def subject(*names: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in names])


ORGANIZATION = (NameOID.ORGANIZATION_NAME, "Example, Inc.")
UNIT = (NameOID.ORGANIZATIONAL_UNIT_NAME, "Storage")


class TestInitiatorName:
    @pytest.mark.parametrize(
        ("name", "alternatives", "expected"),
        [
            (subject((NameOID.COMMON_NAME, "alice")), [], "tls:CN=alice"),
            (subject(ORGANIZATION, (NameOID.COMMON_NAME, "bob")), [], "tls:CN=bob"),
            (
                subject((NameOID.COMMON_NAME, "carol")),
                [x509.DNSName("host.example")],
                "tls:CN=carol",
            ),
            (subject(UNIT), [x509.DNSName("a.example")], "tls:DNS=a.example"),
            (
                subject(),
                [x509.DirectoryName(subject(UNIT)), x509.RFC822Name("dave@example.org")],
                "tls:email=dave@example.org",
            ),
            (
                subject(ORGANIZATION, UNIT),
                [],
                "tls:organizationName=Example%2C%20Inc.,organizationalUnitName=Storage",
            ),
        ],
    )
    def test_common_name_then_alternative_name_then_subject(
        self,
        authority: Authority,
        tmp_path: Path,
        name: x509.Name,
        alternatives: list[x509.GeneralName],
        expected: str,
    ) -> None:
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        client = authority.issue(name, usage, alternatives)
        assert initiator_name(certificate_of(authority, tmp_path, client)) == expected

    def test_certificate_without_any_name_goes_by_its_number(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        client = authority.issue(subject(), ExtendedKeyUsageOID.CLIENT_AUTH)
        number = f"{client.certificate.serial_number:X}"
        name = initiator_name(certificate_of(authority, tmp_path, client))
        assert name.removeprefix("tls:serial=").lstrip("0") == number

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("two words", "tls:CN=two%20words"),
            ("100%", "tls:CN=100%25"),
            ("line\nfeed\0", "tls:CN=line%0Afeed%00"),
            ("Jürgen", "tls:CN=Jürgen"),
            ("no\N{NO-BREAK SPACE}break", "tls:CN=no%C2%A0break"),
            ("\N{RIGHT-TO-LEFT OVERRIDE}x", "tls:CN=%E2%80%AEx"),
        ],
    )
    def test_name_is_one_printable_word(self, name: str, expected: str) -> None:
        assert initiator_name({"subject": ((("commonName", name),),)}) == expected

    @pytest.mark.parametrize("letter", ["x", "ü", "\n"])
    def test_long_names_are_cut_and_still_told_apart(self, letter: str) -> None:
        texts = [letter * 300 + end for end in ("", "a", "b")]
        names = {initiator_name({"subject": ((("commonName", text),),)}) for text in texts}
        assert len(names) == 3
        assert {len(name.encode()) <= 223 for name in names} == {True}
        assert {name.startswith("tls:CN=") for name in names} == {True}

    def test_name_of_the_greatest_length_stays_as_it_is(self) -> None:
        text = "x" * (223 - len("tls:CN="))
        assert initiator_name({"subject": ((("commonName", text),),)}) == f"tls:CN={text}"
