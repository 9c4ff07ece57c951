# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon inside this process: what it makes, waits for, flushes, and leaves behind."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bridges.config import Config, load
from bridges.control import ask
from bridges.daemon import ControlSocket, Daemon
from bridges.scst_conf import ConfigError
from tests.bridges.certificates import Authority, write_server
from tests.bridges.daemon_process import (
    BLOCK_BYTES,
    DEADLINE_S,
    LocalDoor,
    NbdDisk,
    NbdDoor,
    configure,
    connect,
    nbd_section,
    sockets,
)
from tests.bridges.nbd import proto
from tests.scsi_backend.fakes import pattern

DISK_BYTES = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, DISK_BYTES)
    return path


def in_process(config: Config, visit: Callable[[], None]) -> None:
    """Run a daemon on a loop of this thread, and ``visit`` on another thread meanwhile."""

    async def run() -> None:
        served = Daemon(asyncio.get_running_loop(), config)
        await served.start()
        try:
            await asyncio.to_thread(visit)
        finally:
            await served.stop()

    asyncio.run(run())


def test_stopping_flushes_what_was_written_without_a_flush(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    datasync = os.fdatasync

    def recording(fd: int) -> None:
        synced.append(os.pread(fd, BLOCK_BYTES, 5 * BLOCK_BYTES))
        datasync(fd)

    monkeypatch.setattr(os, "fdatasync", recording)
    door = NbdDoor()
    config = load(str(configure(tmp_path, door.section(tmp_path))))

    def visit() -> None:
        disk = door.open(tmp_path)
        disk.write(5, pattern(5, BLOCK_BYTES))
        assert synced == []
        disk.close()

    in_process(config, visit)
    assert synced == [pattern(5, BLOCK_BYTES)]


def test_other_doors_open_where_the_kernel_cannot_have_disks(
    tmp_path: Path,
    image: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing is to be loaded into the kernel of whoever runs this.
    monkeypatch.setenv("PATH", str(tmp_path))
    door = NbdDoor()
    local = (
        f'TARGET_DRIVER scst_local {{\nsocket "{tmp_path}/local"\n'
        "TARGET k {\nLUN 0 d\nkernel 1\nenabled 1\n}\n}\n"
    )
    config = load(str(configure(tmp_path, door.section(tmp_path) + local)))

    def visit() -> None:
        # The daemon is not ready before it is known.
        (error,) = [each.message for each in caplog.records if each.levelname == "ERROR"]
        assert error.startswith("no kernel disks for target k: kernel module ")
        disk = door.open(tmp_path)
        disk.write(5, pattern(5, BLOCK_BYTES))
        disk.close()

    in_process(config, visit)


def test_stopping_waits_for_what_is_under_way(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        entered.set()
        assert gate.wait(DEADLINE_S)

    monkeypatch.setattr(os, "fdatasync", slow)
    door = NbdDoor()
    config = load(str(configure(tmp_path, door.section(tmp_path))))

    async def run() -> bytes:
        served = Daemon(asyncio.get_running_loop(), config)
        await served.start()
        disk = await asyncio.to_thread(door.open, tmp_path)
        disk.client.send(proto.request(proto.FLUSH, 77))
        assert await asyncio.to_thread(entered.wait, DEADLINE_S)
        stopping = asyncio.create_task(served.stop())
        async with asyncio.timeout(DEADLINE_S):
            while door.path(tmp_path).exists():
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not stopping.done()
        gate.set()
        await stopping
        reply = disk.client.receive(proto.REPLY_BYTES)
        assert disk.is_ended()
        disk.close()
        return reply

    assert asyncio.run(run()) == proto.reply(77)


def test_reloading_reads_certificates_again(
    tmp_path: Path, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bridges.tls")
    pki = tmp_path / "pki"
    write_server(pki, Authority())
    terms = f"unix:{tmp_path / 'tls.sock'} {{\ntls require\n}}\ntls_certificates {pki}"
    conf = configure(tmp_path, nbd_section(terms))

    async def run() -> None:
        served = Daemon(asyncio.get_running_loop(), load(str(conf)))
        await served.start()
        write_server(pki, Authority("another"))
        served.reload()
        (pki / "server-key.pem").write_text("nonsense")
        served.reload()
        await served.stop()

    asyncio.run(run())
    assert [record.message for record in caplog.records if record.name == "bridges.tls"] == [
        f"{pki}: TLS credentials read again",
        f"TLS credentials stay as they were: {pki}/server-key.pem:"
        " expected a private key in PEM form",
    ]


def test_the_default_control_socket_may_be_impossible(
    tmp_path: Path, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "taken"
    path.write_text("no socket")

    async def run(is_required: bool) -> None:
        control = ControlSocket(str(path), is_required)
        config = load(str(configure(tmp_path)))
        served = Daemon(asyncio.get_running_loop(), config, control=control)
        await served.start()
        await served.stop()

    with pytest.raises(OSError, match="the file exists and is no socket"):
        asyncio.run(run(is_required=True))
    asyncio.run(run(is_required=False))
    reason = "the file exists and is no socket"
    assert f"no control socket: cannot listen on unix:{path}: {reason}" in caplog.messages
    assert path.read_text() == "no socket"


def test_the_control_socket_tells_the_status(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "control"

    async def run() -> None:
        control = ControlSocket(str(path), is_required=True)
        config = load(str(configure(tmp_path)))
        served = Daemon(asyncio.get_running_loop(), config, control=control)
        await served.start()
        status = await asyncio.to_thread(ask, str(path), "status")
        assert [device["name"] for device in status["devices"]] == ["d"]
        await served.stop()

    asyncio.run(run())
    assert not path.exists()


class Open:
    """What this process has open now: descriptors, by what they are, and threads."""

    def __init__(self) -> None:
        folder = Path("/proc/self/fd")
        self._descriptors: Counter[str] = Counter()
        for entry in os.listdir(folder):
            # The descriptor with which the folder was read is gone.
            with suppress(FileNotFoundError):
                self._descriptors[os.readlink(folder / entry)] += 1
        self._threads = set(threading.enumerate())

    def __sub__(self, before: Open) -> list[object]:
        """What is open and was not before."""
        descriptors = self._descriptors - before._descriptors
        return [*descriptors.elements(), *(self._threads - before._threads)]


def test_a_daemon_leaves_nothing_open(tmp_path: Path, image: Path) -> None:
    door = NbdDoor()
    config = load(str(configure(tmp_path, LocalDoor().section(tmp_path), door.section(tmp_path))))

    def visit() -> None:
        disk = NbdDisk(connect(str(door.path(tmp_path))), "t")
        disk.write(0, pattern(0, BLOCK_BYTES))
        disk.close()

    before = Open()
    in_process(config, visit)
    assert Open() - before == []


@pytest.mark.parametrize("what", ["port", "device"])
def test_a_failed_start_leaves_nothing_open(tmp_path: Path, image: Path, what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        section = nbd_section(f"unix:{tmp_path}/nbd.sock", f"127.0.0.1:{port}")
        conf = configure(tmp_path, LocalDoor().section(tmp_path), section)
        if what == "device":
            # By then the first device is open.
            second = "}\nDEVICE gone {\nfilename /none/such\n}\n}\n"
            conf.write_text(conf.read_text().replace("}\n}\n", second, 1))
        config = load(str(conf))
        before = Open()
        with pytest.raises((OSError, ConfigError)) as caught:
            in_process(config, lambda: None)
        assert Open() - before == []
    if what == "port":
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == errno.EADDRINUSE
    else:
        assert "device gone: /none/such: No such file" in str(caught.value)
    assert sockets(tmp_path) == []
