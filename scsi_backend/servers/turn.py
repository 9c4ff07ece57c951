# SPDX-License-Identifier: GPL-2.0-or-later
"""One command at a time, of those that must not overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from scsi_backend.io.engine import Done


class Turn:
    """Whoever comes while it is taken waits, in the order of arrival."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[Done] = deque()
        self._is_starting = False

    def take(self, done: Done) -> None:
        """Call ``done(0)`` when it is the caller's turn, perhaps at once; ``leave`` must follow."""
        self._waiting.append(done)
        self._start()

    def leave(self) -> None:
        """Let the next one begin."""
        self._is_taken = False
        self._start()

    def _start(self) -> None:
        # A loop, because each may leave at once.
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._waiting and not self._is_taken:
                self._is_taken = True
                self._waiting.popleft()(0)
        finally:
            self._is_starting = False


def take_all(turns: Sequence[Turn], then: Callable[[Callable[[], None]], None]) -> None:
    """Call ``then(leave)`` when all the turns are the caller's; ``leave`` gives them up.

    They are taken one after the other, so everybody names those of several in one order.
    """

    def leave() -> None:
        for turn in turns:
            turn.leave()

    def take(index: int, _: int) -> None:
        if index < len(turns):
            turns[index].take(partial(take, index + 1))
        else:
            then(leave)

    take(0, 0)
