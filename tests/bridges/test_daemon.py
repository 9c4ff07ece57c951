# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon as a process: it starts, or says why not; signals stop it, and nothing is lost."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.bridges.daemon_process import (
    BLOCK_BYTES,
    DEADLINE_S,
    Door,
    LocalDoor,
    NbdDoor,
    configure,
    connect,
    daemon,
    nbd_section,
    sockets,
    starting,
    until,
)
from tests.bridges.nbd import proto
from tests.scsi_backend.fakes import pattern

DISK_BYTES = 4 << 20
# Another driver is another Door.
DOORS: tuple[Door, ...] = (NbdDoor(), LocalDoor())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, DISK_BYTES)
    return path


def all_doors(folder: Path) -> Path:
    """A configuration with the disk behind every door."""
    return configure(folder, *(door.section(folder) for door in DOORS))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_daemon_in_order(
    tmp_path: Path, image: Path, number: signal.Signals
) -> None:
    expected = b"".join(pattern(lba, BLOCK_BYTES) for lba in range(len(DOORS)))
    with daemon(all_doors(tmp_path)) as running:
        disks = [door.open(tmp_path) for door in DOORS]
        for lba, disk in enumerate(disks):
            disk.write(lba, pattern(lba, BLOCK_BYTES))
        # What went in at one door comes out at all of them.
        assert [disk.read(0, len(DOORS)) for disk in disks] == [expected] * len(DOORS)
        # Clients that have not even shaken hands hold nothing up.
        mute = [connect(str(door.path(tmp_path))) for door in DOORS]
        assert running.stop(number) == 0
        for disk in disks:
            assert disk.is_ended()
            disk.close()
        for sock in mute:
            sock.close()
    assert f"bridges.daemon: {number.name}: stopping\n" in running.errors
    assert running.errors.endswith(" INFO bridges.daemon: stopped\n")
    assert sockets(tmp_path) == []
    assert image.read_bytes()[: len(expected)] == expected


def test_every_write_acknowledged_before_the_end_is_kept(tmp_path: Path, image: Path) -> None:
    door = NbdDoor()
    blocks = 64
    length = blocks * BLOCK_BYTES
    count = DISK_BYTES // length
    with daemon(configure(tmp_path, door.section(tmp_path))) as running:
        disk = door.open(tmp_path)
        requests = [
            proto.write(number, number * length, pattern(number, length)) for number in range(count)
        ]

        def send() -> None:
            # The daemon closes without taking all of them.
            with suppress(BrokenPipeError, ConnectionResetError):
                disk.client.send(*requests)

        sender = threading.Thread(target=send)
        sender.start()
        acknowledged = [disk.client.reply()]
        running.process.send_signal(signal.SIGTERM)
        # Once more: the daemon is stopping already.
        running.process.send_signal(signal.SIGTERM)
        with suppress(EOFError, ConnectionResetError):
            while True:
                acknowledged.append(disk.client.reply())
        assert running.wait() == 0
        sender.join(DEADLINE_S)
        disk.close()
    data = image.read_bytes()
    for cookie, error, _ in acknowledged:
        assert error == 0
        assert data[cookie * length : (cookie + 1) * length] == pattern(cookie, length)


def test_sighup_takes_over_the_size_of_the_image(tmp_path: Path, image: Path) -> None:
    with daemon(all_doors(tmp_path)) as running:
        disk = DOORS[0].open(tmp_path)
        before = image.stat().st_size
        with image.open("r+b") as file:
            file.truncate(before + BLOCK_BYTES)
        running.process.send_signal(signal.SIGHUP)
        text = f"now {before // BLOCK_BYTES + 1} blocks"
        until(lambda: text in running.errors, "the daemon has seen the new size")
        # The client's next command meets the unit attention, of which it does not hear.
        disk.read(0, 1)
        assert disk.read(before // BLOCK_BYTES, 1) == bytes(BLOCK_BYTES)
        disk.close()
        assert running.stop(signal.SIGTERM) == 0


def test_after_a_kill_the_next_start_succeeds(tmp_path: Path, image: Path) -> None:
    conf = all_doors(tmp_path)
    with daemon(conf) as running:
        disks = [door.open(tmp_path) for door in DOORS]
        for lba, disk in enumerate(disks):
            disk.write(lba, pattern(lba, BLOCK_BYTES))
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        for disk in disks:
            disk.close()
    assert sockets(tmp_path) == sorted(door.path(tmp_path).name for door in DOORS)
    with daemon(conf) as running:
        for lba, door in enumerate(DOORS):
            disk = door.open(tmp_path)
            assert disk.read(lba, 1) == pattern(lba, BLOCK_BYTES)
            disk.close()
        assert running.stop(signal.SIGTERM) == 0
    assert sockets(tmp_path) == []


def test_debian_s_libnbd_writes_and_the_file_has_it_after_the_stop(
    tmp_path: Path, image: Path
) -> None:
    have = subprocess.run(["/usr/bin/python3", "-c", "import nbd"], capture_output=True, timeout=30)
    if have.returncode != 0:
        pytest.skip("python3-libnbd is not installed")
    door = NbdDoor()
    script = (
        "import nbd, sys\n"
        "h = nbd.NBD()\n"
        "h.connect_uri(sys.argv[1])\n"
        "h.pwrite(b'libnbd!!' * 64, 4096)\n"
        "h.flush()\n"
        "h.shutdown()\n"
    )
    uri = f"nbd+unix:///t?socket={door.path(tmp_path)}"
    with daemon(configure(tmp_path, door.section(tmp_path))) as running:
        subprocess.run(["/usr/bin/python3", "-c", script, uri], check=True, timeout=60)
        assert running.stop(signal.SIGTERM) == 0
    assert image.read_bytes()[4096:4608] == b"libnbd!!" * 64


def fails(conf: Path) -> str:
    """Start a daemon that must give up; return the last line of what it says."""
    with starting(conf) as process:
        assert process.wait() == 1
    assert "Traceback" not in process.errors
    return process.errors.splitlines()[-1]


def test_a_missing_backing_file_is_named_with_its_line(tmp_path: Path) -> None:
    door = NbdDoor()
    conf = configure(tmp_path, door.section(tmp_path))
    with starting(conf) as process:
        assert process.wait() == 1
    image = tmp_path / "disk.img"
    assert process.errors == f"{conf}:2: device d: {image}: No such file or directory\n"
    assert sockets(tmp_path) == []


def test_a_port_in_use_is_named_and_nothing_is_left_behind(tmp_path: Path, image: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        section = nbd_section(f"unix:{tmp_path}/first.sock", address, f"unix:{tmp_path}/last.sock")
        line = fails(configure(tmp_path, section))
    assert line == f"cannot listen on {address}: Address already in use"
    assert sockets(tmp_path) == []


@pytest.mark.parametrize("order", [(NbdDoor(), LocalDoor()), (LocalDoor(), NbdDoor())])
def test_a_second_driver_that_fails_takes_the_first_with_it(
    tmp_path: Path, image: Path, order: tuple[Door, Door]
) -> None:
    first, second = order
    conf = configure(tmp_path, first.section(tmp_path), second.section(tmp_path))
    path = second.path(tmp_path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        line = fails(conf)
    assert line == f"cannot listen on unix:{path}: another server listens there"
    assert sockets(tmp_path) == [path.name]


def test_an_interface_that_is_not_there_is_named(tmp_path: Path, image: Path) -> None:
    aoe = "TARGET_DRIVER aoe {\ninterface no-such-if\nTARGET e0.0 {\nLUN 0 d\nenabled 1\n}\n}\n"
    line = fails(configure(tmp_path, NbdDoor().section(tmp_path), aoe))
    reasons = "No such device|Operation not permitted"
    assert re.fullmatch(f"no-such-if: ({reasons})", line)
    assert sockets(tmp_path) == []


def test_a_second_daemon_is_refused_and_the_first_goes_on(tmp_path: Path, image: Path) -> None:
    door = NbdDoor()
    conf = configure(tmp_path, door.section(tmp_path))
    with daemon(conf) as running:
        again = configure(tmp_path, door.section(tmp_path)).rename(tmp_path / "again.conf")
        assert "another server listens there" in fails(again)
        disk = door.open(tmp_path)
        assert disk.read(0, 1) == bytes(BLOCK_BYTES)
        disk.close()
        assert running.stop(signal.SIGTERM) == 0


def test_a_daemon_without_doors_waits_for_its_signal(tmp_path: Path, image: Path) -> None:
    with daemon(configure(tmp_path)) as running:
        assert running.process.poll() is None
        assert running.stop(signal.SIGTERM) == 0
