# SPDX-License-Identifier: GPL-2.0-or-later
"""The worker-thread engine, driven as an event loop drives it."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from scsi_backend.io.threads import ThreadEngine

DEADLINE_S = 20


class Loop:
    """What ``ThreadEngine`` needs of an event loop: ``call_soon`` and a wait for its descriptor."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have ``function`` called by the next turn."""
        self._soon.append(function)

    @property
    def scheduled(self) -> int:
        """How many functions wait for the next turn."""
        return len(self._soon)

    def turn(self) -> None:
        """Call what was scheduled."""
        due, self._soon = self._soon, []
        for function in due:
            function()

    def run_until(self, engine: ThreadEngine, is_over: Callable[[], bool]) -> None:
        """Turn and reap until a condition holds, or fail at the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_over():
            assert time.monotonic() < deadline, "the engine did not finish in time"
            self.turn()
            if select.select([engine], [], [], 0.05)[0]:
                engine.reap()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def engine(loop: Loop) -> Iterator[ThreadEngine]:
    made = ThreadEngine(loop.call_soon, workers=4)
    yield made
    made.close()


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.truncate(descriptor, 1 << 20)
    yield descriptor
    os.close(descriptor)


def fail_with(error: Exception) -> int:
    raise error


def test_a_thousand_operations_all_finish_on_the_owners_thread(
    loop: Loop, engine: ThreadEngine, fd: int
) -> None:
    written: list[int] = []
    threads: set[int] = set()

    def done(number: int, result: int) -> None:
        assert result == 512
        written.append(number)
        threads.add(threading.get_ident())

    for number in range(1000):
        block = memoryview(number.to_bytes(4, "big") * 128)
        engine.write(fd, block, number * 512, partial(done, number))
    assert engine.outstanding == 1000
    assert loop.scheduled == 1
    loop.run_until(engine, lambda: engine.outstanding == 0)
    assert sorted(written) == list(range(1000))
    assert threads == {threading.get_ident()}
    assert os.pread(fd, 4, 999 * 512) == (999).to_bytes(4, "big")


def test_reads_fill_the_buffers_of_their_callers(loop: Loop, engine: ThreadEngine, fd: int) -> None:
    for number in range(64):
        os.pwrite(fd, number.to_bytes(8, "big"), number * 4096)
    buffers = [bytearray(8) for _ in range(64)]
    results: list[int] = []
    for number, buffer in enumerate(buffers):
        engine.read(fd, memoryview(buffer), number * 4096, results.append)
    loop.run_until(engine, lambda: len(results) == 64)
    assert results == [8] * 64
    assert [int.from_bytes(buffer, "big") for buffer in buffers] == list(range(64))


def test_a_finished_operation_s_memory_is_nobody_s(loop: Loop, engine: ThreadEngine) -> None:
    memory = mmap.mmap(-1, 4096)
    results: list[int] = []
    engine.call(partial(len, memoryview(memory)), results.append)
    loop.run_until(engine, lambda: bool(results))
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            memory.close()
        except BufferError:
            # A worker may still be on its way from telling of the end to waiting.
            assert time.monotonic() < deadline, "somebody keeps the memory"
            time.sleep(0.001)
        else:
            return


def test_a_fast_operation_does_not_wait_for_a_slow_one(loop: Loop, engine: ThreadEngine) -> None:
    gate = threading.Event()
    finished: list[str] = []

    def slow() -> int:
        assert gate.wait(DEADLINE_S)
        return 0

    engine.call(slow, lambda result: finished.append("slow"))
    engine.call(lambda: 0, lambda result: finished.append("fast"))
    loop.run_until(engine, lambda: bool(finished))
    assert finished == ["fast"]
    gate.set()
    loop.run_until(engine, lambda: len(finished) == 2)
    assert finished == ["fast", "slow"]


def test_errors_are_negated_errnos(loop: Loop, engine: ThreadEngine, tmp_path: Path) -> None:
    results: list[int] = []
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        engine.read(folder, memoryview(bytearray(1)), 0, results.append)
        loop.run_until(engine, lambda: len(results) == 1)
        engine.write(folder, memoryview(b"x"), 0, results.append)
        loop.run_until(engine, lambda: len(results) == 2)
    finally:
        os.close(folder)
    engine.call(lambda: fail_with(OSError(errno.ENOSPC, "full")), results.append)
    loop.run_until(engine, lambda: len(results) == 3)
    assert results == [-errno.EISDIR, -errno.EBADF, -errno.ENOSPC]


def test_a_defect_in_an_operation_is_eio_and_costs_no_worker(
    loop: Loop, engine: ThreadEngine, caplog: pytest.LogCaptureFixture
) -> None:
    results: list[int] = []
    with caplog.at_level(logging.ERROR):
        for _ in range(8):
            engine.call(lambda: fail_with(ValueError("released buffer")), results.append)
        engine.call(lambda: 5, results.append)
        loop.run_until(engine, lambda: len(results) == 9)
    assert sorted(results) == [-errno.EIO] * 8 + [5]
    assert "released buffer" in caplog.text


def test_a_raising_callback_does_not_lose_the_others(
    loop: Loop, engine: ThreadEngine, fd: int, caplog: pytest.LogCaptureFixture
) -> None:
    results: list[int] = []

    def raising(result: int) -> None:
        raise RuntimeError("broken front-end")

    # Writes of one batch finish together, so the raising one has others behind it.
    with caplog.at_level(logging.ERROR):
        for number in range(8):
            done = raising if number == 2 else results.append
            engine.write(fd, memoryview(b"x"), number, done)
        loop.run_until(engine, lambda: engine.outstanding == 0)
    assert results == [1] * 7
    assert "broken front-end" in caplog.text


def test_a_callback_may_ask_for_more(loop: Loop, engine: ThreadEngine) -> None:
    results: list[int] = []

    def again(result: int) -> None:
        results.append(result)
        if result < 5:
            engine.call(lambda: result + 1, again)

    engine.call(lambda: 1, again)
    engine.drain()
    assert results == [1, 2, 3, 4, 5]


def test_drain_finishes_what_was_never_handed_over(engine: ThreadEngine, fd: int) -> None:
    results: list[int] = []
    for number in range(100):
        engine.write(fd, memoryview(b"12345678"), number * 8, results.append)
    engine.call(lambda: 0, results.append)
    engine.drain()
    assert sorted(results) == [0] + [8] * 100
    assert engine.outstanding == 0


def test_drain_of_an_idle_engine_returns(engine: ThreadEngine) -> None:
    engine.drain()
    assert engine.outstanding == 0


def test_close_finishes_everything_and_stops_the_threads(loop: Loop, fd: int) -> None:
    before = threading.active_count()
    engine = ThreadEngine(loop.call_soon, workers=3)
    results: list[int] = []
    for number in range(20):
        engine.write(fd, memoryview(b"x"), number, results.append)
        engine.read(fd, memoryview(bytearray(1)), number, lambda result: None)
    loop.turn()
    # Threads come with the work, and no more than were allowed.
    assert threading.active_count() == before + 3
    engine.close()
    assert results == [1] * 20
    assert threading.active_count() == before
    # The turn of the loop that was scheduled before comes after; it must be harmless.
    loop.turn()


def test_a_device_that_hangs_does_not_delay_another(loop: Loop, fd: int) -> None:
    engine = ThreadEngine(loop.call_soon, workers=2)
    hanging, healthy = engine.for_device(), engine.for_device()
    release = threading.Event()

    def hang() -> int:
        assert release.wait(DEADLINE_S)
        return 0

    ends: list[int] = []
    for _ in range(10):
        hanging.call(hang, ends.append)
    results: list[int] = []
    healthy.write(fd, memoryview(b"x"), 0, results.append)
    healthy.call(lambda: 7, results.append)
    loop.run_until(engine, lambda: len(results) == 2)
    assert (sorted(results), ends) == ([1, 7], [])
    release.set()
    engine.close()
    assert ends == [0] * 10


def test_close_gives_up_on_a_device_that_hangs_but_not_on_the_others(loop: Loop, fd: int) -> None:
    engine = ThreadEngine(loop.call_soon, workers=1)
    hanging, healthy = engine.for_device(), engine.for_device()
    release = threading.Event()
    hanging.call(lambda: int(release.wait(DEADLINE_S)), lambda result: None)
    results: list[int] = []
    healthy.write(fd, memoryview(b"x"), 0, results.append)
    assert not engine.close(0.2)
    assert results == [1]
    release.set()
    assert engine.close()


def test_operations_end_although_no_thread_can_be_started(
    loop: Loop, fd: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine = ThreadEngine(loop.call_soon)
    results: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        engine.write(fd, memoryview(b"x"), 0, results.append)
        loop.run_until(engine, lambda: bool(results))
    assert results == [-errno.EAGAIN]
    assert "can't start new thread" in caplog.text
    # The shortage is over.
    engine.write(fd, memoryview(b"x"), 0, results.append)
    loop.run_until(engine, lambda: len(results) == 2)
    assert results[1] == 1
    assert engine.close()


def test_reap_with_nothing_finished_returns(engine: ThreadEngine) -> None:
    engine.reap()
    assert engine.outstanding == 0


def test_large_writes_go_to_the_workers_one_by_one(
    loop: Loop, engine: ThreadEngine, fd: int
) -> None:
    results: list[int] = []
    data = memoryview(bytes(1 << 20))
    for _ in range(3):
        engine.write(fd, data, 0, results.append)
    engine.write(fd, memoryview(b"x"), 0, results.append)
    loop.run_until(engine, lambda: len(results) == 4)
    assert sorted(results) == [1] + [1 << 20] * 3


def test_a_device_is_released_once_its_operations_have_ended(loop: Loop) -> None:
    engine = ThreadEngine(loop.call_soon, workers=2)
    part, other = engine.for_device(), engine.for_device()
    before = threading.active_count()
    gate = threading.Event()
    results: list[object] = []

    def again(result: int) -> None:
        results.append(result)
        # What follows from an operation is waited for as well.
        part.call(lambda: 2, results.append)

    other.call(lambda: 0, lambda result: None)
    part.call(lambda: int(gate.wait(DEADLINE_S)), again)
    engine.release(part, lambda: results.append("released"))
    loop.turn()
    assert results == []
    gate.set()
    loop.run_until(engine, lambda: len(results) == 3)
    assert results == [1, 2, "released"]
    assert threading.active_count() == before + 1
    engine.release(other, lambda: results.append("other"))
    loop.run_until(engine, lambda: len(results) == 4)
    assert threading.active_count() == before
    assert engine.close()
