# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon as a process of its own, and its doors as tests use them."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridges.exchange import Request
from bridges.local.client import LocalClient, LocalError
from tests.bridges.nbd.client import Client
from tests.scsi_backend import cdbs

DEADLINE_S = 20.0
# What the daemon writes when all doors are open.
READY = " INFO scst-bridge: ready\n"
BLOCK_BYTES = 512


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition until it holds; fails the test where it does not in time."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"timed out: {what}"
        time.sleep(0.002)


class DaemonProcess:
    """``scst-bridge serve CONF``; its standard error goes to a file.

    The control socket is in a folder of its own: tests shall not meet at the default one. Words
    before the command line may be such as ``Host.command`` gives.
    """

    def __init__(self, conf: Path, before: Sequence[str] = ()) -> None:
        program = Path(sys.executable).with_name("scst-bridge")
        if not program.exists():
            pytest.skip(f"{program} is not installed")
        self._folder = tempfile.TemporaryDirectory(prefix="scst-bridge-")
        self.control = Path(self._folder.name, "control.sock")
        self._log = conf.with_suffix(".log")
        words = [*before, str(program), "serve", str(conf), "--control", str(self.control)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=log)

    @property
    def errors(self) -> str:
        """What the daemon has written so far."""
        return self._log.read_text()

    def wait_ready(self) -> None:
        """Wait until the daemon says that it is ready."""
        until(lambda: READY in self.errors or self.process.poll() is not None, "ready")
        assert READY in self.errors

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()

    def stop(self, number: int) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.wait()


@contextmanager
def daemon(conf: Path, before: Sequence[str] = ()) -> Iterator[DaemonProcess]:
    """A daemon that is ready; what is left of it at the end is killed."""
    with starting(conf, before) as started:
        started.wait_ready()
        yield started


@contextmanager
def starting(conf: Path, before: Sequence[str] = ()) -> Iterator[DaemonProcess]:
    """A daemon that may be unable to start."""
    started = DaemonProcess(conf, before)
    try:
        yield started
    finally:
        started.kill()


class Disk(ABC):
    """An open way to the disk."""

    @abstractmethod
    def read(self, lba: int, blocks: int) -> bytes:
        """Read blocks."""

    @abstractmethod
    def write(self, lba: int, data: bytes) -> None:
        """Write blocks."""

    @abstractmethod
    def is_ended(self) -> bool:
        """Wait for the server to close the connection."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""


class Door(ABC):
    """A target driver that listens on a unix socket in a folder, with the disk ``d`` behind it."""

    driver: str
    attribute: str

    def path(self, folder: Path) -> Path:
        """The unix socket."""
        return folder / f"{self.driver}.sock"

    def section(self, folder: Path) -> str:
        """The section of the configuration."""
        line = self.attribute.format(self.path(folder))
        target = "TARGET t {\nLUN 0 d\nenabled 1\n}\n"
        return f"TARGET_DRIVER {self.driver} {{\n{line}\n{target}}}\n"

    @abstractmethod
    def open(self, folder: Path) -> Disk:
        """Connect."""


class NbdDoor(Door):
    """TARGET_DRIVER nbd."""

    driver = "nbd"
    attribute = "listen unix:{}"

    def open(self, folder: Path) -> NbdDisk:
        """See ``Door.open``."""
        return NbdDisk(connect(str(self.path(folder))), "t")


class LocalDoor(Door):
    """TARGET_DRIVER scst_local."""

    driver = "scst_local"
    attribute = "socket {}"

    def open(self, folder: Path) -> Disk:
        """See ``Door.open``."""
        return _LocalDisk(str(self.path(folder)))


def connect(address: str | tuple[str, int]) -> socket.socket:
    """Connect to a unix or TCP socket."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(DEADLINE_S)
    sock.connect(address)
    return sock


class NbdDisk(Disk):
    """An NBD connection."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.client = Client(sock).begin(name)

    def read(self, lba: int, blocks: int) -> bytes:
        """See ``Disk.read``."""
        return self.client.read(lba * BLOCK_BYTES, blocks * BLOCK_BYTES)

    def write(self, lba: int, data: bytes) -> None:
        """See ``Disk.write``."""
        self.client.write(lba * BLOCK_BYTES, data)

    def is_ended(self) -> bool:
        """See ``Disk.is_ended``."""
        return self.client.is_ended()

    def close(self) -> None:
        """See ``Disk.close``."""
        self.client.sock.close()


class _LocalDisk(Disk):
    def __init__(self, path: str) -> None:
        self._path = path
        self._client = LocalClient.connect(path, "t")
        # The unit attention of the new session.
        self._client.execute(Request(cdbs.TEST_UNIT_READY))

    def read(self, lba: int, blocks: int) -> bytes:
        """See ``Disk.read``."""
        buffer = bytearray(blocks * BLOCK_BYTES)
        cdb = cdbs.block(cdbs.READ, 16, lba, blocks)
        reply = self._client.execute(Request(cdb, data_in=memoryview(buffer)))
        assert (reply.status, reply.data_in_length) == (0, len(buffer))
        return bytes(buffer)

    def write(self, lba: int, data: bytes) -> None:
        """See ``Disk.write``."""
        cdb = cdbs.block(cdbs.WRITE, 16, lba, len(data) // BLOCK_BYTES)
        assert self._client.execute(Request(cdb, data_out=memoryview(data))).status == 0

    def is_ended(self) -> bool:
        """See ``Disk.is_ended``."""
        try:
            self._client.execute(Request(cdbs.TEST_UNIT_READY))
        except LocalError:
            return True
        return False

    def close(self) -> None:
        """See ``Disk.close``."""
        self._client.close()


@contextmanager
def reserved_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that a daemon may listen on, and nobody else is given meanwhile."""
    with socket.socket() as sock:
        # Both that hold the port must say so for the second one to be let in.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        yield port


def configure(
    folder: Path, *sections: str, image: Path | None = None, attributes: str = ""
) -> Path:
    """Write a configuration with the disk ``d`` and these sections.

    Line 3 names its file, ``attributes`` are further lines.
    """
    lines = f'filename "{image or folder / "disk.img"}"\n{attributes}'
    device = f"HANDLER vdisk_fileio {{\nDEVICE d {{\n{lines}}}\n}}\n"
    path = folder / "scst.conf"
    path.write_text(device + "".join(sections))
    return path


def nbd_section(*addresses: str) -> str:
    """An nbd driver with the disk behind it, listening on these addresses."""
    lines = "".join(f"listen {address}\n" for address in addresses)
    return f"TARGET_DRIVER nbd {{\n{lines}TARGET t {{\nLUN 0 d\nenabled 1\n}}\n}}\n"


def sockets(folder: Path) -> list[str]:
    """The unix sockets in a folder."""
    return sorted(path.name for path in folder.iterdir() if path.is_socket())
