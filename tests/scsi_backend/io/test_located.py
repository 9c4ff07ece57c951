# SPDX-License-Identifier: GPL-2.0-or-later
"""Where data lie that need not be copied: in memory, in the page cache, or nowhere."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
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


def test_what_was_located_can_be_sent_after_its_file_was_closed(memory_path: Path) -> None:
    file = opened(memory_path, b"mine" * 1024, 4096)
    where = file.locate_now(0, 4096, is_sparse=False)
    assert isinstance(where, FileRange)
    assert where.descriptor is not None
    where.descriptor.hold()
    file.close()
    other = opened(memory_path.with_name("other"), b"others", 4096)
    assert os.pread(where.fd, 4, 0) == b"mine"
    where.descriptor.release()
    other.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(where.fd)


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


@pytest.mark.parametrize("is_sparse", [True, False])
@pytest.mark.parametrize(("offset", "length"), [(0, MIB), (MIB // 2, 4096), (2 * MIB, 4096)])
def test_what_lies_behind_the_end_of_a_file_in_memory_is_to_be_read(
    memory_path: Path, offset: int, length: int, is_sparse: bool
) -> None:
    # As zeros the end would be lost in silence, and sent from the file it would break the stream.
    file = opened(memory_path, b"x" * MIB, 4 * MIB)
    os.truncate(memory_path, MIB // 2)
    assert file.locate_now(offset, length, is_sparse=is_sparse) is None
    last = file.locate_now(MIB // 2 - 4096, 4096, is_sparse=is_sparse)
    assert last == FileRange(file.fd, MIB // 2 - 4096)
    file.close()


def test_space_that_was_never_written_is_no_hole_to_look_behind(memory_path: Path) -> None:
    file = opened(memory_path, b"", 4 * MIB)
    try:
        syscalls.cached_pages(file.fd, 0, 4096)
    except OSError as error:
        pytest.skip(f"cachestat(2): {error.strerror} (Linux 6.5 has it)")
    os.posix_fallocate(file.fd, MIB, MIB)
    assert file.locate_now(0, MIB, is_sparse=True) == ZEROS
    # SEEK_DATA would go on through all of it, to the next page that was written.
    assert file.locate_now(MIB, 65536, is_sparse=True) == FileRange(file.fd, MIB)
    assert file.locate_now(2 * MIB - 65536, MIB, is_sparse=True) is not ZEROS
    file.close()


def test_a_hole_punched_later_is_one(memory_path: Path) -> None:
    file = opened(memory_path, b"x" * (2 * MIB), 2 * MIB)
    assert file.locate_now(0, MIB, is_sparse=True) == FileRange(file.fd, 0)
    syscalls.punch_hole(file.fd, 0, MIB)
    assert file.locate_now(0, MIB, is_sparse=True) == ZEROS
    os.pwrite(file.fd, b"y", MIB - 1)
    assert file.locate_now(0, MIB, is_sparse=True) == FileRange(file.fd, 0)
    assert file.locate_now(0, MIB - 4096, is_sparse=True) == ZEROS
    file.close()


def test_without_cachestat_a_hole_is_found_by_seeking(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, offset_bytes: int, length_bytes: int) -> bool:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(syscalls, "is_memory_hole", refuse)
    file = opened(memory_path, b"x" * MIB, 4 * MIB)
    assert file.locate_now(MIB, 3 * MIB, is_sparse=True) == ZEROS
    assert file.locate_now(MIB - 1, 3 * MIB, is_sparse=True) == FileRange(file.fd, MIB - 1)
    file.close()


@pytest.fixture
def huge_pages_path(tmp_path: Path) -> Iterator[Path]:
    """A folder on hugetlbfs, which sendfile(2) refuses."""
    mounted = subprocess.run(["mount", "-t", "hugetlbfs", "none", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"hugetlbfs cannot be mounted: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_a_file_system_that_cannot_send_is_read(huge_pages_path: Path) -> None:
    file = opened(huge_pages_path / "file", b"", 2 * MIB)
    assert syscalls.is_in_memory(file.fd)
    assert file.locate_now(0, 65536, is_sparse=False) is None
    assert file.read_now(memoryview(bytearray(65536)), 0) == 65536
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


def test_what_is_behind_the_end_is_not_located(disk_file: BackingFile) -> None:
    os.pread(disk_file.fd, 4 * MIB, 0)
    os.ftruncate(disk_file.fd, 2 * MIB + 100)
    assert disk_file.locate_now(MIB, MIB + 100, is_sparse=False) is not None
    assert disk_file.locate_now(MIB, MIB + 101, is_sparse=False) is None
    assert disk_file.locate_now(MIB, 2 * MIB, is_sparse=True) is None


def test_a_hole_on_a_disk_is_read_like_anything_else(disk_file: BackingFile) -> None:
    # Looking for holes there may wait for the file system's own metadata.
    os.ftruncate(disk_file.fd, 8 * MIB)
    assert disk_file.locate_now(4 * MIB, MIB, is_sparse=True) is None
    assert os.pread(disk_file.fd, MIB, 4 * MIB) == bytes(MIB)
    assert disk_file.locate_now(4 * MIB, MIB, is_sparse=True) == FileRange(disk_file.fd, 4 * MIB)


def test_what_was_read_ahead_is_located(disk_file: BackingFile) -> None:
    os.posix_fadvise(disk_file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    results: list[int] = []
    disk_file.read_ahead(0, MIB, results.append)
    # Bytes that are on their way count as there, but for the last page, which this waits for.
    os.pread(disk_file.fd, 1, MIB - 1)
    assert disk_file.locate_now(0, MIB, is_sparse=False) == FileRange(disk_file.fd, 0)
    assert results == [0]


def test_what_was_written_is_located_before_it_is_stable(disk_file: BackingFile) -> None:
    os.posix_fadvise(disk_file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.pwrite(disk_file.fd, b"new" * 43691, MIB)
    assert disk_file.locate_now(MIB, 131072, is_sparse=False) == FileRange(disk_file.fd, MIB)


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


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[Path]:
    """A block device of 4 MiB, whose first MiB has data."""
    image = tmp_path / "image"
    image.write_bytes(os.urandom(MIB) + bytes(3 * MIB))
    try:
        made = subprocess.run(
            ["losetup", "--find", "--show", image], capture_output=True, check=False
        )
    except FileNotFoundError as error:
        pytest.skip(f"no losetup: {error}")
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.decode().strip()}")
    device = Path(made.stdout.decode().strip())
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


def test_a_block_device_is_located_where_it_is_cached(loop_device: Path) -> None:
    file = BackingFile.open(str(loop_device), SyncEngine(), read_only=False)
    try:
        # The kernel has looked for partitions at most.
        if syscalls.cached_pages(file.fd, 0, 4 * MIB) == 4 * MIB // 4096:
            pytest.skip("everything is cached already")
        assert file.locate_now(2 * MIB, MIB, is_sparse=True) is None
        os.pread(file.fd, 4 * MIB, 0)
        assert file.locate_now(0, MIB, is_sparse=True) == FileRange(file.fd, 0)
        # A device has no holes, and no end to send from behind.
        assert file.locate_now(2 * MIB, MIB, is_sparse=True) == FileRange(file.fd, 2 * MIB)
        assert file.locate_now(4 * MIB - 4096, 8192, is_sparse=True) is None
    finally:
        file.close()


def test_a_descriptor_that_is_none_has_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        syscalls.cached_pages(-1, 0, 4096)
    with pytest.raises(OSError, match="Bad file descriptor"):
        syscalls.is_memory_hole(-1, 0, 4096)


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(MIB, MIB, 1), (0, MIB, 0), (MIB - 4096, MIB, 0), (4 * MIB - 4096, 8192, 0)],
    ids=["hole", "data", "data first", "behind the end"],
)
def test_a_file_system_is_asked_for_a_hole(
    tmp_path: Path, offset: int, length: int, expected: int
) -> None:
    file = opened(tmp_path / "file", b"x" * MIB, 4 * MIB)
    if syscalls.is_in_memory(file.fd):
        pytest.skip(f"{tmp_path} is in memory, where holes are known at once")
    results: list[int] = []
    assert file.find_hole(offset, length, results.append)
    assert results == [expected]
    file.close()


def test_a_file_in_memory_need_not_be_asked(memory_path: Path) -> None:
    file = opened(memory_path, b"", MIB)
    assert not file.find_hole(0, MIB, lambda result: None)
    file.close()
