# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands of several steps: at once, later, many, failing."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from scsi_backend.io.engine import Done
from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.t10 import sense
from scsi_backend.t10.status import Status
from tests.scsi_backend.lone_nexus import LoneNexus


class Recorder:
    """A command whose endings are counted."""

    def __init__(self) -> None:
        self.endings: list[int | None] = []
        self.command = Command(bytes(16), None, None, self._ended)
        self.command.nexus = LoneNexus()

    def _ended(self, command: Command) -> None:
        self.endings.append(command.status)


class Held:
    """An operation that finishes when the test says so."""

    def __init__(self) -> None:
        self.done: Done | None = None

    def __call__(self, done: Done) -> None:
        self.done = done

    def finish(self, result: int) -> None:
        """Report the result."""
        assert self.done is not None
        done, self.done = self.done, None
        done(result)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def at_once(result: int) -> Callable[[Done], None]:
    """An operation that finishes before it returns."""
    return lambda done: done(result)


def test_generator_without_steps_completes_the_command(recorder: Recorder) -> None:
    def steps() -> Steps:
        yield from ()

    run_steps(recorder.command, steps())
    assert recorder.endings == [Status.GOOD]


def test_each_step_gets_the_result_of_its_operation(recorder: Recorder) -> None:
    results: list[int] = []

    def steps() -> Steps:
        for number in (3, 0, -5):
            results.append((yield at_once(number)))

    run_steps(recorder.command, steps())
    assert (results, recorder.endings) == ([3, 0, -5], [Status.GOOD])


def test_command_waits_for_operations_that_finish_later(recorder: Recorder) -> None:
    held = Held()
    results: list[int] = []

    def steps() -> Steps:
        results.append((yield held))
        results.append((yield at_once(2)))
        results.append((yield held))

    run_steps(recorder.command, steps())
    assert (results, recorder.endings) == ([], [])
    held.finish(1)
    assert (results, recorder.endings) == ([1, 2], [])
    held.finish(3)
    assert (results, recorder.endings) == ([1, 2, 3], [Status.GOOD])


def test_any_number_of_steps_needs_no_recursion(recorder: Recorder) -> None:
    count = sys.getrecursionlimit() * 3
    depths: set[int] = set()

    def depth() -> int:
        frame, found = sys._getframe(), 0
        while frame.f_back is not None:
            frame, found = frame.f_back, found + 1
        return found

    def operation(done: Done) -> None:
        depths.add(depth())
        done(0)

    def steps() -> Steps:
        for _ in range(count):
            yield operation

    run_steps(recorder.command, steps())
    assert (len(depths), recorder.endings) == (1, [Status.GOOD])


@pytest.mark.parametrize("is_late", [False, True])
def test_check_condition_ends_the_command_and_the_steps(recorder: Recorder, is_late: bool) -> None:
    held = Held()
    reached: list[str] = []

    def steps() -> Steps:
        result = yield held if is_late else at_once(-5)
        if result < 0:
            raise CheckCondition(sense.WRITE_ERROR)
        reached.append("after")

    run_steps(recorder.command, steps())
    if is_late:
        assert recorder.endings == []
        held.finish(-5)
    assert recorder.endings == [Status.CHECK_CONDITION]
    assert recorder.command.sense == sense.WRITE_ERROR
    assert reached == []


def test_error_in_steps_that_have_waited_ends_the_command_all_the_same(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()

    def steps() -> Steps:
        yield held
        raise RuntimeError("broken steps")

    run_steps(recorder.command, steps())
    held.finish(0)
    assert recorder.endings == [Status.CHECK_CONDITION]
    assert recorder.command.sense == sense.INTERNAL_TARGET_FAILURE
    assert "broken steps" in caplog.text


def test_operation_that_raises_check_condition_ends_the_command(recorder: Recorder) -> None:
    def operation(done: Done) -> None:
        raise CheckCondition(sense.READ_ERROR)

    def steps() -> Steps:
        yield operation

    run_steps(recorder.command, steps())
    assert recorder.endings == [Status.CHECK_CONDITION]
