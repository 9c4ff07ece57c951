# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand NBD connections at once: all are served, and all are let go of."""

from __future__ import annotations

import random
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.crowd import LimitError, allow_connections, crowd, descriptors_of
from tests.bridges.daemon_process import DaemonProcess, NbdDoor, configure, daemon, until
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client

CONNECTIONS = 1000
ACTIVE = 8
READS = 64
READ_BYTES = 4096
IMAGE = random.Random(7).randbytes(4 << 20)
DOOR = NbdDoor()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as both ends of the connections need; the daemon inherits the limit."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        allow_connections(CONNECTIONS)
    except LimitError as error:
        pytest.skip(str(error))
    yield
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (limits[0], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )


@pytest.fixture
def process(tmp_path: Path, many_descriptors: None) -> Iterator[DaemonProcess]:
    """A daemon with a disk of random data; it must end well."""
    (tmp_path / "disk.img").write_bytes(IMAGE)
    with daemon(configure(tmp_path, DOOR.section(tmp_path))) as started:
        yield started
        assert started.stop(signal.SIGTERM) == 0, started.errors
        assert "Traceback" not in started.errors, started.errors


def send_reads(client: Client, offsets: list[int]) -> None:
    """Ask for blocks; a request's cookie is its place in the list."""
    requests = (
        proto.request(proto.READ, cookie, offset, READ_BYTES)
        for cookie, offset in enumerate(offsets)
    )
    client.send(*requests)


def check_reads(client: Client, offsets: list[int]) -> None:
    """Take the replies, in whatever order they come."""
    pending = dict(enumerate(offsets))
    while pending:
        cookie, error, data = client.reply(READ_BYTES)
        offset = pending.pop(cookie)
        assert error == 0
        assert data == IMAGE[offset : offset + READ_BYTES]


def test_a_thousand_connections_are_served_and_leave_nothing_behind(
    tmp_path: Path, process: DaemonProcess
) -> None:
    pid = process.process.pid
    before = descriptors_of(pid)
    chooser = random.Random(11)
    with crowd(DOOR.path(tmp_path), "t", CONNECTIONS) as gathered:
        assert gathered.errors == []
        assert len(gathered.clients) == CONNECTIONS
        assert {client.size_bytes for client in gathered.clients} == {len(IMAGE)}
        assert descriptors_of(pid) >= before + CONNECTIONS

        active = gathered.clients[:: CONNECTIONS // ACTIVE]
        assert len(active) == ACTIVE
        blocks = len(IMAGE) // READ_BYTES
        wanted = [[chooser.randrange(blocks) * READ_BYTES for _ in range(READS)] for _ in active]
        for client, offsets in zip(active, wanted, strict=True):
            send_reads(client, offsets)
        for client, offsets in zip(active, wanted, strict=True):
            check_reads(client, offsets)

        gathered.probe()
        assert gathered.errors == []
        # One half says goodbye, the other just hangs up.
        for client in gathered.clients[::2]:
            client.leave()
    until(lambda: descriptors_of(pid) == before, f"{before} descriptors, as before")
    disk = DOOR.open(tmp_path)
    assert disk.read(0, 8) == IMAGE[:4096]
    disk.close()
