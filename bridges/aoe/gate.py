# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets through only so many of the commands that a short frame makes long.

READ VERIFY of 65536 sectors and TRIM of two gigabytes are each a frame of a few bytes. A thousand
of them at once would take a thousand buffers, and everybody's disk for minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Gate:
    """``limit`` commands at once; the others wait in the order of their arrival."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_starting = False

    def enter(self, begin: Callable[[], None]) -> None:
        """Call ``begin`` when there is room, perhaps at once; ``leave`` is to follow."""
        self._waiting.append(begin)
        self._start()

    def leave(self) -> None:
        """A command that was let through has ended."""
        self._left += 1
        self._start()

    def _start(self) -> None:
        # A loop, because each may end at once.
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._waiting and self._left:
                self._left -= 1
                self._waiting.popleft()()
        finally:
            self._is_starting = False
