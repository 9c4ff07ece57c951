# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is known again: clients that a reservation lets in, before and after they and the daemon go.

NBD and AoE clients cannot register, so a local one registers them by name at every target. Whoever
is not named is kept out.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from bridges.local.pr_tool import Change, change, read
from bridges.local.unit_client import Place
from scsi_backend.t10.persistent_reservation import PrInAction, PrOutAction, ReservationType
from tests.bridges.aoe.wired import Client as AoeClient
from tests.bridges.certificates import Authority, client_context, write_client, write_server
from tests.bridges.daemon_process import (
    BLOCK_BYTES,
    LocalDoor,
    configure,
    connect,
    daemon,
    reserved_port,
)
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.interop.doors import NbdkitProcess, program
from tests.interop.netns import Network, veth_network, wait_until

UID = os.getuid()
KEY = 0xBEEF
DISK_BYTES = 64 << 10
FENCE = "fence"
NAMES = {
    "unix": f"unix:uid={UID}",
    "tcp": "127.0.0.1",
    "tls": "tls:CN=alice",
    "nbdkit": f"local:uid={UID},nbdkit",
}
TIMEOUT_S = 20.0


def let_in(folder: Path, *names: str) -> None:
    """Keep everybody from writing but these initiators, over restarts."""
    place = Place.of("t", str(LocalDoor().path(folder)), None, FENCE)
    kind = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
    for wanted in (
        Change(
            PrOutAction.REGISTER,
            action_key=KEY,
            persists=True,
            all_target_ports=True,
            initiators=names,
        ),
        Change(PrOutAction.RESERVE, key=KEY, type=kind),
    ):
        text, status = change(place, wanted)
        assert status == 0, text


def registered(folder: Path) -> set[str]:
    """The initiators that READ FULL STATUS names."""
    place = Place.of("t", str(LocalDoor().path(folder)), None, "")
    text, _ = read(place, PrInAction.READ_FULL_STATUS)
    return {line.split()[0] for line in text.splitlines() if " at target port " in line}


def pr_file(folder: Path) -> str:
    """The attribute by which a disk keeps its reservations in a folder."""
    return f'pr_file_name "{folder}/pr"\n'


class NbdSite:
    """A daemon's disk, and the ways in which NBD clients come to it."""

    def __init__(self, folder: Path, tcp: int, tls: int) -> None:
        self.folder = folder
        self._ports = {"tcp": tcp, "tls": tls}
        authority = Authority()
        write_server(folder / "server", authority)
        write_client(folder / "alice", authority, authority.client("alice"))
        listens = (
            f"listen unix:{folder}/nbd.sock {{\ntls off\n}}\n"
            f"listen 127.0.0.1:{tcp} {{\ntls off\n}}\nlisten 127.0.0.1:{tls} {{\ntls require\n}}\n"
        )
        terms = f"tls_certificates {folder}/server\ntls_verify_peer 1\n"
        nbd = f"TARGET_DRIVER nbd {{\n{terms}{listens}TARGET t {{\nLUN 0 d\nenabled 1\n}}\n}}\n"
        sections = (nbd, LocalDoor().section(folder))
        self.conf = configure(folder, *sections, attributes=pr_file(folder))

    def may_write(self, kind: str) -> bool:
        """Whether a client that comes in that way may write."""
        with _OPEN[kind](self) as client:
            error, _ = client.call(proto.WRITE, 0, BLOCK_BYTES, bytes(BLOCK_BYTES))
        assert error in (0, proto.EPERM)
        return error == 0

    @contextmanager
    def unix(self) -> Iterator[Client]:
        """A client at the unix socket."""
        with Client(connect(f"{self.folder}/nbd.sock")).begin("t") as client:
            yield client

    @contextmanager
    def tcp(self) -> Iterator[Client]:
        """A client at the TCP port."""
        with Client(connect(("127.0.0.1", self._ports["tcp"]))).begin("t") as client:
            yield client

    @contextmanager
    def tls(self) -> Iterator[Client]:
        """A client with a certificate."""
        with Client(connect(("127.0.0.1", self._ports["tls"]))) as client:
            client.greet()
            client.send(proto.option(proto.STARTTLS))
            assert client.option_reply()[0] == proto.ACK
            context = client_context(self.folder / "alice")
            client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
            client.send(proto.go("t"))
            while client.option_reply()[0] != proto.ACK:
                pass
            yield client

    @contextmanager
    def nbdkit(self) -> Iterator[Client]:
        """A client of nbdkit, whose plugin is a client of the local socket."""
        parameters = [f"socket={LocalDoor().path(self.folder)}", "device=t"]
        path = self.folder / "nbdkit.sock"
        # It does not take its socket away.
        path.unlink(missing_ok=True)
        with (
            NbdkitProcess(path, parameters) as nbdkit,
            Client(nbdkit.connect()).begin("") as client,
        ):
            yield client


_OPEN: dict[str, Callable[[NbdSite], AbstractContextManager[Client]]] = {
    "unix": NbdSite.unix,
    "tcp": NbdSite.tcp,
    "tls": NbdSite.tls,
    "nbdkit": NbdSite.nbdkit,
}


@pytest.fixture
def nbd(tmp_path: Path) -> Iterator[NbdSite]:
    """See ``NbdSite``."""
    (tmp_path / "disk.img").write_bytes(bytes(DISK_BYTES))
    with reserved_port() as tcp, reserved_port() as tls:
        yield NbdSite(tmp_path, tcp, tls)


@pytest.mark.parametrize("kind", NAMES)
def test_nbd_client_is_known_again(nbd: NbdSite, kind: str) -> None:
    expected = {each: each == kind for each in NAMES}
    names = {f"local:uid={UID},{FENCE}", NAMES[kind]}
    with daemon(nbd.conf) as first:
        let_in(nbd.folder, NAMES[kind])
        # The second time it has reconnected.
        for _ in range(2):
            assert {each: nbd.may_write(each) for each in NAMES} == expected
        assert registered(nbd.folder) == names
        assert first.stop(signal.SIGTERM) == 0
    with daemon(nbd.conf):
        assert {each: nbd.may_write(each) for each in NAMES} == expected
        assert registered(nbd.folder) == names


_AOE = """\
TARGET_DRIVER aoe {{
    interface {interface}
    TARGET e1.1 {{
        LUN 0 d
        enabled 1
    }}
}}
"""
WRITE_SECTORS_EXT = 0x34
# The error register and the status of a reply: none and DRDY, or ABRT and DRDY with ERR.
READY, ABORTED = bytes.fromhex("0040"), bytes.fromhex("0441")
OTHER_MAC = bytes.fromhex("020000000007")


@contextmanager
def daemon_at(network: Network, conf: Path) -> Iterator[None]:
    """A daemon on the target's host, which must end well."""
    log = conf.with_suffix(".log")
    command = network.target.command(program(), "serve", str(conf))
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
    try:
        wait_until(lambda: process.poll() is not None or "ready" in log.read_text(), TIMEOUT_S)
        assert process.poll() is None, log.read_text()
        yield
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def aoe_may_write(network: Network, mac: bytes) -> bool:
    """Whether a host of this MAC address may write."""

    async def write(client: AoeClient) -> bytes:
        frame = client.ata(WRITE_SECTORS_EXT, 0, 1, bytes(BLOCK_BYTES), tag=0x1234)
        reply = bytes(await client.exchange(frame))
        while reply[20:24] != bytes(frame)[20:24]:
            # The daemon may announce itself.
            reply = bytes(await client.receive())
        return reply

    with closing(AoeClient(network.client, network.target.mac)) as client:
        client.mac = mac
        reply = asyncio.run(write(client))
    registers = reply[25:28:2]
    assert registers in (READY, ABORTED)
    return registers == READY


def test_aoe_client_is_known_again(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(DISK_BYTES))
    with veth_network() as network:
        mac = network.client.mac
        aoe = _AOE.format(interface=network.target.interface)
        sections = (aoe, LocalDoor().section(tmp_path))
        conf = configure(tmp_path, *sections, attributes=pr_file(tmp_path))
        expected = {mac: True, OTHER_MAC: False}
        names = {f"local:uid={UID},{FENCE}", mac.hex(":")}
        with daemon_at(network, conf):
            let_in(tmp_path, mac.hex(":"))
            for _ in range(2):
                assert {each: aoe_may_write(network, each) for each in expected} == expected
            assert registered(tmp_path) == names
        with daemon_at(network, conf):
            assert {each: aoe_may_write(network, each) for each in expected} == expected
            assert registered(tmp_path) == names
