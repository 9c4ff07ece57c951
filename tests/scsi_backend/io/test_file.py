# SPDX-License-Identifier: GPL-2.0-or-later
"""Backing files: what is done at once on which file system, and what goes to the engine."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scsi_backend.io.engine import Engine, SyncEngine
from scsi_backend.io.file import NOT_NOW, BackingFile
from tests.scsi_backend.fakes import ManualEngine

PAGE = 4096
Opener = Callable[..., BackingFile]


@pytest.fixture
def open_backing() -> Iterator[Opener]:
    opened: list[BackingFile] = []

    def open_file(folder: Path, content: bytes, engine: Engine | None = None) -> BackingFile:
        path = folder / "file"
        path.write_bytes(content)
        opened.append(BackingFile.open(str(path), engine or SyncEngine(), read_only=False))
        return opened[-1]

    yield open_file
    for file in opened:
        file.close()


def test_cached_bytes_are_read_at_once(open_backing: Opener, nowait_path: Path) -> None:
    engine = ManualEngine()
    file = open_backing(nowait_path, bytes(range(256)) * 32, engine)
    buffer = bytearray(256)
    assert file.read_now(memoryview(buffer), PAGE) == 256
    assert buffer == bytes(range(256))
    assert not engine.queued


def test_bytes_that_are_not_cached_are_not_read_now(
    open_backing: Opener, nowait_path: Path
) -> None:
    file = open_backing(nowait_path, b"\xaa" * 16 * PAGE)
    os.fsync(file.fd)
    os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    buffer = bytearray(PAGE)
    moved = file.read_now(memoryview(buffer), 8 * PAGE)
    if moved == PAGE:
        pytest.skip("the kernel kept the pages although they were not needed")
    assert moved == NOT_NOW
    results: list[int] = []
    file.read(memoryview(buffer), 8 * PAGE, results.append)
    assert (results, bytes(buffer)) == ([PAGE], b"\xaa" * PAGE)


def test_writes_to_a_disk_file_system_are_never_done_at_once(
    open_backing: Opener, nowait_path: Path
) -> None:
    file = open_backing(nowait_path, bytes(PAGE))
    assert file.write_now(memoryview(b"x"), 0) == NOT_NOW
    assert os.pread(file.fd, 1, 0) == b"\0"


def test_tmpfs_is_read_and_written_at_once(open_backing: Opener, shm_path: Path) -> None:
    engine = ManualEngine()
    file = open_backing(shm_path, bytes(PAGE), engine)
    buffer = bytearray(8)
    assert file.write_now(memoryview(b"spdx"), 100) == 4
    assert file.read_now(memoryview(buffer), 98) == 8
    assert bytes(buffer) == b"\0\0spdx\0\0"
    assert not engine.queued


@pytest.mark.parametrize("folder", ["shm_path", "nowait_path"])
def test_a_file_cut_short_gives_fewer_bytes(
    folder: str, open_backing: Opener, request: pytest.FixtureRequest
) -> None:
    file = open_backing(request.getfixturevalue(folder), bytes(PAGE))
    os.ftruncate(file.fd, 100)
    buffer = memoryview(bytearray(64))
    assert file.read_now(buffer, 80) == 20
    assert file.read_now(buffer, 100) == 0
    results: list[int] = []
    file.read(buffer, 80, results.append)
    assert results == [20]


def test_write_through_the_engine_waits_for_it(open_backing: Opener, tmp_path: Path) -> None:
    engine = ManualEngine()
    file = open_backing(tmp_path, bytes(PAGE), engine)
    results: list[int] = []
    file.write(memoryview(b"spdx"), 10, results.append)
    assert (results, os.pread(file.fd, 4, 10)) == ([], bytes(4))
    engine.run_all()
    assert (results, os.pread(file.fd, 4, 10)) == ([4], b"spdx")


def test_sync_goes_through_group_commit(open_backing: Opener, tmp_path: Path) -> None:
    engine = ManualEngine()
    file = open_backing(tmp_path, bytes(PAGE), engine)
    results: list[int] = []
    file.sync(results.append)
    file.sync(results.append)
    assert len(engine.queued) == 1
    engine.run_all()
    assert results == [0, 0]


def test_punched_hole_is_an_extent_of_its_own(open_backing: Opener, tmp_path: Path) -> None:
    file = open_backing(tmp_path, b"\xaa" * 16 * PAGE)
    if not file.can_punch_holes():
        pytest.skip(f"the file system of {tmp_path} cannot punch holes")
    results: list[int] = []
    file.punch_hole(4 * PAGE, 4 * PAGE, results.append)
    runs: list[tuple[int, bool]] = []
    file.extents(0, 16 * PAGE, 10, runs, results.append)
    assert results == [0, 0]
    assert runs == [(4 * PAGE, True), (4 * PAGE, False), (8 * PAGE, True)]
    limited: list[tuple[int, bool]] = []
    file.extents(0, 16 * PAGE, 2, limited, results.append)
    assert limited == runs[:2]


def test_zero_range_zeroes_or_says_that_it_cannot(open_backing: Opener, tmp_path: Path) -> None:
    file = open_backing(tmp_path, b"\xaa" * 4 * PAGE)
    results: list[int] = []
    file.zero_range(PAGE, PAGE, results.append)
    expected = bytes(PAGE) if results == [0] else b"\xaa" * PAGE
    assert results in ([0], [-errno.EOPNOTSUPP])
    assert os.pread(file.fd, PAGE, PAGE) == expected
    assert os.pread(file.fd, PAGE, 0) == b"\xaa" * PAGE


def test_tmpfs_has_no_zero_range(open_backing: Opener, shm_path: Path) -> None:
    file = open_backing(shm_path, b"\xaa" * 4 * PAGE)
    results: list[int] = []
    file.zero_range(PAGE, PAGE, results.append)
    assert results == [-errno.EOPNOTSUPP]


def test_read_ahead_is_done_by_the_engine(open_backing: Opener, tmp_path: Path) -> None:
    engine = ManualEngine()
    file = open_backing(tmp_path, bytes(PAGE), engine)
    results: list[int] = []
    file.read_ahead(0, PAGE, results.append)
    assert results == []
    engine.run_all()
    assert results == [0]


def test_size_is_the_files_size_now(open_backing: Opener, tmp_path: Path) -> None:
    file = open_backing(tmp_path, bytes(PAGE))
    os.ftruncate(file.fd, 3 * PAGE)
    assert file.size_bytes == 3 * PAGE


def test_read_only_file_refuses_writes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(PAGE))
    file = BackingFile.open(str(path), SyncEngine(), read_only=True)
    try:
        results: list[int] = []
        file.write(memoryview(b"x"), 0, results.append)
        assert results == [-errno.EBADF]
    finally:
        file.close()


def test_missing_file_raises() -> None:
    with pytest.raises(FileNotFoundError):
        BackingFile.open("/nowhere/at/all", SyncEngine(), read_only=True)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", ["folder", "fifo", "character device"])
def test_what_has_no_blocks_is_refused(kind: str, read_only: bool, tmp_path: Path) -> None:
    path = Path("/dev/zero") if kind == "character device" else tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(OSError, match="neither a regular file nor a block device"):
        BackingFile.open(str(path), SyncEngine(), read_only=read_only)


def test_close_closes_the_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(PAGE))
    file = BackingFile.open(str(path), SyncEngine(), read_only=True)
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.fd)


def test_space_is_measured_by_the_engine(open_backing: Opener, tmp_path: Path) -> None:
    engine = ManualEngine()
    file = open_backing(tmp_path, bytes(PAGE), engine)
    found: list[tuple[int, int]] = []
    results: list[int] = []
    file.measure_space(found, results.append)
    assert (len(engine.queued), found) == (1, [])
    engine.run_all()
    assert (len(found), results) == (1, [0])


def test_file_in_a_file_system_is_regular(open_backing: Opener, tmp_path: Path) -> None:
    assert open_backing(tmp_path, bytes(PAGE)).is_regular
