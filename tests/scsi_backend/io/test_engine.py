# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole transfers, results as io_uring gives them, and the engine that does all of it at once."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from scsi_backend.io.engine import SyncEngine, call_guarded, read_fully, write_fully


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_read_fills_the_buffer_from_its_offset(fd: int) -> None:
    buffer = bytearray(16)
    assert read_fully(fd, memoryview(buffer), 32) == 16
    assert buffer == bytes(range(32, 48))


def test_read_beyond_the_end_gives_what_there_is(fd: int) -> None:
    buffer = bytearray(16)
    assert read_fully(fd, memoryview(buffer), 250) == 6
    assert buffer == bytes(range(250, 256)) + bytes(10)


def test_short_reads_are_continued() -> None:
    # The kernel's symbol table is a file that gives about a page with each read.
    symbols = Path("/proc/kallsyms")
    if not symbols.exists():
        pytest.skip(f"{symbols} is missing")
    descriptor = os.open(symbols, os.O_RDONLY)
    try:
        length = 64 << 10
        assert 0 < len(os.pread(descriptor, length, 0)) < length
        assert read_fully(descriptor, memoryview(bytearray(length)), 0) == length
    finally:
        os.close(descriptor)


def test_write_stores_the_buffer_at_its_offset(fd: int) -> None:
    assert write_fully(fd, memoryview(b"spdx"), 100) == 4
    assert os.pread(fd, 6, 99) == b"\x63spdx\x68"


def test_errors_are_negated_errnos(tmp_path: Path) -> None:
    read_only = os.open(tmp_path, os.O_RDONLY)
    try:
        assert read_fully(read_only, memoryview(bytearray(1)), 0) == -errno.EISDIR
        assert write_fully(read_only, memoryview(b"x"), 0) == -errno.EBADF
    finally:
        os.close(read_only)


def test_write_that_fails_half_way_is_an_error(fd: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        result = write_fully(fd, memoryview(bytes(1024)), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result == -errno.EFBIG
    assert os.fstat(fd).st_size == 512


def fail_with(error: Exception) -> int:
    raise error


def test_guarded_call_gives_the_result_or_the_negated_errno() -> None:
    assert call_guarded(lambda: 7) == 7
    assert call_guarded(lambda: fail_with(OSError(errno.ENOSPC, "full"))) == -errno.ENOSPC
    assert call_guarded(lambda: fail_with(OSError("no number"))) == -errno.EIO


def test_sync_engine_is_done_when_it_returns(fd: int) -> None:
    engine = SyncEngine()
    results: list[int] = []
    buffer = bytearray(4)
    engine.write(fd, memoryview(b"spdx"), 0, results.append)
    engine.read(fd, memoryview(buffer), 0, results.append)
    engine.call(lambda: fail_with(OSError(errno.EIO, "bad")), results.append)
    engine.close()
    assert (results, bytes(buffer)) == ([4, 4, -errno.EIO], b"spdx")
