# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS with X.509 certificates through the daemon: libnbd's and qemu's tools, good and bad.

One port wants TLS, one offers it, one has none; clients must have a certificate. Pre-shared keys
are nbdkit's, see ``test_nbdkit_tls``.
"""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bridges.certificates import DAY, Authority, Identity, write_client, write_server
from tests.bridges.daemon_process import DaemonProcess, configure, daemon, reserved_port, until
from tests.interop.doors import MIB, PYTHON, TOOL_TIMEOUT_S, Tools, program

SIZE = 16 * MIB
MODES = ("require", "on", "off")
EXPIRED = -DAY
TLS_FAILED = "bridges.tls_handshake: 127.0.0.1: TLS handshake failed: "
# Reads a block before and after a line on its standard input.
HOLDER = """\
import nbd, sys
handle = nbd.NBD()
handle.set_uri_allow_local_file(True)
handle.connect_uri(sys.argv[1])
assert handle.get_tls_negotiated() == sys.argv[1].startswith("nbds")
before = handle.pread(4096, 0)
print("open", flush=True)
sys.stdin.readline()
assert handle.pread(4096, 0) == before
handle.shutdown()
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A daemon, the authority that it trusts, and folders of clients by name."""

    process: DaemonProcess
    folder: Path
    authority: Authority
    ports: dict[str, int]

    @property
    def image(self) -> Path:
        """What is served."""
        return self.folder / "disk.img"

    def client(
        self, name: str, authority: Authority | None = None, identity: Identity | None = None
    ) -> Path:
        """The folder of a client who trusts an authority, the daemon's by default."""
        return write_client(self.folder / name, authority or self.authority, identity)

    def alice(self, name: str = "alice") -> Path:
        """The folder of somebody who is let in."""
        return self.client(name, identity=self.authority.client(name))

    def uri(self, mode: str, client: Path | None = None) -> str:
        """The disk at one of the ports, with TLS for a client with a folder."""
        if client is None:
            return f"nbd://127.0.0.1:{self.ports[mode]}/t"
        # By name, so that libnbd and qemu compare it with that in the certificate.
        return f"nbds://localhost:{self.ports[mode]}/t?tls-certificates={client}"

    def qemu(self, mode: str, client: Path) -> tuple[str, str, str, str]:
        """The same, in qemu's words."""
        server = f"driver=nbd,host=localhost,port={self.ports[mode]},export=t,tls-creds=t0"
        credentials = f"tls-creds-x509,id=t0,endpoint=client,dir={client}"
        return ("--object", credentials, "--image-opts", server)

    def logs(self, line: str) -> None:
        """Wait for a line of the daemon's log."""
        until(lambda: line in self.process.errors, f"the log has {line!r}")

    def has_logged(self, words: str) -> bool:
        """Whether the log has these words so far."""
        return words in self.process.errors


def _section(folder: Path, ports: dict[str, int]) -> str:
    listens = "".join(
        f"listen 127.0.0.1:{port} {{\ntls {mode}\n}}\n" for mode, port in ports.items()
    )
    terms = f"tls_certificates {folder / 'server'}\ntls_verify_peer 1\n"
    return f"TARGET_DRIVER nbd {{\n{terms}{listens}TARGET t {{\nLUN 0 d\nenabled 1\n}}\n}}\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A daemon with a disk of random data; it must end well, whatever its clients did."""
    authority = Authority()
    write_server(tmp_path / "server", authority)
    (tmp_path / "disk.img").write_bytes(random.Random(8).randbytes(SIZE))
    with ExitStack() as stack:
        ports = {mode: stack.enter_context(reserved_port()) for mode in MODES}
        process = stack.enter_context(daemon(configure(tmp_path, _section(tmp_path, ports))))
        yield Site(process, tmp_path, authority, ports)
        assert process.stop(signal.SIGTERM) == 0, process.errors
        assert "Traceback" not in process.errors, process.errors


def _is_refused(tools: Tools, site: Site, client: Path, mode: str = "require") -> None:
    """nbdinfo is; and the next client with a good certificate is not."""
    done = tools.try_run("nbdinfo", site.uri(mode, client))
    assert (done.returncode, done.stdout) == (1, "")
    assert tools.run("nbdinfo", "--size", site.uri(mode, site.alice())) == f"{SIZE}\n"


@pytest.mark.parametrize("mode", ["require", "on"])
def test_nbdinfo_and_qemu_img_see_the_disk(tools: Tools, site: Site, mode: str) -> None:
    alice = site.alice()
    facts = tools.run_json("nbdinfo", "--json", site.uri(mode, alice))
    assert (facts["TLS"], facts["structured"]) == (True, True)
    assert facts["exports"][0]["export-size"] == SIZE
    assert tools.try_run("nbdinfo", "--is", "tls", site.uri(mode, alice)).returncode == 0
    listed = tools.run_json("nbdinfo", "--list", "--json", site.uri(mode, alice))
    assert [export["export-name"] for export in listed["exports"]] == ["t"]
    info = tools.run_json("qemu-img", "info", "--output=json", *site.qemu(mode, alice))
    assert info["virtual-size"] == SIZE
    site.logs("bridges.nbd.server: 127.0.0.1: TLS as initiator tls:CN=alice\n")


@pytest.mark.parametrize("mode", ["on", "off"])
def test_plaintext_is_served_where_it_may_be(tools: Tools, site: Site, mode: str) -> None:
    assert tools.run_json("nbdinfo", "--json", site.uri(mode))["TLS"] is False
    assert tools.try_run("nbdinfo", "--is", "tls", site.uri(mode)).returncode == 2
    assert not site.has_logged("refused")


@pytest.mark.parametrize("mode", ["require", "on"])
def test_nbdcopy_both_ways(tools: Tools, site: Site, mode: str) -> None:
    uri = site.uri(mode, site.alice())
    many = ("nbdcopy", "--connections=4", "--threads=4", "--flush")
    tools.run(*many, uri, "out")
    assert tools.path("out").read_bytes() == site.image.read_bytes()
    other = random.Random(9).randbytes(SIZE)
    tools.path("in").write_bytes(other)
    tools.run(*many, "in", uri)
    assert site.image.read_bytes() == other


def test_qemu_img_converts_both_ways_and_compares(tools: Tools, site: Site) -> None:
    alice = site.alice()
    credentials, disk = site.qemu("require", alice)[:2], site.qemu("require", alice)[2:]
    tools.run("qemu-img", "convert", *credentials, "-O", "raw", *disk, "out")
    assert tools.path("out").read_bytes() == site.image.read_bytes()
    tools.path("in").write_bytes(random.Random(10).randbytes(SIZE))
    target = ("-n", "--target-image-opts", "driver=file,filename=in", disk[1])
    tools.run("qemu-img", "convert", *credentials, "--image-opts", *target)
    assert site.image.read_bytes() == tools.path("in").read_bytes()
    compare = ("qemu-img", "compare", *credentials, *disk)
    assert tools.run(*compare, "driver=file,filename=in") == "Images are identical.\n"
    assert tools.try_run(*compare, "driver=file,filename=out").returncode == 1


@pytest.mark.parametrize("mode", ["require", "on"])
def test_a_client_without_a_certificate_is_refused(tools: Tools, site: Site, mode: str) -> None:
    nobody = site.client("nobody")
    _is_refused(tools, site, nobody, mode)
    site.logs(TLS_FAILED + "no client certificate\n")
    assert tools.try_run("qemu-img", "info", *site.qemu(mode, nobody)).returncode == 1
    until(lambda: site.process.errors.count("no client certificate") == 2, "both are logged")


def test_a_client_of_another_authority_is_refused(tools: Tools, site: Site) -> None:
    other = Authority("another CA")
    stranger = site.client("stranger", identity=other.client("eve"))
    _is_refused(tools, site, stranger)
    site.logs(TLS_FAILED + "client certificate of an unknown CA")
    # qemu would not use a certificate that it could not check itself.
    with (stranger / "ca-cert.pem").open("ab") as file:
        file.write(other.identity.certificate_pem)
    assert tools.try_run("qemu-img", "info", *site.qemu("require", stranger)).returncode == 1
    until(lambda: site.process.errors.count("of an unknown CA") == 2, "both are logged")
    assert not site.has_logged("CN=eve")


def test_an_expired_client_certificate_is_refused(tools: Tools, site: Site) -> None:
    expired = site.client("expired", identity=site.authority.client("old", EXPIRED))
    _is_refused(tools, site, expired)
    site.logs(TLS_FAILED + "client certificate: certificate has expired\n")


def test_clients_refuse_a_server_of_another_authority(tools: Tools, site: Site) -> None:
    other = Authority("another CA")
    deceived = site.client("deceived", other, site.authority.client("alice"))
    done = tools.try_run("nbdinfo", site.uri("require", deceived))
    assert done.returncode == 1
    assert "certificate verification" in done.stderr
    site.logs(TLS_FAILED + "the client")
    # qemu would not use a certificate of another authority than its own.
    write_client(deceived, other, other.client("alice"))
    assert tools.try_run("qemu-img", "info", *site.qemu("require", deceived)).returncode == 1
    until(lambda: site.process.errors.count(TLS_FAILED) == 2, "both are logged")
    assert not site.has_logged("opened export")


def test_qemu_refuses_a_server_of_another_name(tools: Tools, site: Site) -> None:
    *words, server = site.qemu("require", site.alice())
    done = tools.try_run("qemu-img", "info", *words, f"{server},tls-hostname=elsewhere")
    assert done.returncode == 1
    assert "does not match the hostname elsewhere" in done.stderr
    assert not site.has_logged("opened export")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("qemu-img", "info"), "server reported: TLS is required: send STARTTLS first"),
        # libnbd's words for ERR_TLS_REQD.
        (("nbdinfo",), "Operation not supported"),
        (("nbdinfo", "--list"), "Operation not supported"),
        (("nbdcopy", "/dev/null"), "Operation not supported"),
    ],
    ids=lambda words: "-".join(words) if isinstance(words, tuple) else "",
)
def test_plaintext_is_told_that_tls_is_required(
    tools: Tools, site: Site, words: tuple[str, ...], expected: str
) -> None:
    done = tools.try_run(*words, site.uri("require"))
    assert done.returncode == 1
    assert expected in done.stderr
    site.logs("bridges.nbd.server: 127.0.0.1: refused: TLS is required: send STARTTLS first\n")
    assert not site.has_logged("opened export")


def test_tls_is_refused_where_it_is_off(tools: Tools, site: Site) -> None:
    alice = site.alice()
    done = tools.try_run("qemu-img", "info", *site.qemu("off", alice))
    assert done.returncode == 1
    assert "server reported: TLS is switched off here" in done.stderr
    refusal = "bridges.nbd.server: 127.0.0.1: refused: TLS is switched off here\n"
    site.logs(refusal)
    assert tools.try_run("nbdinfo", site.uri("off", alice)).returncode == 1
    until(lambda: site.process.errors.count(refusal) == 2, "both are logged")


@contextmanager
def _held_open(uri: str) -> Iterator[None]:
    """A client of libnbd that is there until the end, and then still reads what it did."""
    if subprocess.run([PYTHON, "-c", "import nbd"], capture_output=True, timeout=30).returncode:
        pytest.skip("needs libnbd's Python module (Debian package python3-libnbd)")
    words = [PYTHON, "-c", HOLDER, uri]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"open\n"
            yield
            holder.stdin.write(b"\n")
            holder.stdin.close()
            assert holder.wait(TOOL_TIMEOUT_S) == 0
        finally:
            holder.kill()


def test_status_names_initiators_by_their_certificates(tools: Tools, site: Site) -> None:
    status = (program(), "status", "--json", "--control", str(site.process.control))
    with _held_open(site.uri("require", site.alice())), _held_open(site.uri("on")):
        report = tools.run_json(*status)
    where = {"driver": "nbd", "target": "t", "host": "127.0.0.1", "group": None}
    assert report["sessions"] == [
        {**where, "initiator": "tls:CN=alice", "connections": 1},
        {**where, "initiator": "127.0.0.1", "connections": 1},
    ]
    listeners = [(each["tls"], each["uris"][0].partition(":")[0]) for each in report["listeners"]]
    assert listeners == [("require", "nbds"), ("on", "nbds"), ("off", "nbd")]


def test_certificates_are_replaced_while_the_daemon_runs(tools: Tools, site: Site) -> None:
    before = site.alice()
    with _held_open(site.uri("require", before)):
        fresh = Authority("the next CA")
        write_server(site.folder / "server", fresh)
        after = site.client("after", fresh, fresh.client("alice"))
        assert tools.run("nbdinfo", "--size", site.uri("require", after)) == f"{SIZE}\n"
        info = tools.run_json("qemu-img", "info", "--output=json", *site.qemu("require", after))
        assert info["virtual-size"] == SIZE
        site.logs("TLS credentials read again\n")
        # The old ones are good for what is open, and of no use for new connections.
        assert tools.try_run("nbdinfo", site.uri("require", before)).returncode == 1


def test_certificates_that_cannot_be_used_leave_the_old_ones(tools: Tools, site: Site) -> None:
    alice = site.alice()
    (site.folder / "server" / "server-cert.pem").write_text("none")
    assert tools.run("nbdinfo", "--size", site.uri("require", alice)) == f"{SIZE}\n"
    site.logs("bridges.tls: TLS credentials stay as they were: ")
