# SPDX-License-Identifier: GPL-2.0-or-later
"""Where data lie that need not be copied: in memory, in the page cache, or nowhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scsi_backend.io import syscalls
from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.file import BackingFile
from scsi_backend.io.located import ZEROS, FileRange

MIB = 1 << 20


@pytest.fixture
def memory_path() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder / "file"
    shutil.rmtree(folder)


def opened(path: Path, data: bytes, size_bytes: int) -> BackingFile:
    """A file with data at its beginning and a hole behind them."""
    path.write_bytes(data)
    os.truncate(path, size_bytes)
    return BackingFile.open(str(path), SyncEngine(), read_only=False)


def test_a_file_in_memory_is_located_where_it_is(memory_path: Path) -> None:
    file = opened(memory_path, bytes(MIB), MIB)
    assert file.locate_now(4096, 65536, is_sparse=False) == FileRange(file.fd, 4096)
    file.close()


@pytest.mark.parametrize(
    ("offset", "length", "is_hole"),
    [(MIB, MIB, True), (MIB - 4096, 8192, False), (0, MIB, False), (3 * MIB, MIB, True)],
)
def test_a_hole_of_a_sparse_file_is_zeros(
    memory_path: Path, offset: int, length: int, is_hole: bool
) -> None:
    file = opened(memory_path, b"x" * MIB, 4 * MIB)
    expected = ZEROS if is_hole else FileRange(file.fd, offset)
    assert file.locate_now(offset, length, is_sparse=True) == expected
    # A disk that is not thin has no holes, whatever its file has.
    assert file.locate_now(offset, length, is_sparse=False) == FileRange(file.fd, offset)
    file.close()


@pytest.fixture
def disk_file(tmp_path: Path) -> Iterator[BackingFile]:
    """A file whose pages can leave the cache, all of them written out."""
    file = opened(tmp_path / "file", os.urandom(4 * MIB), 4 * MIB)
    os.fsync(file.fd)
    if syscalls.is_in_memory(file.fd):
        pytest.skip(f"{tmp_path} is in memory, where nothing leaves the cache")
    try:
        syscalls.cached_pages(file.fd, 0, 4096)
    except OSError as error:
        pytest.skip(f"cachestat(2): {error.strerror} (Linux 6.5 has it)")
    yield file
    file.close()


def test_what_is_cached_is_located(disk_file: BackingFile) -> None:
    os.pread(disk_file.fd, 4 * MIB, 0)
    where = disk_file.locate_now(MIB, MIB, is_sparse=True)
    assert where == FileRange(disk_file.fd, MIB)


def test_what_is_not_cached_is_not_located(disk_file: BackingFile) -> None:
    os.posix_fadvise(disk_file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert syscalls.cached_pages(disk_file.fd, 0, 4 * MIB) == 0
    assert disk_file.locate_now(0, MIB, is_sparse=True) is None


def test_a_part_that_is_missing_is_enough_to_read(disk_file: BackingFile) -> None:
    os.posix_fadvise(disk_file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(disk_file.fd, 0, 0, os.POSIX_FADV_RANDOM)
    os.pread(disk_file.fd, 2 * MIB, 0)
    assert disk_file.locate_now(0, 2 * MIB, is_sparse=False) is not None
    assert disk_file.locate_now(0, 4 * MIB, is_sparse=False) is None


def test_a_range_is_counted_in_the_pages_that_it_touches(disk_file: BackingFile) -> None:
    os.pread(disk_file.fd, 4 * MIB, 0)
    assert syscalls.cached_pages(disk_file.fd, 4095, 2) == 2
    assert disk_file.locate_now(512, 8192, is_sparse=False) == FileRange(disk_file.fd, 512)


def test_a_descriptor_that_is_none_has_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        syscalls.cached_pages(-1, 0, 4096)
