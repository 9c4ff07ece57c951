# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a generator whose steps complete through callbacks, at once or later.

Steps that complete at once are continued in a loop rather than by recursion, so that a generator
may take any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Generic, TypeVar

StepT = TypeVar("StepT")
ResultT = TypeVar("ResultT")
OutcomeT = TypeVar("OutcomeT")
FailureT = TypeVar("FailureT", bound=Exception)


class Trampoline(Generic[StepT, ResultT, OutcomeT, FailureT]):
    """Drives one generator: ``perform(step, resume)`` begins a step it yielded.

    ``finish`` gets what the generator returns, ``fail`` an exception of type ``failure`` that it
    raises; any other exception is an error in the program and goes up to whoever resumed it.
    """

    __slots__ = (
        "_fail",
        "_failure",
        "_finish",
        "_generator",
        "_is_running",
        "_perform",
        "_results",
    )

    def __init__(
        self,
        generator: Generator[StepT, ResultT, OutcomeT],
        perform: Callable[[StepT, Callable[[ResultT], None]], None],
        finish: Callable[[OutcomeT], None],
        failure: type[FailureT],
        fail: Callable[[FailureT], None],
    ) -> None:
        self._generator = generator
        self._perform = perform
        self._finish = finish
        self._failure = failure
        self._fail = fail
        self._is_running = False
        # Empty, or the one result that has come while the loop below runs.
        self._results: list[ResultT] = []

    def start(self) -> None:
        """Run the generator until it waits or ends."""
        self._run(first=True)

    def resume(self, result: ResultT) -> None:
        """Give the generator the result of the step it waits for."""
        self._results.append(result)
        if not self._is_running:
            self._run(first=False)

    def _run(self, *, first: bool) -> None:
        self._is_running = True
        try:
            step = next(self._generator) if first else self._generator.send(self._results.pop())
            self._perform(step, self.resume)
            while self._results:
                step = self._generator.send(self._results.pop())
                self._perform(step, self.resume)
        except StopIteration as end:
            self._finish(end.value)
        except self._failure as failure:
            self._fail(failure)
        finally:
            self._is_running = False
