# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the interop tests: one daemon for all NBD clients, and nbdkit with our plugin.

A *door* is an NBD URI and the file that is behind it. The same clients go through every door.
"""

from __future__ import annotations

import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bridges.daemon_process import DaemonProcess, daemon, reserved_port
from tests.bridges.forked_daemon import Nursery
from tests.interop.doors import DISK_BYTES, NbdDoor, NbdkitProcess, Tools, configuration

DOORS = ("daemon-unix", "daemon-tcp", "plugin-file", "plugin-daemon")

# Linux has a tmpfs there (shm_open(3)).
_SHARED_MEMORY = "/dev/shm"


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """Foreign programs, run in a folder of the test's own."""
    return Tools(tmp_path)


@pytest.fixture(scope="session")
def nbd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the images, the configuration and the sockets are."""
    folder = tmp_path_factory.mktemp("nbd")
    for name in ("disk", "blocks4k", "frozen", "embedded"):
        _make_image(folder / f"{name}.img")
    return folder


@pytest.fixture(scope="session")
def nbd_memory(nbd_folder: Path) -> Iterator[Path]:
    """Where an image is of which the kernel knows at once what is a hole: a tmpfs."""
    with tempfile.TemporaryDirectory(prefix="nbd-", dir=_SHARED_MEMORY) as folder:
        _make_image(Path(folder, "sparse.img"))
        # Its name among the others.
        (nbd_folder / "sparse.img").symlink_to(Path(folder, "sparse.img"))
        yield Path(folder)


def _make_image(path: Path) -> None:
    with path.open("wb") as image:
        image.truncate(DISK_BYTES)


@pytest.fixture(scope="session")
def nbd_port() -> Iterator[int]:
    """A TCP port for the daemon."""
    with reserved_port() as port:
        yield port


@pytest.fixture(scope="session")
def nbd_daemon(nbd_folder: Path, nbd_memory: Path, nbd_port: int) -> Iterator[DaemonProcess]:
    """``scst-bridge serve``; it must end well, and never have been surprised."""
    conf = nbd_folder / "scst.conf"
    conf.write_text(configuration(nbd_folder, nbd_memory, nbd_port))
    with daemon(conf) as process:
        yield process
        assert process.stop(signal.SIGTERM) == 0, process.errors
        assert "Traceback" not in process.errors, process.errors


@pytest.fixture(scope="session")
def nbdkit_file(nbd_folder: Path) -> Iterator[NbdkitProcess]:
    """nbdkit with a backend of its own inside."""
    image = nbd_folder / "embedded.img"
    with NbdkitProcess(
        nbd_folder / "embedded.sock", [f"file={image}", "thin_provisioned=1"]
    ) as process:
        yield process


@pytest.fixture(scope="session")
def nbdkit_daemon(nbd_folder: Path, nbd_daemon: DaemonProcess) -> Iterator[NbdkitProcess]:
    """nbdkit as a client of the daemon."""
    parameters = [f"socket={nbd_folder / 'local.sock'}", "device=local"]
    with NbdkitProcess(nbd_folder / "plugin.sock", parameters) as process:
        yield process


@pytest.fixture(scope="session")
def open_door(
    request: pytest.FixtureRequest, nbd_folder: Path, nbd_port: int
) -> Callable[[str], NbdDoor]:
    """Look doors up by name; their servers start when the first test wants them."""

    def find(name: str) -> NbdDoor:
        if name.startswith("plugin"):
            fixture = "nbdkit_file" if name == "plugin-file" else "nbdkit_daemon"
            image = "embedded.img" if name == "plugin-file" else "disk.img"
            process: NbdkitProcess = request.getfixturevalue(fixture)
            return NbdDoor(process.uri, nbd_folder / image, is_nbdkit=True)
        request.getfixturevalue("nbd_daemon")
        if name == "daemon-tcp":
            return NbdDoor(f"nbd://127.0.0.1:{nbd_port}/disk", nbd_folder / "disk.img")
        uri = f"nbd+unix:///disk?socket={nbd_folder / 'nbd.sock'}"
        return NbdDoor(uri, nbd_folder / "disk.img")

    return find


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, open_door: Callable[[str], NbdDoor]) -> NbdDoor:
    """Each door in turn."""
    return open_door(request.param)


@pytest.fixture(params=[name for name in DOORS if name.startswith("daemon")])
def daemon_door(request: pytest.FixtureRequest, open_door: Callable[[str], NbdDoor]) -> NbdDoor:
    """Each door of the daemon in turn."""
    return open_door(request.param)


@pytest.fixture
def unix_door(open_door: Callable[[str], NbdDoor]) -> NbdDoor:
    """The daemon's own NBD server, over its unix socket."""
    return open_door("daemon-unix")


@pytest.fixture(scope="session")
def random_file(nbd_folder: Path) -> Path:
    """As many random bytes as a disk has."""
    path = nbd_folder / "random"
    path.write_bytes(random.Random(1).randbytes(DISK_BYTES))
    return path


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    """For tests that start one daemon after the other."""
    made = Nursery(tmp_path)
    yield made
    made.close()
