# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading past the page cache: any offset and length, the file's end, and files without it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from scsi_backend.io import syscalls
from scsi_backend.io.direct import read_medium
from scsi_backend.io.scatter import ScatterList

CONTENT = os.urandom(3 * 4096 + 100)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 4096),
        (512, 512),
        (4095, 2),
        (0, len(CONTENT)),
        (4096, 8192),
        (100, 9000),
        (7, 0),
        (4096, 0),
    ],
)
@pytest.mark.parametrize("folder", ["nowait_path", "shm_path"])
def test_bytes_are_those_of_the_file(
    folder: str, offset: int, length: int, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(folder) / "file"
    path.write_bytes(CONTENT)
    buffer = bytearray(length)
    with path.open("rb") as file:
        assert read_medium(file.fileno(), memoryview(buffer), offset) == length
    assert buffer == CONTENT[offset : offset + length]


def test_scattered_memory_is_filled_in_order(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    parts = [bytearray(1000), bytearray(24)]
    with path.open("rb") as file:
        view = ScatterList([memoryview(part) for part in parts], 1024)
        assert read_medium(file.fileno(), view, 3000) == 1024
    assert b"".join(parts) == CONTENT[3000:4024]


@pytest.mark.parametrize(("offset", "found"), [(3 * 4096, 100), (3 * 4096 + 50, 50), (5 * 4096, 0)])
def test_end_of_file_ends_the_read(tmp_path: Path, offset: int, found: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    buffer = bytearray(4096)
    with path.open("rb") as file:
        assert read_medium(file.fileno(), memoryview(buffer), offset) == found
    assert buffer[:found] == CONTENT[offset:]


def test_the_page_cache_is_passed_by(nowait_path: Path) -> None:
    path = nowait_path / "file"
    path.write_bytes(b"\xaa" * 64 * 4096)
    with path.open("rb") as file:
        fd = file.fileno()
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            before = syscalls.cached_pages(fd, 0, 64 * 4096)
        except OSError as error:
            pytest.skip(f"the kernel has no cachestat: {error}")
        if before:
            pytest.skip("the kernel kept the pages although they were not needed")
        buffer = bytearray(16 * 4096)
        assert read_medium(fd, memoryview(buffer), 0) == len(buffer)
        assert syscalls.cached_pages(fd, 0, 64 * 4096) == 0
    assert buffer == b"\xaa" * len(buffer)


def test_what_was_not_yet_written_back_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"new", 5000)
        buffer = bytearray(3)
        assert read_medium(file.fileno(), memoryview(buffer), 5000) == 3
    assert buffer == b"new"


def test_file_that_has_no_name_any_more_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        path.unlink()
        buffer = bytearray(4096)
        assert read_medium(file.fileno(), memoryview(buffer), 512) == 4096
    assert buffer == CONTENT[512 : 512 + 4096]


def test_what_cannot_be_read_at_all_is_an_error() -> None:
    read_end, write_end = os.pipe()
    try:
        result = read_medium(write_end, memoryview(bytearray(512)), 0)
    finally:
        os.close(read_end)
        os.close(write_end)
    assert result in (-errno.ESPIPE, -errno.EBADF)
