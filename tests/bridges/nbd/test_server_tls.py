# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD under TLS on real sockets: Python's ssl and foreign clients, good, bad and hanging."""

from __future__ import annotations

import json
import logging
import random
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges.listen import Listen, TlsMode
from bridges.listeners import Address
from bridges.nbd.server import NbdServer
from bridges.tls import TlsCredentials
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.backend import Backend
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from tests.bridges.certificates import DAY, Authority, client_context, write_client, write_server
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.serving import DEADLINE_S, Serving
from tests.scsi_backend.fakes import pattern

BLOCK = 512
MIB = 1 << 20
TLS_REQUIRED = 0x80000005
OpenUnit = Callable[[Backend], LogicalUnit]


class Site:
    """A CA, the folders of a server and of clients, and a server of one disk."""

    def __init__(self, folder: Path, image: OpenUnit, tls: TlsMode, verify_peer: bool) -> None:
        self.folder = folder
        self.authority = Authority()
        self.server_folder = write_server(folder / "server", self.authority)
        self.alice = self.client_folder("alice", self.authority)
        self.nobody = write_client(folder / "nobody", self.authority)
        credentials = TlsCredentials.load(self.server_folder, verify_peer=verify_peer)
        self.serving = Serving({"disk": image}, folder / "nbd.sock", tls, credentials)

    def client_folder(self, name: str, authority: Authority, valid_days: int = 1) -> Path:
        client = authority.client(name, valid_days * DAY)
        return write_client(self.folder / name, self.authority, client)

    def start_tls(self, client: Client, folder: Path) -> Client:
        """Turn a connection to TLS; raises OSError.

        If the server ends it without goodbye, receiving will fail.
        """
        client.greet()
        client.send(proto.option(proto.STARTTLS))
        assert client.option_reply()[0] == proto.ACK
        context = client_context(folder)
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        client.sock = context.wrap_socket(
            client.sock, server_hostname="localhost", suppress_ragged_eofs=False
        )
        return client

    def is_refused(self, folder: Path) -> bool:
        """Whether a client of that folder is kept out."""
        with Client(self.serving.tcp()) as client:
            try:
                # TLS 1.3: the client has said all before it hears that it was refused.
                self.start_tls(client, folder).send(proto.go("disk"))
                client.option_reply()
            except (OSError, EOFError):
                return True
        return False

    def connect(self, folder: Path | None = None, export: str = "disk") -> Client:
        """Open an export under TLS."""
        client = self.start_tls(Client(self.serving.tcp()), folder or self.alice)
        client.send(proto.go(export))
        while True:
            kind, data = client.option_reply()
            if kind == proto.ACK:
                return client
            assert (kind, data[:1]) == (proto.REP_INFO, b"\0")

    def uri(self, folder: Path, scheme: str = "nbds") -> str:
        port = self.serving.server.addresses[0].port
        return f"{scheme}://localhost:{port}/disk?tls-certificates={folder}"

    def initiators(self) -> list[str]:
        """Who is logged in."""
        (target,) = self.serving.targets
        sessions = self.serving.call(lambda: target.sessions)
        return sorted(session.initiator_name for session in sessions)


Open = Callable[..., Site]


@pytest.fixture
def open_site(tmp_path: Path, image: OpenUnit) -> Iterator[Open]:
    sites: list[Site] = []

    def start(tls: TlsMode = TlsMode.REQUIRE, verify_peer: bool = True) -> Site:
        sites.append(Site(tmp_path, image, tls, verify_peer))
        return sites[-1]

    yield start
    for site in sites:
        site.serving.close()


@pytest.fixture
def site(open_site: Open) -> Site:
    """A server that wants TLS with a client certificate."""
    return open_site()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def qemu_arguments(site: Site, folder: Path) -> list[str]:
    """The disk as qemu's tools are told of it."""
    port = site.serving.server.addresses[0].port
    image = f"driver=nbd,host=localhost,port={port},export=disk,tls-creds=tls0"
    return [
        "--object",
        f"tls-creds-x509,id=tls0,dir={folder},endpoint=client",
        "--image-opts",
        image,
    ]


class TestService:
    def test_every_request_under_tls(self, site: Site) -> None:
        with site.connect() as client:
            payload = pattern(1, 128 << 10)
            client.write(MIB, payload)
            client.write(8 * MIB, payload[:BLOCK], proto.FUA)
            assert client.call(proto.FLUSH) == (0, b"")
            assert client.read(MIB, len(payload)) == payload
            assert client.call(proto.WRITE_ZEROES, MIB, 4096) == (0, b"")
            assert client.call(proto.TRIM, MIB + 4096, 4096) == (0, b"")
            assert client.read(MIB, 16384) == bytes(8192) + payload[8192:16384]
            client.leave()
        site.serving.until(site.serving.is_idle)

    @pytest.mark.parametrize("size_mib", [16, 32])
    def test_the_longest_payloads(self, site: Site, size_mib: int) -> None:
        payload = random.Random(1).randbytes(size_mib * MIB)
        with site.connect() as client:
            client.write(BLOCK, payload)
            assert client.read(BLOCK, len(payload)) == payload

    def test_many_small_requests_in_one_record_are_all_answered(self, site: Site) -> None:
        with site.connect() as client:
            client.write(0, pattern(3, 256 << 10))
            requests = [proto.request(proto.READ, n, n * BLOCK, BLOCK) for n in range(500)]
            assert len(b"".join(requests)) < 16384
            client.send(*requests)
            replies = [client.reply(BLOCK) for _ in requests]
        data = pattern(3, 256 << 10)
        expected = [(n, 0, data[n * BLOCK :][:BLOCK]) for n in range(500)]
        assert sorted(replies) == expected

    def test_writes_and_reads_in_one_pipeline(self, site: Site) -> None:
        chooser = random.Random(4)
        payloads = {n: chooser.randbytes(BLOCK * chooser.randrange(1, 300)) for n in range(1, 100)}
        with site.connect() as client:
            client.send(*(proto.write(n, n * 300 * BLOCK, payloads[n]) for n in payloads))
            assert sorted(client.reply()[:2] for _ in payloads) == [(n, 0) for n in payloads]
            for number, payload in payloads.items():
                assert client.read(number * 300 * BLOCK, len(payload)) == payload

    def test_disconnecting_says_goodbye(self, site: Site) -> None:
        with site.connect() as client:
            client.send(proto.request(proto.DISC, 0))
            assert client.is_ended()

    def test_stopping_ends_those_who_have_not_chosen_yet(self, site: Site) -> None:
        with site.start_tls(Client(site.serving.tcp()), site.alice) as client:
            stopping = site.serving.begin_stop()
            assert client.is_ended()
            stopping.result(DEADLINE_S)

    def test_tls_without_credentials_is_no_server(self, site: Site) -> None:
        listens = [Listen(Address(host="127.0.0.1"), TlsMode.ON)]
        with pytest.raises(ValueError, match=r"127\.0\.0\.1:0: TLS without credentials"):
            NbdServer(site.serving.loop, site.serving.backend, listens)


class TestInitiators:
    def test_exports_are_those_of_the_certificate_and_the_host(self, site: Site) -> None:
        (target,) = site.serving.targets
        bob = site.client_folder("bob", site.authority)

        def group(*patterns: str, luns: set[int]) -> InitiatorGroup:
            parsed = tuple(InitiatorPattern.parse(each) for each in patterns)
            entries = dict.fromkeys(luns, target.luns[0])
            return InitiatorGroup(patterns[0], parsed, entries)

        def names(folder: Path) -> list[str]:
            with site.start_tls(Client(site.serving.tcp()), folder) as client:
                client.send(proto.option(proto.LIST))
                found = []
                while (reply := client.option_reply())[0] != proto.ACK:
                    found.append(reply[1][4:].removesuffix(b"disk").decode())
                return found

        alices = group("tls:CN=alice", luns={0, 2})
        site.serving.call(lambda: target.configure(groups=[alices]))
        assert names(site.alice) == ["disk", "disk/2"]
        assert names(bob) == ["disk"]
        with site.connect(site.alice, "disk/2"):
            assert site.initiators() == ["tls:CN=alice"]
        hosts = group("127.0.0.0/8", luns={7})
        site.serving.call(lambda: target.configure(groups=[alices, hosts]))
        assert names(site.alice) == ["disk", "disk/2"]
        assert names(bob) == ["disk/7"]
        others = group("10.0.0.0/8", "!127.0.0.0/8", luns={9})
        site.serving.call(lambda: target.configure(groups=[others]))
        assert names(bob) == ["disk"]

    def test_before_tls_the_exports_are_those_of_the_address(self, open_site: Open) -> None:
        site = open_site(TlsMode.ON)
        (target,) = site.serving.targets
        groups = [
            InitiatorGroup(pattern, (InitiatorPattern.parse(pattern),), {lun: target.luns[0]})
            for pattern, lun in (("127.0.0.1", 1), ("tls:*", 2))
        ]
        # The network is found first, whatever the certificate says.
        site.serving.call(lambda: target.configure(groups=groups))
        with Client(site.serving.tcp()).begin("disk/1"), site.connect(site.alice, "disk/1"):
            pass
        site.serving.call(lambda: target.configure(groups=groups[::-1]))
        with Client(site.serving.tcp()).begin("disk/1"), site.connect(site.alice, "disk/2"):
            assert site.initiators() == ["127.0.0.1", "tls:CN=alice"]
            sessions = site.serving.call(lambda: target.sessions)
            assert {str(session.host) for session in sessions} == {"127.0.0.1"}

    def test_certificates_name_the_initiators(self, site: Site) -> None:
        bob = site.client_folder("bob", site.authority)
        with site.connect(), site.connect(), site.connect(bob):
            assert site.initiators() == ["tls:CN=alice", "tls:CN=bob"]

    def test_connections_are_counted_by_initiator(self, open_site: Open) -> None:
        site = open_site(TlsMode.ON)
        plain = Client(site.serving.tcp()).begin("disk")
        with site.connect(), site.connect(), plain:
            peers = site.serving.call(lambda: dict(site.serving.server.peers))
        assert peers == {"tls:CN=alice": 2, "127.0.0.1": 1}

    def test_addresses_name_those_who_are_not_asked(self, open_site: Open) -> None:
        site = open_site(verify_peer=False)
        with site.connect(), site.connect(site.nobody):
            assert site.initiators() == ["127.0.0.1"]

    def test_optional_tls_leaves_others_as_they_are(self, open_site: Open) -> None:
        site = open_site(TlsMode.ON)
        with site.connect() as secure, Client(site.serving.tcp()).begin("disk") as plain:
            assert site.initiators() == ["127.0.0.1", "tls:CN=alice"]
            secure.write(0, pattern(1, 4096))
            assert plain.read(0, 4096) == pattern(1, 4096)


class TestRefusal:
    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("nobody", "no client certificate"),
            ("stranger", "client certificate of an unknown CA"),
            ("expired", "client certificate: certificate has expired"),
        ],
    )
    def test_bad_client_certificate(
        self, site: Site, caplog: pytest.LogCaptureFixture, kind: str, reason: str
    ) -> None:
        folder = {
            "nobody": lambda: site.nobody,
            "stranger": lambda: site.client_folder("eve", Authority("another")),
            "expired": lambda: site.client_folder("old", site.authority, -1),
        }[kind]()
        assert site.is_refused(folder)
        site.serving.until(site.serving.is_idle)
        (line,) = warnings(caplog)
        assert line.startswith(f"127.0.0.1: TLS handshake failed: {reason}")

    def test_plaintext_client_is_told_that_tls_is_required(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Client(site.serving.tcp()) as client:
            client.greet()
            client.send(proto.go("disk"))
            assert client.option_reply()[0] == TLS_REQUIRED
        refusal = "refused: TLS is required: send STARTTLS first"
        assert warnings(caplog) == [f"127.0.0.1: {refusal}"]
        seen = run("qemu-img", "info", site.uri(site.alice, "nbd").partition("?")[0])
        assert seen.returncode != 0
        assert "TLS" in seen.stderr

    def test_plaintext_where_tls_was_agreed(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Client(site.serving.tcp()) as client:
            client.greet()
            client.send(proto.option(proto.STARTTLS))
            assert client.option_reply()[0] == proto.ACK
            client.send(proto.go("disk"))
            # An alert of TLS may come before the end.
            while not client.is_ended():
                continue
        site.serving.until(site.serving.is_idle)
        (line,) = warnings(caplog)
        assert line.startswith("127.0.0.1: TLS handshake failed: plaintext or wrong version number")

    @pytest.mark.parametrize("sent_bytes", [0, 1, 100])
    def test_client_that_hangs_in_the_handshake_is_cut_off_and_harms_nobody(
        self, site: Site, sent_bytes: int
    ) -> None:
        to_client, hello = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = client_context(site.alice)
        hanging = context.wrap_bio(to_client, hello, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            hanging.do_handshake()
        with Client(site.serving.tcp()) as client, site.connect() as other:
            client.greet()
            client.send(proto.option(proto.STARTTLS))
            assert client.option_reply()[0] == proto.ACK
            client.send(hello.read()[:sent_bytes])
            for number in range(50):
                other.write(number * BLOCK, pattern(number, BLOCK))
            assert site.serving.call(lambda: site.serving.server.connections) == 2
            site.serving.skip(30.1)
            assert client.is_ended()
            site.serving.until(lambda: site.serving.server.connections == 1)
            assert other.read(0, BLOCK) == pattern(0, BLOCK)


class TestReload:
    def test_new_certificates_are_for_new_connections(self, site: Site) -> None:
        with site.connect() as before:
            fresh = site.authority.server()
            write_server(site.server_folder, site.authority, fresh)
            with site.connect() as after:
                shown = [
                    client.sock.getpeercert(binary_form=True)
                    for client in (before, after)
                    if isinstance(client.sock, ssl.SSLSocket)
                ]
                assert (
                    shown[0] != shown[1] == ssl.PEM_cert_to_DER_cert(fresh.certificate_pem.decode())
                )
                for client in (before, after):
                    assert client.read(0, BLOCK) == bytes(BLOCK)

    def test_client_that_was_revoked_meanwhile_cannot_come_again(self, site: Site) -> None:
        bob = site.authority.client("bob")
        folder = write_client(site.folder / "bob", site.authority, bob)
        with site.connect(folder) as client:
            (site.server_folder / "ca-crl.pem").write_bytes(site.authority.revoke(bob))
            assert site.is_refused(folder)
            assert client.read(0, BLOCK) == bytes(BLOCK)


class TestForeignClients:
    def test_nbdinfo(self, site: Site) -> None:
        shown = run("nbdinfo", "--json", site.uri(site.alice))
        assert shown.returncode == 0, shown.stderr
        facts = json.loads(shown.stdout)
        assert facts["TLS"] is True
        assert facts["exports"][0]["export-size"] == 64 * MIB

    def test_nbdinfo_without_a_certificate_is_refused(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert run("nbdinfo", site.uri(site.nobody)).returncode != 0
        assert warnings(caplog) == ["127.0.0.1: TLS handshake failed: no client certificate"]

    def test_qemu_img(self, site: Site) -> None:
        shown = run("qemu-img", "info", "--output=json", *qemu_arguments(site, site.alice))
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)["virtual-size"] == 64 * MIB

    def test_qemu_img_without_a_certificate_is_refused(self, site: Site) -> None:
        shown = run("qemu-img", "info", *qemu_arguments(site, site.nobody))
        assert shown.returncode != 0

    def test_nbdcopy_both_ways(self, site: Site) -> None:
        there, back = site.folder / "there.img", site.folder / "back.img"
        there.write_bytes(random.Random(5).randbytes(64 * MIB))
        for source, target in ((there, site.uri(site.alice)), (site.uri(site.alice), back)):
            copied = run("nbdcopy", str(source), str(target))
            assert copied.returncode == 0, copied.stderr
        assert there.read_bytes() == back.read_bytes()

    def test_qemu_img_copies_both_ways(self, site: Site) -> None:
        there, back = site.folder / "there.img", site.folder / "back.img"
        there.write_bytes(random.Random(6).randbytes(64 * MIB))
        credentials, disk = qemu_arguments(site, site.alice)[1], qemu_arguments(site, site.alice)[3]
        options = ["-n", "--object", credentials]
        to_disk = ["--target-image-opts", "-f", "raw", str(there), disk]
        copied = run("qemu-img", "convert", *options, *to_disk)
        assert copied.returncode == 0, copied.stderr
        options = ["--object", credentials, "--image-opts", "-O", "raw"]
        copied = run("qemu-img", "convert", *options, disk, str(back))
        assert copied.returncode == 0, copied.stderr
        assert there.read_bytes() == back.read_bytes()

    @pytest.mark.parametrize("version", ["1.2", "1.3"])
    def test_gnutls_of_either_version(
        self, site: Site, version: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        credentials, *image = qemu_arguments(site, site.alice)[1:]
        priority = f"priority=NORMAL:-VERS-ALL:+VERS-TLS{version}"
        with caplog.at_level(logging.DEBUG, "bridges.tls_handshake"):
            shown = run("qemu-img", "info", "--object", f"{credentials},{priority}", *image)
        assert shown.returncode == 0, shown.stderr
        assert f"127.0.0.1: TLSv{version} " in caplog.text
