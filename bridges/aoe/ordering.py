# SPDX-License-Identifier: GPL-2.0-or-later
"""Arrival order of overlapping commands: none passes an earlier write to the same sectors.

AoE frames get lost and are sent again under a new tag, so a duplicate cannot be told from a new
command. A late duplicate of a write must therefore not land after a newer write, and a read must
not overtake the write before it. Commands that do not overlap a pending write are not held up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Final, Protocol

# Writes are looked up by the 256-sector pieces that they touch: one or two for any frame's write.
_PIECE_SHIFT: Final = 8
# In place of a piece, for the few commands whose ranges touch thousands.
_ANYWHERE: Final = -1


class Ranged(Protocol):
    """A command for the sectors from ``lba`` up to ``end_lba``.

    ``blockers`` (how many earlier writes it waits for) and ``followers`` (what waits for it)
    belong to ``WriteOrder``.
    """

    lba: int
    blockers: int
    followers: list[Ranged]

    @property
    def end_lba(self) -> int:
        """The first sector behind the command's."""

    @property
    def is_write(self) -> bool:
        """Whether others must not pass it."""

    def start(self) -> None:
        """Begin to execute; ``WriteOrder.leave`` follows once it is done."""


class Scattered(Ranged, Protocol):
    """A write of several ranges between ``lba`` and ``end_lba``."""

    def overlaps(self, lba: int, end_lba: int) -> bool:
        """Whether any of its sectors is one of those from ``lba`` up to ``end_lba``."""

    def overlaps_any(self, other: Scattered) -> bool:
        """Whether any of its sectors is one of another's."""


class WriteOrder:
    """Owns the writes of one disk that have arrived and are not done."""

    def __init__(self) -> None:
        # By piece; while there are none, nothing has to wait.
        self.writes: dict[int, list[Ranged]] = {}
        # Those at _ANYWHERE, in the order of their arrival.
        self._scattered: list[Scattered] = []
        self._ready: deque[Ranged] = deque()
        self._is_starting = False

    def enter(self, command: Ranged) -> bool:
        """Add a command; tell whether it may start now. Otherwise it is started when it may."""
        if self.writes:
            _wait_for(self._overlapping(command), command)
        if command.is_write:
            self._add(command, _pieces(command))
        return not command.blockers

    def enter_scattered(self, command: Scattered) -> bool:
        """Add a write of several ranges, as ``enter`` does."""
        if self.writes:
            _wait_for(self._overlapping_scattered(command), command)
        self._add(command, (_ANYWHERE,))
        self._scattered.append(command)
        return not command.blockers

    def leave(self, command: Ranged) -> None:
        """Remove a command that is done, and start what waited for it alone."""
        if command.is_write:
            self._remove(command, _pieces(command))
        self._start_followers(command)

    def leave_scattered(self, command: Scattered) -> None:
        """Remove a write of several ranges, as ``leave`` does."""
        self._remove(command, (_ANYWHERE,))
        self._scattered.remove(command)
        self._start_followers(command)

    def _start_followers(self, command: Ranged) -> None:
        for follower in command.followers:
            follower.blockers -= 1
            if not follower.blockers:
                self._ready.append(follower)
        # Commands may be done before start() returns; a loop keeps a long chain off the stack.
        if not self._ready or self._is_starting:
            return
        self._is_starting = True
        try:
            while self._ready:
                self._ready.popleft().start()
        finally:
            self._is_starting = False

    def _overlapping(self, command: Ranged) -> Iterable[Ranged]:
        """Return pending writes whose end means that every write that overlaps has ended."""
        found: dict[Ranged, None] = {}
        for piece in _pieces(command):
            for earlier in reversed(self.writes.get(piece, ())):
                if earlier.lba < command.end_lba and command.lba < earlier.end_lba:
                    found[earlier] = None
                    # It waits itself for all older writes in its range.
                    if earlier.lba <= command.lba and command.end_lba <= earlier.end_lba:
                        break
        for scattered in self._scattered:
            if scattered.overlaps(command.lba, command.end_lba):
                found[scattered] = None
        return found

    def _overlapping_scattered(self, command: Scattered) -> Iterable[Ranged]:
        # There are fewer writes on their way than pieces that such a command may touch.
        found: dict[Ranged, None] = {
            earlier: None
            for earlier in chain.from_iterable(
                writes for piece, writes in self.writes.items() if piece != _ANYWHERE
            )
            if command.overlaps(earlier.lba, earlier.end_lba)
        }
        for scattered in self._scattered:
            if scattered.overlaps_any(command):
                found[scattered] = None
        return found

    def _add(self, command: Ranged, pieces: Iterable[int]) -> None:
        for piece in pieces:
            self.writes.setdefault(piece, []).append(command)

    def _remove(self, command: Ranged, pieces: Iterable[int]) -> None:
        for piece in pieces:
            writes = self.writes[piece]
            writes.remove(command)
            if not writes:
                del self.writes[piece]


def _wait_for(writes: Iterable[Ranged], command: Ranged) -> None:
    for earlier in writes:
        earlier.followers.append(command)
        command.blockers += 1


def _pieces(command: Ranged) -> range:
    if command.lba == command.end_lba:
        return range(0)
    return range(command.lba >> _PIECE_SHIFT, (command.end_lba - 1 >> _PIECE_SHIFT) + 1)
