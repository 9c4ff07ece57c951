# SPDX-License-Identifier: GPL-2.0-or-later
"""checks.py: servers that lose, mix up or refuse what they are sent are found out."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench.aoe.checks import verify
from tests.bench.aoe.frames import Route
from tests.bench.aoe.wire import good_reply
from tests.bench.client import LoadError

ROUTE = Route(b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2")
DISK_SECTORS = 1 << 10
# Ends a server's thread.
FAREWELL = b"end"

# What to do with a request: returns the replies.
Serve = Callable[[bytes], list[bytes]]


class Disk:
    """A server over a file, as it should be."""

    def __init__(self, image: Path) -> None:
        self.image = image
        image.write_bytes(bytes(DISK_SECTORS * 512))

    def serve(self, request: bytes) -> list[bytes]:
        """Read or write, and reply."""
        offset_bytes = int.from_bytes(request[28:34], "little") * 512
        with self.image.open("r+b") as file:
            file.seek(offset_bytes)
            if request[27] == 0x24:
                return [good_reply(request)[:36] + file.read(request[26] * 512)]
            file.write(request[36:])
        return [good_reply(request)]


@contextmanager
def served(serve: Serve) -> Iterator[socket.socket]:
    """A socket at whose other end a server replies."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def loop() -> None:
        while (request := far.recv(1 << 14)) != FAREWELL:
            for reply in serve(request):
                far.send(reply)

    with near, far:
        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield near
        finally:
            near.settimeout(10)
            near.send(FAREWELL)
            thread.join()


def check(serve: Serve, image: Path, sectors: int = 2) -> None:
    with served(serve) as sock:
        verify(sock, ROUTE, sectors, DISK_SECTORS, image)


@pytest.mark.parametrize("sectors", [2, 16])
def test_server_that_stores_everything_passes(tmp_path: Path, sectors: int) -> None:
    disk = Disk(tmp_path / "disk")
    check(disk.serve, disk.image, sectors)
    stored = disk.image.read_bytes()
    # Both ends of the disk were written.
    assert any(stored[: sectors * 512])
    assert any(stored[-sectors * 512 :])


def test_announcements_and_frames_of_others_are_passed_over(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk")
    announcement = bytes(19) + b"\x01" + bytes(40)
    stranger = bytes(20) + b"\xff" * 40

    def serve(request: bytes) -> list[bytes]:
        return [announcement, stranger, *disk.serve(request)]

    check(serve, disk.image)


def test_writes_that_are_lost_are_found(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk")

    def serve(request: bytes) -> list[bytes]:
        return [good_reply(request)] if request[27] == 0x34 else disk.serve(request)

    with pytest.raises(LoadError, match=r"data read at LBA 0 are not those written"):
        check(serve, disk.image)


def test_writes_that_are_not_in_the_file_are_found(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk")
    other = tmp_path / "other"
    other.write_bytes(bytes(DISK_SECTORS * 512))
    with pytest.raises(LoadError, match=r"data written at LBA 0 are not in .*other"):
        check(disk.serve, other)


def test_errors_are_found(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk")

    def serve(request: bytes) -> list[bytes]:
        reply = good_reply(request)
        return [reply[:27] + b"\x41" + reply[28:]]

    with pytest.raises(LoadError, match=r"flags 0x18, 0x41"):
        check(serve, disk.image)


def test_missing_replies_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.aoe.checks.REPLY_DEADLINE_S", 0.1)
    disk = Disk(tmp_path / "disk")

    def serve(request: bytes) -> list[bytes]:
        return [] if request[28:34] == bytes(6) else disk.serve(request)

    with pytest.raises(LoadError, match=r"no reply to 1 of 32 frames"):
        check(serve, disk.image)
