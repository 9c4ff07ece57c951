# SPDX-License-Identifier: GPL-2.0-or-later
"""A file as a disk."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

import pytest

from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.handlers.vdisk import Extent, Space
from scsi_backend.handlers.vdisk_fileio import VdiskFileio
from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.located import ZEROS, FileRange
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import ManualEngine

PAGE = 4096


def test_blocks_are_the_files_bytes(open_fileio: OpenFileio, tmp_path: Path) -> None:
    disk = open_fileio(bytes(range(256)) * 16)
    buffer = bytearray(512)
    results: list[int] = []
    disk.read(memoryview(buffer), 512, results.append)
    disk.write(memoryview(b"spdx"), 1024, results.append)
    assert (results, bytes(buffer)) == ([512, 4], bytes(range(256)) * 2)
    assert (tmp_path / "disk0").read_bytes()[1022:1030] == b"\xfe\xffspdx\x04\x05"


def test_a_tail_shorter_than_a_block_is_not_served(open_fileio: OpenFileio) -> None:
    assert open_fileio(1535).block_count == 2
    assert open_fileio(8191, blocksize="4096").block_count == 1


@pytest.mark.parametrize(
    ("words", "needs_sync", "has_volatile_cache"),
    [
        ({}, True, True),
        ({"write_through": "1"}, True, False),
        ({"nv_cache": "1"}, False, False),
        ({"nv_cache": "1", "write_through": "1"}, False, False),
        ({"read_only": "1"}, False, False),
    ],
)
def test_caching_follows_the_attributes(
    open_fileio: OpenFileio, words: dict[str, str], needs_sync: bool, has_volatile_cache: bool
) -> None:
    disk = open_fileio(PAGE, **words)
    assert (disk.needs_sync, disk.has_volatile_cache) == (needs_sync, has_volatile_cache)


def test_sync_asks_the_engine_only_where_there_is_something_to_do(open_fileio: OpenFileio) -> None:
    engine = ManualEngine()
    results: list[int] = []
    open_fileio(PAGE, engine).sync(results.append)
    assert (len(engine.queued), results) == (1, [])
    engine.run_all()
    assert results == [0]
    open_fileio(PAGE, engine, nv_cache="1").sync(results.append)
    assert (len(engine.queued), results) == (0, [0, 0])


def test_thin_disk_deallocates(open_fileio: OpenFileio) -> None:
    disk = open_fileio(b"\xaa" * 8 * PAGE, thin_provisioned="1")
    if not disk.is_thin_provisioned:
        pytest.skip("the file system cannot punch holes")
    results: list[int] = []
    disk.unmap(2 * PAGE, 2 * PAGE, results.append)
    runs: list[Extent] = []
    disk.extents(PAGE, 10, runs, results.append)
    assert runs == [Extent(PAGE, True), Extent(2 * PAGE, False), Extent(4 * PAGE, True)]
    buffer = bytearray(PAGE)
    disk.read(memoryview(buffer), 2 * PAGE, results.append)
    assert (results, bytes(buffer)) == ([0, 0, PAGE], bytes(PAGE))


def test_only_a_thin_disk_has_holes_to_tell_of(open_fileio: OpenFileio, shm_path: Path) -> None:
    thin = open_fileio(8 * PAGE, folder=shm_path, thin_provisioned="1")
    thick = open_fileio(8 * PAGE, folder=shm_path)
    read_only = open_fileio(8 * PAGE, folder=shm_path, thin_provisioned="1", read_only="1")
    assert thin.locate_now(PAGE, 2 * PAGE) is ZEROS
    assert read_only.locate_now(PAGE, 2 * PAGE) is ZEROS
    where = thick.locate_now(PAGE, 2 * PAGE)
    assert isinstance(where, FileRange)
    assert os.path.samestat(os.fstat(where.fd), (shm_path / "disk1").stat())
    assert where.offset_bytes == PAGE


def test_a_block_that_was_written_is_no_hole_and_one_unmapped_is(
    open_fileio: OpenFileio, shm_path: Path
) -> None:
    disk = open_fileio(8 * PAGE, folder=shm_path, thin_provisioned="1")
    assert disk.write_now(memoryview(b"x" * 512), 2 * PAGE) == 512
    assert isinstance(disk.locate_now(PAGE, 2 * PAGE), FileRange)
    assert disk.locate_now(3 * PAGE, 2 * PAGE) is ZEROS
    results: list[int] = []
    disk.unmap(2 * PAGE, PAGE, results.append)
    assert results == [0]
    assert disk.locate_now(PAGE, 2 * PAGE) is ZEROS


def test_extents_stop_at_the_limit_and_at_the_last_block(open_fileio: OpenFileio) -> None:
    disk = open_fileio(b"\xaa" * (PAGE + 100))
    runs: list[Extent] = []
    results: list[int] = []
    disk.extents(0, 1, runs, results.append)
    assert (runs, results) == ([Extent(PAGE, True)], [0])


def test_thin_provisioning_is_off_where_nothing_can_be_deallocated(
    open_fileio: OpenFileio, caplog: pytest.LogCaptureFixture
) -> None:
    proc = Path("/proc/self/comm")
    attributes = FileioAttributes(filename=str(proc), thin_provisioned=True)
    with caplog.at_level(logging.WARNING):
        disk = VdiskFileio.open("comm", attributes, SyncEngine())
    disk.close()
    assert not disk.is_thin_provisioned
    assert "comm: /proc/self/comm cannot deallocate: thin_provisioned off" in caplog.text


def test_read_only_disk_may_be_thin_without_a_trial(open_fileio: OpenFileio) -> None:
    assert open_fileio(PAGE, read_only="1", thin_provisioned="1").is_thin_provisioned


def test_write_zeros_and_read_ahead_reach_the_file(open_fileio: OpenFileio) -> None:
    engine = ManualEngine()
    disk = open_fileio(b"\xaa" * 4 * PAGE, engine)
    results: list[int] = []
    disk.read_ahead(0, PAGE, results.append)
    disk.write_zeros(PAGE, PAGE, results.append)
    engine.run_all()
    if results[1] != 0:
        pytest.skip(f"the file system cannot zero ranges: {os.strerror(-results[1])}")
    buffer = bytearray(3 * PAGE)
    disk.read(memoryview(buffer), 0, results.append)
    engine.run_all()
    assert bytes(buffer) == b"\xaa" * PAGE + bytes(PAGE) + b"\xaa" * PAGE


def test_size_is_taken_over_only_when_it_is_read_again(
    open_fileio: OpenFileio, tmp_path: Path
) -> None:
    disk = open_fileio(8 * 512)
    os.truncate(tmp_path / "disk0", 16 * 512 + 100)
    assert disk.block_count == 8
    assert disk.reread_size()
    assert disk.block_count == 16
    assert not disk.reread_size()


def test_open_of_a_missing_file_raises() -> None:
    with pytest.raises(FileNotFoundError):
        VdiskFileio.open("disk", FileioAttributes(filename="/nowhere/at/all"), SyncEngine())


def test_a_file_that_cannot_be_used_is_closed_again() -> None:
    descriptor = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    try:
        # fallocate of a memory file sealed against writes fails with EPERM.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        path = f"/proc/self/fd/{descriptor}"
        before = len(os.listdir("/proc/self/fd"))
        attributes = FileioAttributes(filename=path, thin_provisioned=True)
        with pytest.raises(PermissionError):
            VdiskFileio.open("disk", attributes, SyncEngine())
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(descriptor)


def test_space_is_what_the_file_takes_and_its_file_system_has(
    open_fileio: OpenFileio, tmp_path: Path
) -> None:
    engine = ManualEngine()
    disk = open_fileio(16 * PAGE, engine, thin_provisioned="1")
    with (tmp_path / "disk0").open("r+b") as file:
        file.write(b"\xaa" * PAGE)
        file.flush()
        os.fsync(file.fileno())
    space = Space()
    results: list[int] = []
    disk.measure_space(space, results.append)
    assert (space, results) == (Space(), [])
    engine.run_all()
    assert results == [0]
    assert PAGE <= space.used_bytes < 16 * PAGE
    assert space.available_bytes > 0


def test_atomic_write_needs_its_journal(open_fileio: OpenFileio, tmp_path: Path) -> None:
    assert open_fileio(PAGE).max_atomic_bytes == 0
    disk = open_fileio(b"\xaa" * PAGE, atomic_journal=str(tmp_path / "journal"))
    results: list[int] = []
    disk.write_atomic(memoryview(b"\xbb" * 512), 512, results.append)
    assert (disk.max_atomic_bytes, results) == (1 << 20, [512])
    assert (tmp_path / "disk1").read_bytes() == b"\xaa" * 512 + b"\xbb" * 512 + b"\xaa" * 3072


def test_atomic_write_that_was_cut_off_is_undone_when_the_disk_is_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\xaa" * PAGE)
    words = {"filename": str(path), "atomic_journal": str(tmp_path / "journal")}
    attributes = FileioAttributes.model_validate(words)
    engine = ManualEngine()
    disk = VdiskFileio.open("disk", attributes, engine)
    disk.write_atomic(memoryview(b"\xbb" * 1024), 512, lambda result: None)
    # The record is made; half of the data arrives, and then the daemon dies.
    for _ in range(2):
        engine.start()
        engine.finish()
    disk.close()
    with path.open("r+b") as file:
        file.seek(512)
        file.write(b"\xbb" * 512)
    with caplog.at_level(logging.WARNING):
        VdiskFileio.open("disk", attributes, SyncEngine()).close()
    assert path.read_bytes() == b"\xaa" * PAGE
    assert "disk: undid an atomic write of 1024 bytes at 512 that was cut off" in caplog.text


def test_disk_whose_journal_cannot_be_opened_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(PAGE))
    words = {"filename": str(path), "atomic_journal": str(tmp_path / "missing" / "journal")}
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        VdiskFileio.open("disk", FileioAttributes.model_validate(words), SyncEngine())
    assert len(os.listdir("/proc/self/fd")) == before


def test_medium_is_read_unless_the_cache_counts_as_one(open_fileio: OpenFileio) -> None:
    engine = ManualEngine()
    results: list[int] = []
    for words in ({}, {"nv_cache": "1"}):
        buffer = bytearray(512)
        open_fileio(b"\xaa" * PAGE, engine, **words).read_medium(
            memoryview(buffer), 512, results.append
        )
        engine.run_all()
        assert bytes(buffer) == b"\xaa" * 512
    assert results == [512, 512]
