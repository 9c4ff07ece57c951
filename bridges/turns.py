# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns of the requests that change blocks in part: one at a time for each block.

Such a request reads its block, changes it, and begins again where somebody else has changed the
block meanwhile. A thousand of them at once for one block would do so a million times, and fail in
the end although nobody else was there. What they do to the medium is the bridges' business.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger(__name__)

# More at once make nothing faster, but take memory, and time in the device's lock.
_MAX_RUNNING = 64


@dataclass(slots=True, eq=False)
class Turn:
    """A request's place in the queues of its blocks."""

    blocks: frozenset[int]
    begin: Callable[[Turn], None]
    # How many of its blocks somebody else has.
    blockers: int = 0
    has_left: bool = False


class Turns:
    """The requests of one initiator that change blocks in part, in the order of their arrival.

    Each waits for earlier ones only, so there is no circle of waiting.
    """

    def __init__(self) -> None:
        self._queues: dict[int, deque[Turn]] = {}
        self._ready: deque[Turn] = deque()
        self._running = 0
        self._is_starting = False

    def enter(self, blocks: frozenset[int], begin: Callable[[Turn], None]) -> None:
        """Call ``begin`` once no earlier request has any of ``blocks`` (LBAs), perhaps at once.

        ``leave`` is to be called with its turn when the request has ended.
        """
        turn = Turn(blocks, begin)
        for block in blocks:
            queue = self._queues.setdefault(block, deque())
            turn.blockers += bool(queue)
            queue.append(turn)
        if not turn.blockers:
            self._ready.append(turn)
            self._start()

    def leave(self, turn: Turn) -> None:
        """A request that had its turn has ended; it may say so again."""
        if turn.has_left:
            return
        turn.has_left = True
        self._running -= 1
        for block in turn.blocks:
            queue = self._queues[block]
            queue.popleft()
            if not queue:
                del self._queues[block]
                continue
            queue[0].blockers -= 1
            if not queue[0].blockers:
                self._ready.append(queue[0])
        self._start()

    def _start(self) -> None:
        """Begin what may; a loop, because each may end at once."""
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._ready and self._running < _MAX_RUNNING:
                self._running += 1
                self._begin(self._ready.popleft())
        finally:
            self._is_starting = False

    def _begin(self, turn: Turn) -> None:
        try:
            turn.begin(turn)
        except Exception:
            # It may be another connection's; those behind it must still have their turn.
            _log.exception("completion callback failed")
            if not turn.has_left:
                self.leave(turn)
