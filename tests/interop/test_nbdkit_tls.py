# SPDX-License-Identifier: GPL-2.0-or-later
"""Our plugin behind nbdkit's TLS, with certificates and with pre-shared keys, in both modes.

The clients are libnbd's and qemu's, which also meet servers and keys that are not the right ones.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.bridges.daemon_process import LocalDoor, configure, daemon
from tests.interop.doors import NbdkitProcess, Tools

MIB = 1 << 20
USER = "alice"
_CA = "cn = Test CA\nca\ncert_signing_key\nexpiration_days = 30\n"
_SERVER = "cn = localhost\ndns_name = localhost\ntls_www_server\nencryption_key\nsigning_key\n"

Start = Callable[..., NbdkitProcess]


@pytest.fixture
def content() -> bytes:
    """What is on the disk."""
    return random.Random(3).randbytes(4 * MIB)


@pytest.fixture
def image(tmp_path: Path, content: bytes) -> Path:
    """The disk."""
    path = tmp_path / "disk.img"
    path.write_bytes(content)
    return path


@pytest.fixture(params=["file", "socket"])
def start(request: pytest.FixtureRequest, tmp_path: Path, image: Path) -> Iterator[Start]:
    """Start nbdkit with options, embedded and as a client of the daemon."""
    with ExitStack() as stack:
        parameters = [f"file={image}"]
        if request.param == "socket":
            door = LocalDoor()
            stack.enter_context(daemon(configure(tmp_path, door.section(tmp_path), image=image)))
            parameters = [f"socket={door.path(tmp_path)}", "device=d"]

        def run(*options: str) -> NbdkitProcess:
            process = NbdkitProcess(tmp_path / "tls.sock", parameters, options)
            return stack.enter_context(process)

        yield run


def _authority(tools: Tools, folder: Path, *, with_server: bool) -> None:
    """Make a certificate authority, and a certificate that it signed, under nbdkit's names."""
    folder.mkdir()
    ca, ca_key = str(folder / "ca-cert.pem"), str(folder / "ca-key.pem")
    (folder / "ca.info").write_text(_CA)
    (folder / "server.info").write_text(_SERVER)
    quiet = ("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile")
    tools.run(*quiet, ca_key)
    sign = ("certtool", "--load-privkey")
    template = f"--template={folder / 'ca.info'}"
    tools.run(*sign, ca_key, "--generate-self-signed", template, "--outfile", ca)
    if with_server:
        key = str(folder / "server-key.pem")
        tools.run(*quiet, key)
        template = f"--template={folder / 'server.info'}"
        signer = ("--load-ca-certificate", ca, "--load-ca-privkey", ca_key)
        made = str(folder / "server-cert.pem")
        tools.run(*sign, key, "--generate-certificate", template, *signer, "--outfile", made)


@pytest.fixture
def certificates(tools: Tools, tmp_path: Path) -> tuple[Path, Path]:
    """The server's folder, and a client's, which has the authority's certificate only."""
    server, client = tmp_path / "server-pki", tmp_path / "client-pki"
    _authority(tools, server, with_server=True)
    client.mkdir()
    shutil.copy(server / "ca-cert.pem", client)
    return server, client


@pytest.fixture
def keys(tools: Tools, tmp_path: Path) -> Path:
    """A file with alice's key, under the name by which qemu knows it."""
    folder = tmp_path / "psk"
    folder.mkdir()
    path = folder / "keys.psk"
    tools.run("psktool", "-u", USER, "-p", str(path))
    return path


def _uri(process: NbdkitProcess, user: str = "", **parameters: str | Path) -> str:
    words = {"socket": process.path, **parameters}
    query = "&".join(f"{name.replace('_', '-')}={quote(str(word))}" for name, word in words.items())
    return f"nbds+unix://{user}/?{query}"


def _qemu(process: NbdkitProcess, credentials: str, *more: str) -> tuple[str, ...]:
    server = ("driver=nbd", "server.type=unix", f"server.path={process.path}", "tls-creds=t0")
    return ("--object", f"{credentials},id=t0,endpoint=client", ",".join((*server, *more)))


def _copies_and_compares(tools: Tools, uri: str, qemu: tuple[str, ...], image: Path) -> None:
    """A copy out, other bytes in, and what is there then."""
    tools.run("nbdcopy", uri, "copy.img")
    assert tools.path("copy.img").read_bytes() == image.read_bytes()
    credentials, disk = qemu[:2], qemu[2]
    compare = ("qemu-img", "compare", *credentials, "--image-opts", disk)
    tools.run(*compare, "driver=file,filename=copy.img")
    other = random.Random(4).randbytes(4 * MIB)
    tools.path("other.img").write_bytes(other)
    tools.run("nbdcopy", "--flush", "other.img", uri)
    assert image.read_bytes() == other
    assert tools.try_run(*compare, "driver=file,filename=copy.img").returncode == 1


def test_certificates(
    start: Start, tools: Tools, certificates: tuple[Path, Path], image: Path
) -> None:
    server, client = certificates
    process = start("--tls=require", f"--tls-certificates={server}")
    uri = _uri(process, tls_certificates=client)
    shown = tools.run("nbdinfo", uri)
    assert "with TLS, using structured packets" in shown.splitlines()[0]
    assert tools.run("nbdinfo", "--size", uri) == f"{4 * MIB}\n"
    credentials = f"tls-creds-x509,dir={client}"
    _copies_and_compares(tools, uri, _qemu(process, credentials, "tls-hostname=localhost"), image)


def test_a_server_that_another_authority_vouches_for_is_refused(
    start: Start, tools: Tools, certificates: tuple[Path, Path], tmp_path: Path
) -> None:
    server, client = certificates
    other = tmp_path / "other-pki"
    _authority(tools, other, with_server=False)
    process = start("--tls=require", f"--tls-certificates={server}")
    # libnbd 1.14 checks certificates over TCP only.
    _qemu_fails(tools, _qemu(process, f"tls-creds-x509,dir={other}", "tls-hostname=localhost"))
    _qemu_fails(tools, _qemu(process, f"tls-creds-x509,dir={client}", "tls-hostname=elsewhere"))
    assert tools.run("nbdinfo", "--size", _uri(process, tls_certificates=client)) == f"{4 * MIB}\n"


def test_pre_shared_keys(start: Start, tools: Tools, keys: Path, image: Path) -> None:
    process = start("--tls=require", f"--tls-psk={keys}")
    uri = _uri(process, f"{USER}@", tls_psk_file=keys)
    assert "with TLS" in tools.run("nbdinfo", uri).splitlines()[0]
    credentials = f"tls-creds-psk,dir={keys.parent},username={USER}"
    _copies_and_compares(tools, uri, _qemu(process, credentials), image)


def test_a_wrong_key_is_refused(start: Start, tools: Tools, keys: Path, tmp_path: Path) -> None:
    process = start("--tls=require", f"--tls-psk={keys}")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    tools.run("psktool", "-u", USER, "-p", str(wrong / "keys.psk"))
    uri = _uri(process, f"{USER}@", tls_psk_file=wrong / "keys.psk")
    assert tools.try_run("nbdinfo", "--size", uri).returncode == 1
    _qemu_fails(tools, _qemu(process, f"tls-creds-psk,dir={wrong},username={USER}"))
    right = _uri(process, f"{USER}@", tls_psk_file=keys)
    assert tools.run("nbdinfo", "--size", right) == f"{4 * MIB}\n"


def test_without_tls_there_is_nothing(start: Start, tools: Tools, keys: Path) -> None:
    process = start("--tls=require", f"--tls-psk={keys}")
    done = tools.try_run("nbdinfo", process.uri)
    assert done.returncode == 1
    # libnbd's words for ERR_TLS_REQD.
    assert "Operation not supported" in done.stderr
    done = tools.try_run("qemu-img", "info", process.uri)
    assert done.returncode == 1
    assert "TLS" in done.stderr


def test_where_tls_is_offered_both_are_served(start: Start, tools: Tools, keys: Path) -> None:
    process = start("--tls=on", f"--tls-psk={keys}")
    assert "without TLS" in tools.run("nbdinfo", process.uri).splitlines()[0]
    uri = _uri(process, f"{USER}@", tls_psk_file=keys)
    assert "with TLS" in tools.run("nbdinfo", uri).splitlines()[0]


def _qemu_fails(tools: Tools, qemu: tuple[str, ...]) -> None:
    done = tools.try_run("qemu-img", "info", *qemu[:2], "--image-opts", qemu[2])
    assert done.returncode == 1, done.stdout
