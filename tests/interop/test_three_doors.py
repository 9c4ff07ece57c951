# SPDX-License-Identifier: GPL-2.0-or-later
"""One disk seen at once over NBD, ATA over Ethernet, the local socket, and nbdkit on top of that.

What is written through one door is read through every other, and is in the file.
"""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridges.exchange import Request
from bridges.local.client import LocalClient
from tests.bridges.aoe.wired import Client as AoeClient
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client as NbdClient
from tests.interop.doors import NbdkitProcess, program
from tests.interop.netns import Network, veth_network, wait_until
from tests.scsi_backend import cdbs

MIB = 1 << 20
BLOCK = 512
# What one Ethernet frame carries.
UNIT_BLOCKS = 2
UNIT = UNIT_BLOCKS * BLOCK
TIMEOUT_S = 20.0
DOORS = ("nbd", "aoe", "local", "nbdkit")
_CONF = """\
HANDLER vdisk_fileio {{
    DEVICE disk0 {{
        filename "{folder}/disk0.img"
        thin_provisioned 1
    }}
}}
TARGET_DRIVER nbd {{
    listen "unix:{folder}/nbd.sock"
    TARGET disk0 {{
        LUN 0 disk0
        enabled 1
    }}
}}
TARGET_DRIVER aoe {{
    interface {interface}
    TARGET e1.1 {{
        LUN 0 disk0
        enabled 1
    }}
}}
TARGET_DRIVER scst_local {{
    socket "{folder}/local.sock"
    TARGET local {{
        LUN 0 disk0
        enabled 1
    }}
}}
"""


class Door(ABC):
    """A way to the disk, for two blocks at a time."""

    @abstractmethod
    def read(self, lba: int) -> bytes:
        """Read."""

    @abstractmethod
    def write(self, lba: int, data: bytes) -> None:
        """Write."""


class NbdDoor(Door):
    """An NBD connection, to the daemon or to nbdkit."""

    def __init__(self, sock: socket.socket) -> None:
        self.client = NbdClient(sock).begin("")

    def read(self, lba: int) -> bytes:
        """See ``Door.read``."""
        return self.client.read(lba * BLOCK, UNIT)

    def write(self, lba: int, data: bytes) -> None:
        """See ``Door.write``."""
        self.client.write(lba * BLOCK, data)


class AoeDoor(Door):
    """ATA commands in Ethernet frames."""

    def __init__(self, client: AoeClient) -> None:
        self._client = client
        self._tag = 0

    def read(self, lba: int) -> bytes:
        """See ``Door.read``: READ SECTORS EXT."""
        return self._ata(0x24, lba, b"")[36:]

    def write(self, lba: int, data: bytes) -> None:
        """See ``Door.write``: WRITE SECTORS EXT."""
        self._ata(0x34, lba, data)

    def _ata(self, opcode: int, lba: int, data: bytes) -> bytes:
        self._tag += 1
        frame = self._client.ata(opcode, lba, UNIT_BLOCKS, data, self._tag)
        reply = bytes(asyncio.run(self._client.exchange(frame)))
        # Status DRDY and no error.
        assert reply[27] == 0x40, reply.hex()
        return reply


class LocalDoor(Door):
    """CDBs over the local socket."""

    def __init__(self, client: LocalClient) -> None:
        self._client = client
        # The unit attention of the new session.
        client.execute(Request(cdbs.TEST_UNIT_READY))

    def read(self, lba: int) -> bytes:
        """See ``Door.read``: READ(10)."""
        buffer = bytearray(UNIT)
        cdb = cdbs.block(cdbs.READ, 10, lba, UNIT_BLOCKS)
        reply = self._client.execute(Request(cdb, data_in=memoryview(buffer)))
        assert (reply.status, reply.data_in_length) == (0, UNIT)
        return bytes(buffer)

    def write(self, lba: int, data: bytes) -> None:
        """See ``Door.write``: WRITE(10)."""
        cdb = cdbs.block(cdbs.WRITE, 10, lba, UNIT_BLOCKS)
        assert self._client.execute(Request(cdb, data_out=memoryview(data))).status == 0


@dataclass(frozen=True, slots=True)
class House:
    """The disk's file and the doors to it."""

    image: Path
    doors: Mapping[str, Door]

    def stored(self, lba: int) -> bytes:
        """What the file has."""
        with self.image.open("rb") as file:
            file.seek(lba * BLOCK)
            return file.read(UNIT)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The daemon on one host of an Ethernet, and a client at each door."""
    folder = tmp_path_factory.mktemp("house")
    image = folder / "disk0.img"
    image.write_bytes(bytes(MIB))
    with veth_network() as network, ExitStack() as stack:
        _start_daemon(stack, network, folder)
        parameters = [f"socket={folder / 'local.sock'}", "device=disk0"]
        nbdkit = stack.enter_context(NbdkitProcess(folder / "nbdkit.sock", parameters))
        aoe = AoeClient(network.client, network.target.mac)
        stack.callback(aoe.close)
        local = stack.enter_context(LocalClient.connect(str(folder / "local.sock"), "local"))
        doors: dict[str, Door] = {"aoe": AoeDoor(aoe), "local": LocalDoor(local)}
        for name in ("nbd", "nbdkit"):
            door = NbdDoor(_connect(folder / f"{name}.sock"))
            stack.enter_context(door.client)
            doors[name] = door
        assert nbdkit.is_alive
        yield House(image, doors)


def _start_daemon(stack: ExitStack, network: Network, folder: Path) -> None:
    """Start the daemon; it must end well when the stack is unwound."""
    conf, log = folder / "scst.conf", folder / "log"
    conf.write_text(_CONF.format(folder=folder, interface=network.target.interface))
    command = network.target.command(program(), "serve", str(conf))
    with log.open("w") as errors:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)

    def stop() -> None:
        daemon.terminate()
        try:
            assert daemon.wait(TIMEOUT_S) == 0, log.read_text()
        finally:
            daemon.kill()
            daemon.wait()

    stack.callback(stop)
    wait_until(lambda: daemon.poll() is not None or "ready" in log.read_text(), TIMEOUT_S)
    assert daemon.poll() is None, log.read_text()


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT_S)
    sock.connect(str(path))
    return sock


@pytest.mark.parametrize("writer", DOORS)
def test_what_one_door_writes_every_door_reads(house: House, writer: str) -> None:
    data = random.Random(writer).randbytes(UNIT)
    for lba in (0, 1000, MIB // BLOCK - UNIT_BLOCKS):
        house.doors[writer].write(lba, data)
        for reader in DOORS:
            assert house.doors[reader].read(lba) == data, f"{writer} to {reader} at {lba}"
        assert house.stored(lba) == data


def test_the_last_writer_wins_whatever_the_door(house: House) -> None:
    chooser = random.Random(3)
    lba = 64
    for _ in range(50):
        writer, reader = chooser.choice(DOORS), chooser.choice(DOORS)
        data = chooser.randbytes(UNIT)
        house.doors[writer].write(lba, data)
        assert house.doors[reader].read(lba) == data, f"{writer} to {reader}"


@pytest.mark.parametrize("kind", [proto.TRIM, proto.WRITE_ZEROES])
@pytest.mark.parametrize("name", ["nbd", "nbdkit"])
def test_what_nbd_deallocates_reads_as_zeros_everywhere(house: House, name: str, kind: int) -> None:
    door = house.doors[name]
    assert isinstance(door, NbdDoor)
    door.write(512, b"\xff" * UNIT)
    assert door.client.call(kind, 512 * BLOCK, UNIT) == (0, b"")
    for reader in DOORS:
        assert house.doors[reader].read(512) == bytes(UNIT)
