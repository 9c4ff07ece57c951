# SPDX-License-Identifier: GPL-2.0-or-later
"""Fences: what waits until the commands of hosts that a reservation excludes have ended.

A host that fences another off relies on it that nothing of the other is written any more. A fence
waits for the commands that began before it. Those of a host that was let in again meanwhile could
hold it up for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

# A host that asks for more of them has to ask again.
MAX_FENCES: Final = 64


class Commands:
    """Commands of one host that began between two fences and have not ended."""

    __slots__ = ("_watchers", "count")

    def __init__(self) -> None:
        self.count = 0
        self._watchers: list[Callable[[], None]] = []

    def end(self, count: int = 1) -> None:
        """So many of them have ended, and nothing that they do is still to come."""
        self.count -= count
        if not self.count and self._watchers:
            watchers, self._watchers = self._watchers, []
            for watcher in watchers:
                watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` when the last one has ended."""
        self._watchers.append(watcher)


class Outstanding:
    """Owns the counts of one host's commands."""

    __slots__ = ("_earlier", "_harmless", "_latest")

    def __init__(self) -> None:
        self._latest = Commands()
        # Those that a fence has been put up behind, as long as they have not all ended.
        self._earlier: list[Commands] = []
        self._harmless = Commands()

    @property
    def is_any(self) -> bool:
        """Whether a command is under way."""
        return bool(
            self._latest.count or self._harmless.count or any(each.count for each in self._earlier)
        )

    def begin(self, count: int = 1, *, is_harmless: bool = False) -> Commands:
        """Count commands in; ``end`` of what is returned counts them out.

        ``is_harmless``: no fence needs to wait for them.
        """
        commands = self._harmless if is_harmless else self._latest
        commands.count += count
        return commands

    def so_far(self) -> tuple[Commands, ...]:
        """Return what a fence has to wait for; commands from now on are none of it."""
        self._earlier = [each for each in (*self._earlier, self._latest) if each.count]
        if self._latest.count:
            self._latest = Commands()
        return tuple(self._earlier)

    def all(self) -> tuple[Commands, ...]:
        """Return everything under way, what no fence needs to wait for, too."""
        return (*self.so_far(), self._harmless)


class Fences:
    """Owns the fences of one target; ``so_far`` returns what one that is put up has to wait for."""

    def __init__(self, so_far: Callable[[], Iterable[Commands]]) -> None:
        self._so_far = so_far
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether too many wait to put up another."""
        return self._waiting >= MAX_FENCES

    def wait(self, then: Callable[[], None]) -> None:
        """Call ``then`` once all commands so far have ended, perhaps at once."""
        busy = [each for each in self._so_far() if each.count]
        if not busy:
            then()
            return
        self._waiting += 1
        fence = _Fence(len(busy), partial(self._passed, then))
        for each in busy:
            each.watch(fence.one_less)

    def _passed(self, then: Callable[[], None]) -> None:
        self._waiting -= 1
        then()


class _Fence:
    __slots__ = ("_left", "_then")

    def __init__(self, left: int, then: Callable[[], None]) -> None:
        self._left = left
        self._then = then

    def one_less(self) -> None:
        self._left -= 1
        if not self._left:
            self._then()
