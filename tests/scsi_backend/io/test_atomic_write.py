# SPDX-License-Identifier: GPL-2.0-or-later
"""Atomic writes: cut off after each of their steps, failing at each, and one at a time."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scsi_backend.io.atomic_journal import AtomicJournal, roll_back
from scsi_backend.io.atomic_write import AtomicWriter
from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.file import BackingFile
from tests.scsi_backend.fakes import ManualEngine

OLD, NEW = b"\xaa" * 512, b"\xbb" * 512
# Read what is there, record it, write, sync, clear the record.
STEPS = 5


class Disk:
    """A file of 16 blocks of OLD with its journal."""

    def __init__(self, folder: Path, engine: ManualEngine) -> None:
        self.path = folder / "disk"
        self.engine = engine
        self._journal_path = str(folder / "journal")
        self.results: list[int] = []
        self.path.write_bytes(OLD * 16)

    @contextmanager
    def opened(self) -> Iterator[AtomicWriter]:
        """Open both; leaving is the end of the process, whatever is under way."""
        file = BackingFile.open(str(self.path), self.engine, read_only=False)
        journal = AtomicJournal.open(self._journal_path, str(self.path))
        try:
            yield AtomicWriter(file, journal, self.engine, file.sync)
        finally:
            journal.close()
            file.close()

    def recover(self) -> bytes:
        """Start again; return what the disk then holds."""
        journal = AtomicJournal.open(self._journal_path, str(self.path))
        with self.path.open("r+b") as file:
            roll_back(journal, file.fileno(), 16 * 512)
            assert journal.pending() is None
        journal.close()
        return self.path.read_bytes()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path, ManualEngine())


def step(engine: ManualEngine) -> None:
    """Perform one operation and report it."""
    engine.start()
    engine.finish()


def test_write_is_whole_and_stable_when_it_is_reported(disk: Disk) -> None:
    with disk.opened() as writer:
        writer.write(memoryview(NEW * 4), 1024, disk.results.append)
        for _ in range(STEPS):
            assert disk.results == []
            step(disk.engine)
        assert disk.results == [4 * 512]
        assert not disk.engine.queued
    assert disk.recover() == OLD * 2 + NEW * 4 + OLD * 10


@pytest.mark.parametrize("steps", range(STEPS))
def test_write_that_is_cut_off_never_was(disk: Disk, steps: int) -> None:
    with disk.opened() as writer:
        writer.write(memoryview(NEW * 4), 1024, disk.results.append)
        for _ in range(steps):
            step(disk.engine)
    assert disk.results == []
    assert disk.recover() == OLD * 16


@pytest.mark.parametrize("moved", [1, 512, 1000, 2048])
def test_write_that_is_cut_off_in_the_middle_never_was(disk: Disk, moved: int) -> None:
    with disk.opened() as writer:
        writer.write(memoryview(NEW * 4), 1024, disk.results.append)
        for _ in range(2):
            step(disk.engine)
    with disk.path.open("r+b") as file:
        file.seek(1024)
        file.write((NEW * 4)[:moved])
    assert disk.recover() == OLD * 16


@pytest.mark.parametrize("failing", range(STEPS))
def test_write_that_fails_changes_nothing(disk: Disk, failing: int) -> None:
    with disk.opened() as writer:
        writer.write(memoryview(NEW * 4), 1024, disk.results.append)
        for _ in range(failing):
            step(disk.engine)
        disk.engine.refuse(errno.EIO)
        disk.engine.run_all()
        assert disk.results == [-errno.EIO]
        assert disk.path.read_bytes() == OLD * 16
    assert disk.recover() == OLD * 16


def test_no_write_is_lost_that_came_after_one_that_failed(disk: Disk) -> None:
    with disk.opened() as writer:
        writer.write(memoryview(NEW * 4), 1024, disk.results.append)
        for _ in range(2):
            step(disk.engine)
        disk.engine.refuse(errno.ENOSPC)
        disk.engine.run_all()
    # Its record must not be undone once more, over what is written meanwhile.
    disk.path.write_bytes(b"\xcc" * 16 * 512)
    assert disk.recover() == b"\xcc" * 16 * 512
    assert disk.results == [-errno.ENOSPC]


def test_failing_to_undo_is_logged(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    with disk.opened() as writer, caplog.at_level(logging.ERROR):
        writer.write(memoryview(NEW * 4), 1024, disk.results.append)
        for _ in range(2):
            step(disk.engine)
        for _ in range(2):
            disk.engine.refuse(errno.EIO)
        disk.engine.run_all()
    assert disk.results == [-errno.EIO]
    assert "2048 bytes at 1024 are partly written" in caplog.text


def test_file_that_is_too_short_is_not_written(disk: Disk) -> None:
    with disk.opened() as writer:
        writer.write(memoryview(NEW * 4), 14 * 512, disk.results.append)
        disk.engine.run_all()
    assert disk.results == [-errno.EIO]
    assert disk.path.read_bytes() == OLD * 16


def test_writes_take_turns(disk: Disk) -> None:
    with disk.opened() as writer:
        for index in range(3):
            writer.write(memoryview(bytes((index,)) * 512), index * 512, disk.results.append)
        for done in range(3):
            assert len(disk.results) == done
            assert len(disk.engine.queued) == 1
            for _ in range(STEPS):
                step(disk.engine)
    assert disk.results == [512] * 3
    assert disk.recover() == b"".join(bytes((n,)) * 512 for n in range(3)) + OLD * 13


def test_writes_that_end_at_once_do_not_pile_up(shm_path: Path) -> None:
    disk = Disk(shm_path, ManualEngine())
    file = BackingFile.open(str(disk.path), SyncEngine(), read_only=False)
    journal = AtomicJournal.open(str(shm_path / "journal"), str(disk.path))
    writer = AtomicWriter(file, journal, SyncEngine(), lambda done: done(0))
    left = 3000

    def again(result: int) -> None:
        nonlocal left
        left -= 1
        if left:
            writer.write(memoryview(NEW), 0, again)

    writer.write(memoryview(NEW), 0, again)
    journal.close()
    file.close()
    assert left == 0
