# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets through only so many of the commands that a short frame makes long.

READ VERIFY of 65536 sectors and TRIM of two gigabytes are each a frame of a few bytes. A thousand
of them at once would take a thousand buffers, and everybody's disk for minutes. Those that wait
are bounded too, far below the number of commands at which a port stops to listen to anybody.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Final

MAX_COMMANDS: Final = 64
# Source addresses are easily made up, but a host that behaves is not to shut out the others.
MAX_COMMANDS_OF_HOST: Final = 16


class Gate:
    """``limit`` commands at once; the others wait in the order of their arrival.

    A command is counted from ``arrive`` to ``depart``, whatever it waits for.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_starting = False
        self._count = 0
        self._count_of_host: Counter[Hashable] = Counter()

    def is_full_for(self, host: Hashable) -> bool:
        """Whether there are too many commands, of this host or of all, to take on another."""
        return self._count >= MAX_COMMANDS or self._count_of_host[host] >= MAX_COMMANDS_OF_HOST

    def arrive(self, host: Hashable) -> None:
        """Count a command in."""
        self._count += 1
        self._count_of_host[host] += 1

    def depart(self, host: Hashable) -> None:
        """Count out a command that is done, whether or not it has ever been let through."""
        self._count -= 1
        self._count_of_host[host] -= 1
        if not self._count_of_host[host]:
            del self._count_of_host[host]

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
