# SPDX-License-Identifier: GPL-2.0-or-later
"""Generators driven through callbacks: at once, later, many steps, every way to end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator

import pytest

from scsi_backend.io.trampoline import Trampoline

Resume = Callable[[int], None]


class Driver:
    """Steps are numbers: what is negative is held, what is not is answered at once, doubled."""

    def __init__(self, generator: Generator[int, int, str]) -> None:
        self.held: list[Resume] = []
        self.depths: set[int] = set()
        self.endings: list[str] = []
        self.trampoline: Trampoline[int, int, str, KeyError] = Trampoline(
            generator, self._perform, self.endings.append, KeyError, self._fail
        )

    def _perform(self, step: int, resume: Resume) -> None:
        frame, depth = sys._getframe(), 0
        while frame.f_back is not None:
            frame, depth = frame.f_back, depth + 1
        self.depths.add(depth)
        if step < 0:
            self.held.append(resume)
        else:
            resume(2 * step)

    def _fail(self, failure: KeyError) -> None:
        self.endings.append(f"failed {failure}")


def adder(*steps: int) -> Generator[int, int, str]:
    """Yield the steps, return their results' sum."""
    total = 0
    for step in steps:
        total += yield step
    return f"sum {total}"


def test_generator_without_steps_finishes_at_once() -> None:
    driver = Driver(adder())
    driver.trampoline.start()
    assert driver.endings == ["sum 0"]


def test_nothing_runs_before_the_start() -> None:
    driver = Driver(adder(1))
    assert driver.endings == []
    driver.trampoline.start()
    assert driver.endings == ["sum 2"]


def test_steps_answered_at_once_and_later_mix() -> None:
    driver = Driver(adder(1, -1, 2, 3, -1))
    driver.trampoline.start()
    driver.held.pop()(100)
    assert driver.endings == []
    driver.held.pop()(1000)
    assert driver.endings == ["sum 1112"]


def test_any_number_of_steps_needs_no_recursion() -> None:
    driver = Driver(adder(*range(3 * sys.getrecursionlimit())))
    driver.trampoline.start()
    assert len(driver.endings) == len(driver.depths) == 1


def test_expected_failure_is_told() -> None:
    def failing() -> Generator[int, int, str]:
        yield 1
        raise KeyError("key")

    driver = Driver(failing())
    driver.trampoline.start()
    assert driver.endings == ["failed 'key'"]


def test_expected_failure_after_a_wait_is_told() -> None:
    def failing() -> Generator[int, int, str]:
        yield -1
        raise KeyError("key")

    driver = Driver(failing())
    driver.trampoline.start()
    assert driver.endings == []
    driver.held.pop()(0)
    assert driver.endings == ["failed 'key'"]


def test_any_other_failure_goes_to_whoever_resumed() -> None:
    def failing() -> Generator[int, int, str]:
        yield -1
        raise ZeroDivisionError("a defect")

    driver = Driver(failing())
    driver.trampoline.start()
    with pytest.raises(ZeroDivisionError, match="a defect"):
        driver.held.pop()(0)
    assert driver.endings == []


def test_generator_may_handle_what_it_asked_for() -> None:
    def handling() -> Generator[int, int, str]:
        try:
            yield 1
            raise KeyError("key")
        except KeyError:
            yield 2
        return "handled"

    driver = Driver(handling())
    driver.trampoline.start()
    assert driver.endings == ["handled"]
