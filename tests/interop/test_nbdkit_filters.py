# SPDX-License-Identifier: GPL-2.0-or-later
"""nbdkit's filters in front of our plugin: each one's effect, seen by a client or in the file."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bridges.daemon_process import LocalDoor, configure, daemon, until
from tests.bridges.nbd import proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.proto import EINVAL, EIO, ENOSPC, READ, WRITE
from tests.interop.doors import NbdkitProcess, Tools
from tests.scsi_backend.fakes import pattern

BLOCK = 512
MIB = 1 << 20

Filtered = Callable[..., NbdkitProcess]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk of one MiB."""
    path = tmp_path / "disk.img"
    path.write_bytes(pattern(1, MIB))
    return path


@pytest.fixture
def filtered(tmp_path: Path, image: Path) -> Iterator[Filtered]:
    """Start nbdkit with the disk behind filters; words with a sign are parameters."""
    with ExitStack() as stack:

        def start(*words: str, parameters: tuple[str, ...] | None = None) -> NbdkitProcess:
            options = [f"--filter={word}" for word in words if "=" not in word]
            settings = [word for word in words if "=" in word]
            disk = (str(image),) if parameters is None else parameters
            process = NbdkitProcess(tmp_path / "filtered.sock", [*disk, *settings], options)
            return stack.enter_context(process)

        yield start


def _client(process: NbdkitProcess) -> Client:
    return Client(process.connect()).begin("")


def test_cow_keeps_what_is_written_from_the_file(filtered: Filtered, image: Path) -> None:
    process = filtered("cow")
    with _client(process) as client:
        client.write(0, bytes(3 * BLOCK))
        assert (
            client.read(0, 4 * BLOCK) == bytes(3 * BLOCK) + pattern(1, MIB)[3 * BLOCK : 4 * BLOCK]
        )
        assert client.call(proto.FLUSH) == (0, b"")
    with _client(process) as client:
        assert client.read(0, 3 * BLOCK) == bytes(3 * BLOCK)
    assert image.read_bytes() == pattern(1, MIB)


def test_cow_makes_a_read_only_disk_writable(filtered: Filtered, image: Path) -> None:
    with _client(filtered("cow", "read_only=1")) as client:
        client.write(MIB - BLOCK, bytes(BLOCK))
        assert client.read(MIB - BLOCK, BLOCK) == bytes(BLOCK)
    assert image.read_bytes() == pattern(1, MIB)


def test_partition_serves_one_partition(filtered: Filtered, image: Path) -> None:
    first, blocks = 64, 100
    # A partition table in the boot record: one entry of type 83h, and the signature.
    entry = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", first, blocks)
    with image.open("r+b") as file:
        file.write(entry.rjust(446 + 16, b"\0").ljust(510, b"\0") + b"\x55\xaa")
    with _client(filtered("partition", "partition=1")) as client:
        assert client.size_bytes == blocks * BLOCK
        start, end = first * BLOCK, (first + blocks) * BLOCK
        assert client.read(0, blocks * BLOCK) == pattern(1, MIB)[start:end]
        client.write(BLOCK, bytes(BLOCK))
    assert image.read_bytes()[start + BLOCK : start + 2 * BLOCK] == bytes(BLOCK)


def test_retry_goes_on_with_a_daemon_that_comes_back(
    filtered: Filtered, image: Path, tmp_path: Path
) -> None:
    door = LocalDoor()
    conf = configure(tmp_path, door.section(tmp_path))
    parameters = (f"socket={door.path(tmp_path)}", "device=d")
    with daemon(conf) as first:
        settings = ("retries=60", "retry-delay=1", "retry-exponential=no")
        process = filtered("retry", *settings, parameters=parameters)
        with _client(process) as client:
            assert client.read(0, BLOCK) == pattern(1, MIB)[:BLOCK]
            first.process.kill()
            first.wait()
            client.send(proto.request(READ, 7, BLOCK, BLOCK))
            with daemon(conf):
                assert client.reply(BLOCK) == (7, 0, pattern(1, MIB)[BLOCK : 2 * BLOCK])
                client.write(0, bytes(BLOCK))
    assert image.read_bytes()[:BLOCK] == bytes(BLOCK)


def test_exitlast_ends_nbdkit_with_its_last_client(filtered: Filtered, image: Path) -> None:
    process = filtered("exitlast")
    with _client(process) as one:
        with _client(process) as other:
            other.write(0, bytes(BLOCK))
            other.leave()
        assert one.read(0, BLOCK) == bytes(BLOCK)
        one.leave()
    assert process.wait_for_end() == 0
    assert image.read_bytes()[:BLOCK] == bytes(BLOCK)


def test_log_shows_what_reaches_the_plugin(filtered: Filtered, tmp_path: Path) -> None:
    path = tmp_path / "requests"
    with _client(filtered("log", f"logfile={path}", "thin_provisioned=1")) as client:
        client.write(BLOCK, bytes(2 * BLOCK), flags=proto.FUA)
        assert client.call(proto.TRIM, 4096, 8192) == (0, b"")
        client.leave()
    until(lambda: "Disconnect transactions=2\n" in path.read_text(), "the end is logged")
    text = path.read_text()
    assert " size=0x100000 minsize=0x200 prefsize=0x1000 maxsize=0x2000000 write=1 " in text
    assert "Write id=1 offset=0x200 count=0x400 fua=1 ...\n" in text
    assert "Trim id=2 offset=0x1000 count=0x2000 fua=0 ...\n" in text


def test_error_gives_the_errors_it_was_told_to(filtered: Filtered, image: Path) -> None:
    process = filtered("error", "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
    with _client(process) as client:
        assert client.call(WRITE, 0, BLOCK, bytes(BLOCK)) == (ENOSPC, b"")
        assert client.read(0, MIB) == pattern(1, MIB)
    assert image.read_bytes() == pattern(1, MIB)


def test_delay_delays_reads(filtered: Filtered) -> None:
    with _client(filtered("delay", "delay-read=300ms")) as client:
        client.write(0, bytes(BLOCK))
        began_s = time.monotonic()
        assert client.read(0, BLOCK) == bytes(BLOCK)
        # A delay can only be longer, on whatever machine.
        assert time.monotonic() - began_s >= 0.3


@pytest.mark.parametrize("blocksize", [512, 4096])
def test_blocksize_lets_clients_ask_for_any_bytes(
    filtered: Filtered, image: Path, blocksize: int
) -> None:
    with _client(filtered("blocksize", f"blocksize={blocksize}")) as client:
        assert client.read(1, 5) == pattern(1, MIB)[1:6]
        client.write(blocksize - 2, b"four")
        client.write(MIB - 1, b"z")
        assert client.call(WRITE, MIB - 1, 2, b"xx")[0] in (EINVAL, ENOSPC)
    expected = bytearray(pattern(1, MIB))
    expected[blocksize - 2 : blocksize + 2] = b"four"
    expected[-1:] = b"z"
    assert image.read_bytes() == expected


def test_filters_stand_on_one_another(filtered: Filtered, tmp_path: Path, image: Path) -> None:
    path = tmp_path / "requests"
    error = ("error", "error-pread=EIO", "error-pread-rate=100%", f"error-pread-file={path}.on")
    with _client(filtered("log", f"logfile={path}", "cow", *error)) as client:
        client.write(0, bytes(65536))
        (tmp_path / "requests.on").touch()
        # The first 64 KiB are the filter's own copy now; the rest is the plugin's.
        assert client.read(0, 65536) == bytes(65536)
        assert client.call(READ, 65536, BLOCK) == (EIO, b"")
    assert image.read_bytes() == pattern(1, MIB)


def test_qemu_img_through_cow_leaves_the_disk_alone(
    filtered: Filtered, image: Path, tools: Tools
) -> None:
    process = filtered("cow", "thin_provisioned=1")
    tools.path("new.img").write_bytes(pattern(9, MIB))
    tools.run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "new.img", process.uri)
    tools.run("qemu-img", "compare", "-f", "raw", "-F", "raw", "new.img", process.uri)
    assert image.read_bytes() == pattern(1, MIB)
