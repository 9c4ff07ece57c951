# SPDX-License-Identifier: GPL-2.0-or-later
"""Long READs from files over sockets: they see every write before them, wherever the file is."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges.stream import MAX_PENDING_BYTES
from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.backend import Backend
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.conftest import Serve
from tests.bridges.nbd.fakes import RecordingUnit
from tests.bridges.nbd.forms import OFFSET_DATA, OFFSET_HOLE, Form, messages
from tests.bridges.nbd.fuzz import ThinVdisk
from tests.bridges.nbd.proto import EIO, READ, STRUCTURED_REPLY, TRIM, WRITE_ZEROES
from tests.bridges.nbd.serving import Serving

KIB, MIB = 1 << 10, 1 << 20
# No multiple of a page, and with a tail that is not served.
FILE_BYTES = 40 * MIB + 512 + 100
DISK_BYTES = 40 * MIB + 512
CHUNK_HEADER_BYTES = 20


@pytest.fixture(params=["memory", "disk"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Where the file is: in RAM, or on whatever the tests' folder is on."""
    if request.param == "disk":
        yield tmp_path / "disk.img"
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder, "disk.img")


def opened(path: Path, *, is_thin: bool) -> Callable[[Backend], LogicalUnit]:
    """Opens a disk whose first MiB is data, and the rest a hole of its file."""
    path.write_bytes(random.Random(1).randbytes(MIB))
    os.truncate(path, FILE_BYTES)
    words = {"filename": str(path), "thin_provisioned": "1" if is_thin else "0"}
    attributes = FileioAttributes.model_validate(words)
    return lambda backend: backend.add_device("vdisk_fileio", "disk", attributes)


@pytest.fixture(params=["thin", "thick"])
def serving(request: pytest.FixtureRequest, serve: Serve, path: Path) -> Serving:
    return serve(disk=opened(path, is_thin=request.param == "thin"))


def test_a_write_that_was_answered_is_seen_by_every_read_after_it(serving: Serving) -> None:
    chooser = random.Random(2)
    with (
        Client(serving.unix()).begin("disk") as one,
        Client(serving.tcp()).begin("disk") as other,
    ):
        for turn in range(60):
            offset = chooser.randrange(8 * MIB) // 512 * 512
            payload = chooser.randbytes(chooser.choice((512, 64 * KIB, 200 * KIB)))
            one.write(offset, payload)
            reader = (one, other)[turn % 2]
            length = max(len(payload), 64 * KIB)
            assert reader.read(offset, length)[: len(payload)] == payload


def test_reads_of_any_range_are_what_was_written(serving: Serving, path: Path) -> None:
    chooser = random.Random(3)
    image = bytearray(path.read_bytes()[:DISK_BYTES])
    with Client(serving.unix()).begin("disk") as client:
        assert client.size_bytes == DISK_BYTES
        for _ in range(80):
            offset = chooser.randrange(DISK_BYTES)
            kind = chooser.choice(("write", "zeros", "trim", "read", "read", "read"))
            lengths = (1, 4096, 32 * KIB, 100 * KIB, 3 * MIB)
            length = min(chooser.choice(lengths), DISK_BYTES - offset)
            if chooser.random() < 0.8:
                offset, length = offset // 512 * 512, -(-length // 512) * 512
            if kind == "write":
                image[offset : offset + length] = payload = chooser.randbytes(length)
                client.write(offset, payload)
            elif kind == "zeros":
                image[offset : offset + length] = bytes(length)
                assert client.call(WRITE_ZEROES, offset, length) == (0, b"")
            elif kind == "trim" and client.flags & 0x20:
                assert client.call(TRIM, offset, length) == (0, b"")
                first, end = -(-offset // 512) * 512, (offset + length) // 512 * 512
                image[first:end] = bytes(max(0, end - first))
            else:
                assert client.read(offset, length) == image[offset : offset + length]
        assert client.read(0, 32 * MIB) == image[: 32 * MIB]


def test_the_last_bytes_are_read_and_no_more(serving: Serving) -> None:
    with Client(serving.unix()).begin("disk") as client:
        client.write(DISK_BYTES - 64 * KIB, b"\xaa" * (64 * KIB))
        assert client.read(DISK_BYTES - 64 * KIB, 64 * KIB) == b"\xaa" * (64 * KIB)
        assert client.read(DISK_BYTES - 96 * KIB, 96 * KIB)[32 * KIB :] == b"\xaa" * (64 * KIB)
        error, _ = client.call(READ, DISK_BYTES - 64 * KIB + 512, 64 * KIB)
        assert error == proto.EINVAL
        assert client.read(DISK_BYTES - 512, 512) == b"\xaa" * 512


def structured(serving: Serving) -> Client:
    """A client that has agreed on structured replies."""
    client = Client(serving.unix())
    client.greet()
    client.send(proto.option(STRUCTURED_REPLY))
    assert client.option_reply() == (proto.ACK, b"")
    client.send(proto.go("disk"))
    while client.option_reply()[0] != proto.ACK:
        pass
    return client


def kind_of_read(client: Client, offset: int, length: int) -> tuple[int | None, bytes]:
    """READ, which must be answered in one chunk: its type and what it holds."""
    client.send(proto.request(READ, 9, offset, length))
    head = client.receive(CHUNK_HEADER_BYTES)
    payload = client.receive(int.from_bytes(head[-4:], "big"))
    (message,) = messages(head + payload, Form.STRUCTURED, {})
    assert message.flags == 1
    return message.kind, message.payload


@pytest.mark.parametrize("is_thin", [True, False])
def test_only_a_thin_disk_tells_of_holes(serve: Serve, path: Path, is_thin: bool) -> None:
    serving = serve(disk=opened(path, is_thin=is_thin))
    with structured(serving) as client:
        kind, payload = kind_of_read(client, 4 * MIB, MIB)
        hole = (4 * MIB).to_bytes(8, "big") + MIB.to_bytes(4, "big")
        data = (4 * MIB).to_bytes(8, "big") + bytes(MIB)
        assert (kind, payload) == ((OFFSET_HOLE, hole) if is_thin else (OFFSET_DATA, data))
        # In part a hole is data.
        kind, payload = kind_of_read(client, MIB - 64 * KIB, 128 * KIB)
        assert kind == OFFSET_DATA
        assert payload[8:] == path.read_bytes()[MIB - 64 * KIB : MIB + 64 * KIB]
        # Short ones are not worth a look.
        assert kind_of_read(client, 4 * MIB, 4096)[0] == OFFSET_DATA


def test_a_file_cut_short_is_an_error_and_no_end(serving: Serving, path: Path) -> None:
    with Client(serving.unix()).begin("disk") as client:
        expected = client.read(0, 64 * KIB)
        os.truncate(path, 64 * KIB)
        for offset, length in ((0, MIB), (64 * KIB, 64 * KIB), (4 * MIB, 32 * MIB)):
            assert client.call(READ, offset, length) == (EIO, b"")
        assert client.read(0, 64 * KIB) == expected


def test_many_long_reads_at_once_come_whole(serving: Serving, path: Path) -> None:
    image = path.read_bytes()
    chooser = random.Random(4)
    lengths = [chooser.choice((512, 32 * KIB, 300 * KIB, 5 * MIB)) for _ in range(100)]
    asked = {
        cookie: (chooser.randrange(4 * MIB) // 512 * 512, length)
        for cookie, length in enumerate(lengths)
    }
    with Client(serving.tcp()).begin("disk") as client:
        client.send(*(proto.request(READ, cookie, *each) for cookie, each in asked.items()))
        for _ in range(len(asked)):
            ((cookie, error, _),) = proto.parse_replies(client.receive(proto.REPLY_BYTES), {})
            offset, length = asked.pop(cookie)
            assert error == 0
            assert client.receive(length) == image[offset : offset + length]
    assert not asked


@pytest.fixture
def slow(serve: Serve) -> Iterator[tuple[Serving, ThinVdisk]]:
    """A disk of which every third block is not in memory, and waits for the test."""
    vdisk = ThinVdisk(1024, 512, is_thin=True)
    vdisk.reset(vdisk.fill(), range(0), None)
    vdisk.immediate_bytes = -11
    vdisk.is_held = True
    serving = serve(disk=lambda backend: RecordingUnit(vdisk))
    yield serving, vdisk
    serving.call(vdisk.release_all)
    serving.until(lambda: not serving.server.connections)
    os.close(vdisk.fd)


def outstanding(serving: Serving) -> int:
    """How many commands of the one client have not ended."""
    (session,) = serving.targets[0].sessions
    return len(session.nexuses[0].outstanding)


def test_a_read_that_waits_for_the_device_delays_no_other(
    slow: tuple[Serving, ThinVdisk],
) -> None:
    serving, vdisk = slow
    image = bytes(vdisk.data)
    with (
        Client(serving.unix()).begin("disk") as one,
        Client(serving.unix()).begin("disk") as other,
    ):
        one.send(proto.request(READ, 77, 0, 64 * KIB))
        serving.until(lambda: len(vdisk.held) == 1)
        for client in (one, other, one):
            assert client.read(512, 64 * KIB) == image[512 : 512 + 64 * KIB]
        serving.call(vdisk.release_all)
        assert one.reply(64 * KIB) == (77, 0, image[: 64 * KIB])


@pytest.mark.parametrize("offset", [0, 512])
def test_a_client_that_leaves_while_its_read_waits_leaves_nothing_behind(
    slow: tuple[Serving, ThinVdisk], offset: int
) -> None:
    serving, vdisk = slow
    with Client(serving.unix()).begin("disk") as client:
        # It reads the block, then compares it: until it is written, the lock is held.
        client.send(proto.write(1, 700, b"spdx"))
        serving.until(lambda: len(vdisk.held) == 1)
        serving.call(vdisk.release)
        client.send(*(proto.request(READ, cookie, offset, 64 * KIB) for cookie in range(2, 10)))
        serving.until(lambda: outstanding(serving) == 1 + 8)
    serving.call(vdisk.release_all)
    serving.until(serving.is_idle)
    assert vdisk.data[700:704] == b"spdx"


def test_reads_that_wait_for_an_atomic_write_take_no_memory_beyond_the_limit(
    slow: tuple[Serving, ThinVdisk],
) -> None:
    serving, vdisk = slow
    with Client(serving.unix()).begin("disk") as client:
        client.send(proto.write(1, 700, b"spdx"))
        serving.until(lambda: len(vdisk.held) == 1)
        serving.call(vdisk.release)
        # More than may be pending; all of them need memory as soon as they may begin.
        reads = 200
        client.send(*(proto.request(READ, cookie, 0, 512 * KIB) for cookie in range(2, 2 + reads)))
        serving.until(lambda: outstanding(serving) > 20)
        largest = 0
        answered = 0
        while answered < 1 + reads:
            serving.call(vdisk.release_all)
            largest = max(largest, serving.call(lambda: serving.sgv.in_use_bytes))
            ((cookie, error, _),) = proto.parse_replies(client.receive(proto.REPLY_BYTES), {})
            assert error == 0
            client.receive(0 if cookie == 1 else 512 * KIB)
            answered += 1
        # The classes of the SGV cache round up to the next power of two.
        assert largest < 3 * MAX_PENDING_BYTES
