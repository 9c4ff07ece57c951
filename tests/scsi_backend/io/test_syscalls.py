# SPDX-License-Identifier: GPL-2.0-or-later
"""File facts and system calls, on a real file system and on tmpfs."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scsi_backend.io import syscalls

PAGE = 4096
OpenFile = Callable[[Path], int]


@pytest.fixture
def open_file() -> Iterator[OpenFile]:
    opened: list[int] = []

    def open_rw(path: Path) -> int:
        opened.append(os.open(path, os.O_RDWR | os.O_CREAT))
        return opened[-1]

    yield open_rw
    for fd in opened:
        os.close(fd)


@pytest.fixture
def fd(open_file: OpenFile, tmp_path: Path) -> int:
    """A file of 16 pages of data on the file system of the tests' folder."""
    descriptor = open_file(tmp_path / "file")
    os.pwrite(descriptor, b"\xaa" * 16 * PAGE, 0)
    return descriptor


def punch_or_skip(fd: int, offset_bytes: int, length_bytes: int) -> None:
    try:
        syscalls.punch_hole(fd, offset_bytes, length_bytes)
    except OSError as error:
        pytest.skip(f"the file system cannot punch holes: {error}")


def test_punched_hole_reads_as_zeros_and_keeps_the_size(fd: int) -> None:
    punch_or_skip(fd, 2 * PAGE, 3 * PAGE)
    assert os.pread(fd, 5 * PAGE, PAGE) == b"\xaa" * PAGE + bytes(3 * PAGE) + b"\xaa" * PAGE
    assert os.fstat(fd).st_size == 16 * PAGE


def test_hole_punched_at_the_end_does_not_grow_the_file(fd: int) -> None:
    punch_or_skip(fd, 16 * PAGE, PAGE)
    assert os.fstat(fd).st_size == 16 * PAGE


def test_hole_smaller_than_a_page_zeroes_exactly_its_bytes(fd: int) -> None:
    punch_or_skip(fd, 512, 512)
    assert os.pread(fd, 2048, 0) == b"\xaa" * 512 + bytes(512) + b"\xaa" * 1024


def test_failed_fallocate_raises_its_errno(tmp_path: Path) -> None:
    read_only = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor") as failure:
            syscalls.punch_hole(read_only, 0, PAGE)
    finally:
        os.close(read_only)
    assert failure.value.errno == errno.EBADF


def test_asking_whether_holes_can_be_punched_changes_nothing(fd: int) -> None:
    before = os.pread(fd, 16 * PAGE, 0)
    punch_or_skip(fd, 16 * PAGE, PAGE)
    assert syscalls.can_punch_holes(fd)
    assert os.pread(fd, 17 * PAGE, 0) == before


def test_zeroed_range_reads_as_zeros_and_keeps_its_space(fd: int) -> None:
    try:
        syscalls.zero_range(fd, 2 * PAGE, 2 * PAGE)
    except OSError as error:
        pytest.skip(f"the file system cannot zero ranges: {error}")
    allocated = os.fstat(fd).st_blocks * 512
    assert os.pread(fd, 4 * PAGE, PAGE) == b"\xaa" * PAGE + bytes(2 * PAGE) + b"\xaa" * PAGE
    assert allocated >= 16 * PAGE


def test_size_of_a_regular_file_ignores_its_position(fd: int) -> None:
    os.lseek(fd, 100, os.SEEK_SET)
    assert syscalls.size_bytes(fd) == 16 * PAGE
    assert os.lseek(fd, 0, os.SEEK_CUR) == 100


def test_extents_of_a_sparse_file_are_its_runs_in_order(fd: int) -> None:
    punch_or_skip(fd, 4 * PAGE, 4 * PAGE)
    runs = list(syscalls.extents(fd, 0, 16 * PAGE))
    assert runs == [(4 * PAGE, True), (4 * PAGE, False), (8 * PAGE, True)]


def test_extents_begin_within_a_run(fd: int) -> None:
    punch_or_skip(fd, 4 * PAGE, 4 * PAGE)
    assert list(syscalls.extents(fd, 5 * PAGE + 512, 9 * PAGE)) == [
        (3 * PAGE - 512, False),
        (PAGE, True),
    ]


def test_extents_beyond_the_last_data_are_one_hole(fd: int) -> None:
    os.ftruncate(fd, 32 * PAGE)
    assert list(syscalls.extents(fd, 20 * PAGE, 32 * PAGE)) == [(12 * PAGE, False)]


def test_extents_of_a_file_shorter_than_the_range_end_in_a_hole(fd: int) -> None:
    assert list(syscalls.extents(fd, 0, 20 * PAGE)) == [(16 * PAGE, True), (4 * PAGE, False)]


def test_extents_of_nothing_are_none(fd: int) -> None:
    assert list(syscalls.extents(fd, PAGE, PAGE)) == []


def test_tmpfs_is_in_memory(open_file: OpenFile, shm_path: Path) -> None:
    assert syscalls.is_in_memory(open_file(shm_path / "file"))


def test_a_file_system_with_nowait_reads_is_not_in_memory(
    open_file: OpenFile, nowait_path: Path
) -> None:
    assert not syscalls.is_in_memory(open_file(nowait_path / "file"))


def test_a_character_device_is_not_in_memory() -> None:
    zero = os.open("/dev/zero", os.O_RDONLY)
    try:
        assert not syscalls.is_in_memory(zero)
    finally:
        os.close(zero)


def test_a_file_of_no_known_mount_is_not_taken_for_memory() -> None:
    # The kernel's own tmpfs, on which memory files live, is mounted nowhere.
    descriptor = os.memfd_create("file")
    try:
        assert not syscalls.is_in_memory(descriptor)
    finally:
        os.close(descriptor)


def test_most_files_can_be_sent_and_nothing_is_taken_from_them(fd: int) -> None:
    os.lseek(fd, 100, os.SEEK_SET)
    assert syscalls.can_send(fd)
    assert os.lseek(fd, 0, os.SEEK_CUR) == 100


def test_what_the_kernel_cannot_send_is_found_out() -> None:
    # proc(5): memory is read and written, but not spliced.
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        assert not syscalls.can_send(memory)
    finally:
        os.close(memory)


@pytest.mark.parametrize("seeks", [True, False])
def test_a_hole_is_where_no_page_is(open_file: OpenFile, shm_path: Path, seeks: bool) -> None:
    is_hole = syscalls.is_hole if seeks else syscalls.is_memory_hole
    file = open_file(shm_path / "file")
    os.ftruncate(file, 64 * PAGE)
    os.pwrite(file, b"x", 32 * PAGE)
    try:
        found = [is_hole(file, at * PAGE, PAGE) for at in (0, 31, 32, 33, 63)]
        ranges = [is_hole(file, at * PAGE, 8 * PAGE) for at in (0, 24, 25, 32, 33)]
    except OSError as error:
        pytest.skip(f"cachestat(2): {error.strerror} (Linux 6.5 has it)")
    assert found == [True, True, False, True, True]
    assert ranges == [True, True, False, False, True]


def test_space_is_the_files_and_its_file_systems(fd: int) -> None:
    os.fsync(fd)
    used_bytes, available_bytes = syscalls.space(fd)
    status = os.fstatvfs(fd)
    assert 16 * PAGE <= used_bytes < 32 * PAGE
    # Others write to the same file system meanwhile.
    assert 0 < available_bytes <= status.f_blocks * status.f_frsize


def test_holes_take_no_space(fd: int) -> None:
    punch_or_skip(fd, 0, 15 * PAGE)
    os.fsync(fd)
    assert syscalls.space(fd)[0] < 16 * PAGE


def test_io_flusher_is_what_one_with_the_capability_can_become() -> None:
    # CAP_SYS_RESOURCE is bit 24 (capabilities(7)).
    lines = Path("/proc/self/status").read_text().splitlines()
    (effective,) = (line.split()[1] for line in lines if line.startswith("CapEff:"))
    may = bool(int(effective, 16) >> 24 & 1)
    # In a process of its own, which it lasts as long as.
    code = "from scsi_backend.io import syscalls; print(syscalls.become_io_flusher())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(may)
