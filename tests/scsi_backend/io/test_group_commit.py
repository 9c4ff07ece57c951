# SPDX-License-Identifier: GPL-2.0-or-later
"""Group commit: who shares an fdatasync, who waits for the next, and what a failure means."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.group_commit import GroupCommit
from tests.scsi_backend.fakes import ManualEngine


class Told:
    """The results told to waiters, in order of arrival."""

    def __init__(self) -> None:
        self.results: list[tuple[str, int]] = []

    def waiter(self, name: str) -> partial[None]:
        """A callback that records its result under a name."""
        return partial(self._tell, name)

    def _tell(self, name: str, result: int) -> None:
        self.results.append((name, result))


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def failing_fd() -> Iterator[int]:
    """A descriptor that cannot be synchronized: fdatasync of a pipe gives EINVAL."""
    reader, writer = os.pipe()
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def told() -> Told:
    return Told()


def test_one_sync_serves_many_waiters_in_order(fd: int, told: Told) -> None:
    engine = ManualEngine()
    commit = GroupCommit(fd, engine)
    for name in "abc":
        commit.sync(told.waiter(name))
    assert len(engine.queued) == 1
    engine.start()
    assert told.results == []
    engine.finish()
    assert told.results == [("a", 0), ("b", 0), ("c", 0)]
    assert not engine.queued


def test_who_comes_while_a_sync_runs_waits_for_the_next(fd: int, told: Told) -> None:
    engine = ManualEngine()
    commit = GroupCommit(fd, engine)
    commit.sync(told.waiter("early"))
    engine.start()
    commit.sync(told.waiter("late"))
    assert not engine.queued
    engine.finish()
    commit.sync(told.waiter("later"))
    assert told.results == [("early", 0)]
    assert len(engine.queued) == 1
    engine.run_all()
    assert told.results == [("early", 0), ("late", 0), ("later", 0)]


def test_who_comes_before_a_queued_sync_runs_is_covered_by_it(fd: int, told: Told) -> None:
    engine = ManualEngine()
    commit = GroupCommit(fd, engine)
    commit.sync(told.waiter("first"))
    commit.sync(told.waiter("second"))
    engine.start()
    engine.finish()
    assert told.results == [("first", 0), ("second", 0)]


def test_a_waiter_may_sync_again_from_its_callback(fd: int, told: Told) -> None:
    engine = ManualEngine()
    commit = GroupCommit(fd, engine)

    def again(result: int) -> None:
        commit.sync(told.waiter("again"))

    commit.sync(again)
    commit.sync(told.waiter("other"))
    engine.start()
    engine.finish()
    assert told.results == [("other", 0)]
    engine.run_all()
    assert told.results == [("other", 0), ("again", 0)]


def test_each_sync_of_a_synchronous_engine_ends_at_once(fd: int, told: Told) -> None:
    commit = GroupCommit(fd, SyncEngine())
    commit.sync(told.waiter("a"))
    commit.sync(told.waiter("b"))
    assert told.results == [("a", 0), ("b", 0)]
    assert commit.failed_errno == 0


def test_a_failed_sync_is_told_to_all_it_covered(failing_fd: int, told: Told) -> None:
    engine = ManualEngine()
    commit = GroupCommit(failing_fd, engine)
    commit.sync(told.waiter("a"))
    commit.sync(told.waiter("b"))
    engine.run_all()
    assert told.results == [("a", -errno.EINVAL), ("b", -errno.EINVAL)]
    assert commit.failed_errno == errno.EINVAL


def test_every_sync_after_a_failed_one_fails_even_if_the_file_could_be_synced(
    fd: int, failing_fd: int, told: Told
) -> None:
    engine = ManualEngine()
    commit = GroupCommit(failing_fd, engine)
    commit.sync(told.waiter("lost"))
    engine.start()
    commit.sync(told.waiter("during"))
    engine.finish()
    # From here on fdatasync would succeed, as it does on Linux after it has reported an error.
    os.dup2(fd, failing_fd)
    engine.run_all()
    commit.sync(told.waiter("after"))
    engine.run_all()
    expected = -errno.EINVAL
    assert told.results == [("lost", expected), ("during", expected), ("after", expected)]


def test_a_sync_that_could_not_be_begun_fails_its_waiters_but_no_later_one(
    fd: int, told: Told
) -> None:
    engine = ManualEngine()
    commit = GroupCommit(fd, engine)
    for name in ("first", "second"):
        commit.sync(told.waiter(name))
        engine.run_all()
        commit.sync(told.waiter(f"refused after {name}"))
        engine.refuse(errno.EAGAIN)
        # No endless attempts: who was told is not tried for again.
        assert not engine.queued
    assert told.results == [
        ("first", 0),
        ("refused after first", -errno.EAGAIN),
        ("second", 0),
        ("refused after second", -errno.EAGAIN),
    ]
    assert commit.failed_errno == 0


def test_a_raising_waiter_does_not_lose_the_others(
    fd: int, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    engine = ManualEngine()
    commit = GroupCommit(fd, engine)

    def raising(result: int) -> None:
        raise RuntimeError("broken front-end")

    commit.sync(raising)
    commit.sync(told.waiter("other"))
    engine.run_all()
    assert told.results == [("other", 0)]
    assert "broken front-end" in caplog.text
