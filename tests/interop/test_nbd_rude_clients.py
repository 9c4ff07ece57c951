# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that kill nbdkit 1.32 with other plugins do not kill it with ours, nor the daemon.

A hang-up with reads queued aborts nbdkit's parallel thread model, and a fast zero that was not
offered aborts any model. The plugin is serialized, and offers fast zeros.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.bridges.daemon_process import configure, daemon
from tests.bridges.nbd import mutation, proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.model import World
from tests.bridges.nbd.proto import EIO, ENOTSUP, FAST_ZERO, NO_HOLE, READ, WRITE_ZEROES
from tests.interop.doors import NbdDoor, NbdkitProcess

MIB = 1 << 20
TIMEOUT_S = 20.0
# Far from all of the disk, and in simple form, as Client agrees on no other.
WORLD = World(blocks=1000)
LOCAL = "TARGET_DRIVER scst_local {{\nsocket {}\nTARGET t {{\nLUN 0 d\nenabled 1\n}}\n}}\n"


def _connect(door: NbdDoor) -> Client:
    """Open a raw connection to a door."""
    parts = urlsplit(door.uri)
    if parts.scheme == "nbd":
        address = (parts.hostname or "", parts.port or 0)
        return Client(socket.create_connection(address, TIMEOUT_S))
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT_S)
    sock.connect(parse_qs(parts.query)["socket"][0])
    return Client(sock)


@contextmanager
def _begun(door: NbdDoor) -> Iterator[Client]:
    with _connect(door) as client:
        yield client.begin(urlsplit(door.uri).path.removeprefix("/"))


def _serves(door: NbdDoor) -> bool:
    with _begun(door) as client:
        client.write(0, b"alive!!!" * 64)
        return client.read(0, 512) == b"alive!!!" * 64


@pytest.mark.parametrize("kind", ["reads", "writes"])
def test_hanging_up_with_requests_queued(door: NbdDoor, kind: str) -> None:
    for number in range(20):
        with _begun(door) as client:
            if kind == "reads":
                client.send(*(proto.request(READ, n, n * 4096, 65536) for n in range(200)))
            else:
                client.send(*(proto.write(n, n * 65536, bytes(65536)) for n in range(20)))
            if number % 2:
                # A reset instead of an orderly end.
                linger = struct.pack("ii", 1, 0)
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert _serves(door)


@pytest.mark.parametrize("flags", [FAST_ZERO, FAST_ZERO | NO_HOLE])
def test_a_fast_zero_that_was_not_asked_about(door: NbdDoor, flags: int) -> None:
    with _begun(door) as client:
        client.write(0, b"keep" * 1024)
        error, _ = client.call(WRITE_ZEROES, 0, 4096, flags=flags)
        # The disk is thin; space that is to stay reserved has to be written.
        assert error == (ENOTSUP if flags & NO_HOLE else 0)
        assert client.read(0, 4096) == (b"keep" * 1024 if error else bytes(4096))
    assert _serves(door)


def test_connections_that_come_and_go(door: NbdDoor) -> None:
    for number in range(60):
        with _connect(door) as client:
            if number % 3:
                client.greet()
            if number % 3 == 2:
                client.send(proto.go(""), proto.option(proto.LIST)[:9])
    assert _serves(door)


def test_spoilt_conversations(door: NbdDoor) -> None:
    chooser = random.Random(11)
    name = urlsplit(door.uri).path.removeprefix("/")
    for number in range(60):
        with _connect(door) as client:
            begin = proto.FIXED_NEWSTYLE + proto.go(name)
            requests = mutation.spoil(chooser, mutation.requests(chooser, WORLD))
            whole = mutation.spoil(chooser, mutation.handshake(chooser))
            try:
                client.send(begin + requests if number % 2 else whole)
            except (BrokenPipeError, ConnectionResetError):
                continue
    assert _serves(door)


def test_a_daemon_that_comes_back_serves_the_plugin_s_next_connection(tmp_path: Path) -> None:
    path = tmp_path / "local.sock"
    (tmp_path / "disk.img").write_bytes(bytes(MIB))
    conf = configure(tmp_path, LOCAL.format(path))
    parameters = [f"socket={path}", "device=t"]
    with daemon(conf) as first, NbdkitProcess(tmp_path / "p.sock", parameters) as nbdkit:
        door = NbdDoor(nbdkit.uri, tmp_path / "disk.img", is_nbdkit=True)
        with _begun(door) as client:
            assert client.read(0, 512) == bytes(512)
            first.process.kill()
            first.wait()
            assert client.call(READ, 0, 512) == (EIO, b"")
        with _connect(door) as client, pytest.raises(AssertionError, match="GO failed"):
            client.begin("")
        assert nbdkit.is_alive
        with daemon(conf):
            assert _serves(door)
