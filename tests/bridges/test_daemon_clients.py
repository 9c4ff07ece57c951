# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon as a process: who may come in, how many, with how much memory; and its status."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridges.control import ask
from tests.bridges.daemon_process import (
    BLOCK_BYTES,
    DEADLINE_S,
    NbdDisk,
    NbdDoor,
    configure,
    connect,
    daemon,
    starting,
    until,
)
from tests.bridges.nbd import proto
from tests.scsi_backend.fakes import pattern

DISK_BYTES = 48 << 20
MIB = 1 << 20
ME = f"uid={os.getuid()}"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, DISK_BYTES)
    return path


def nbd(lines: str) -> str:
    """An nbd driver with these lines and the disk behind it."""
    return f"TARGET_DRIVER nbd {{\n{lines}\nTARGET t {{\nLUN 0 d\nenabled 1\n}}\n}}\n"


def is_closed_at_once(path: Path) -> bool:
    """Connect; tell whether the server closes without a word."""
    with connect(str(path)) as sock:
        return sock.recv(1) == b""


def test_who_is_not_allowed_is_refused_at_that_listener_only(tmp_path: Path, image: Path) -> None:
    mine, closed, other = (tmp_path / name for name in ("mine", "closed", "other"))
    lines = f"listen unix:{mine} {{\nallow {ME}\n}}\n"
    lines += f"listen unix:{closed} {{\nallow {ME}\ndeny {ME}\n}}\n"
    lines += f"listen unix:{other} {{\nallow uid={os.getuid() + 1}\n}}"
    with daemon(configure(tmp_path, nbd(lines))) as running:
        assert is_closed_at_once(closed)
        assert is_closed_at_once(other)
        disk = NbdDisk(connect(str(mine)), "t")
        assert disk.read(0, 1) == bytes(BLOCK_BYTES)
        disk.close()
        assert f"unix:{ME}: refused: not allowed at unix:{closed}\n" in running.errors
        assert running.stop(signal.SIGTERM) == 0


def test_tcp_clients_are_told_apart_by_their_address(tmp_path: Path, image: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = f"listen 127.0.0.1:{port} {{\nallow 127.0.0.0/8\ndeny 127.0.0.2\n}}"
    with daemon(configure(tmp_path, nbd(lines))) as running:
        where = ("127.0.0.1", port)
        with socket.create_connection(where, DEADLINE_S, ("127.0.0.2", 0)) as denied:
            assert denied.recv(1) == b""
        with socket.create_connection(where, DEADLINE_S, ("127.0.0.3", 0)) as allowed:
            assert allowed.recv(len(proto.GREETING)) == proto.GREETING
        assert running.stop(signal.SIGTERM) == 0


def test_a_limit_of_the_driver_counts_all_listeners(tmp_path: Path, image: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    lines = f"max_connections 1\nlisten unix:{one}\nlisten unix:{two}"
    with daemon(configure(tmp_path, nbd(lines))) as running:
        disk = NbdDisk(connect(str(one)), "t")
        assert is_closed_at_once(two)
        disk.close()
        assert running.stop(signal.SIGTERM) == 0


def test_requests_longer_than_the_memory_are_carried_out_one_by_one(
    tmp_path: Path, image: Path
) -> None:
    door = NbdDoor()
    path = door.path(tmp_path)
    lines = f"connection_memory 65536\nlisten unix:{path}"
    data = pattern(1, 32 * MIB)
    with daemon(configure(tmp_path, nbd(lines))) as running:
        disk = door.open(tmp_path)
        disk.write(0, data)
        assert disk.read(0, len(data) // BLOCK_BYTES) == data
        # Many at once, all of them larger than what may be pending.
        reads = [proto.request(proto.READ, number, number * MIB, MIB) for number in range(32)]
        disk.client.send(*reads)
        for number in range(32):
            assert disk.client.reply(MIB) == (number, 0, data[number * MIB : (number + 1) * MIB])
        writes = [proto.write(number, number * MIB, pattern(number, MIB)) for number in range(8)]
        disk.client.send(*writes)
        assert sorted(disk.client.reply() for _ in writes) == [(n, 0, b"") for n in range(8)]
        disk.close()
        assert running.stop(signal.SIGTERM) == 0
    stored = image.read_bytes()
    assert stored[: 8 * MIB] == b"".join(pattern(number, MIB) for number in range(8))


def bridge(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    program = str(Path(sys.executable).with_name("scst-bridge"))
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60)


def test_the_status_of_a_daemon_is_shown(tmp_path: Path, image: Path) -> None:
    door = NbdDoor()
    with daemon(configure(tmp_path, door.section(tmp_path))) as running:
        disk = door.open(tmp_path)
        done = bridge("status", "--control", str(running.control), "--json")
        assert (done.returncode, done.stderr) == (0, "")
        found: Mapping[str, Any] = json.loads(done.stdout)
        assert found["pid"] == running.process.pid
        (device,) = found["devices"]
        assert (device["name"], device["size_bytes"]) == ("d", DISK_BYTES)
        (session,) = found["sessions"]
        assert (session["initiator"], session["connections"]) == (f"unix:{ME}", 1)
        (listener,) = found["listeners"]
        assert listener["connections"] == 1
        assert listener["uris"] == [f"nbd+unix:///t?socket={door.path(tmp_path)}"]
        done = bridge("status", "--control", str(running.control))
        assert (done.returncode, done.stderr) == (0, "")
        assert listener["uris"][0] in done.stdout.split()
        disk.close()

        def has_left() -> bool:
            return len(ask(str(running.control), "status")["sessions"]) == 0

        until(has_left, "the session is gone")
        assert running.stop(signal.SIGTERM) == 0
        assert not running.control.exists()
        done = bridge("status", "--control", str(running.control))
        assert (done.returncode, done.stdout) == (1, "")
        reason = "no daemon answers: No such file or directory"
        assert done.stderr == f"{running.control}: {reason}\n"


def test_a_control_socket_that_was_asked_for_must_be_possible(tmp_path: Path, image: Path) -> None:
    control = tmp_path / "control"
    control.write_text("no socket")
    conf = configure(tmp_path, NbdDoor().section(tmp_path))
    done = bridge("serve", str(conf), "--control", str(control))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == f"cannot listen on unix:{control}: the file exists and is no socket"
    assert not NbdDoor().path(tmp_path).exists()


def test_sockets_are_taken_by_a_driver_or_refused(tmp_path: Path, image: Path) -> None:
    ours, theirs = socket.socketpair()
    program = str(Path(sys.executable).with_name("scst-bridge"))
    with ours, theirs:
        done = subprocess.run(
            [program, "serve", "--stdio", str(configure(tmp_path))],
            stdin=theirs.fileno(),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "sockets were passed: expected a TARGET_DRIVER nbd to take them"


def test_a_line_for_systemd_without_systemd_is_named(tmp_path: Path, image: Path) -> None:
    conf = configure(tmp_path, nbd("listen systemd"))
    with starting(conf) as process:
        assert process.wait() == 1
    expected = "expected a socket, and none was passed (LISTEN_FDS)"
    last = process.errors.splitlines()[-1]
    assert last == f"{conf}:6: driver nbd: listen systemd: {expected}"
