# SPDX-License-Identifier: GPL-2.0-or-later
"""The last flush of a device for initiators whose LUN leads there no more.

What they wrote there without a flush has been acknowledged, and may be lost with the next power
failure. A front-end that follows its LUN hides the change from whoever wrote, so that a flush by
the LUN must be worth what it would have been without the change: it succeeds only if the last one
of the old device does, too. One that failed fails all that come, as with the device itself: a
flush that succeeds later proves nothing about what was lost.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.task_abort import Countdown, when_ended

_log = logging.getLogger(__name__)


class LastFlush:
    """A flush of one unit; ``result`` is that of ``Vdisk.sync``, None while it is not over."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.result: int | None = None
        self._waiting: list[Callable[[], None]] = []

    def when_over(self, then: Callable[[], None]) -> None:
        """Call ``then`` once the flush is over."""
        if self.result is None:
            self._waiting.append(then)
        else:
            then()

    def end(self, result: int) -> None:
        """Take down how it went."""
        self.result = result
        if result < 0:
            reason = os.strerror(-result)
            _log.error("%s: the last flush for who left it failed: %s", self._name, reason)
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            try:
                then()
            except Exception:
                # The others must still be told.
                _log.exception("completion callback failed")


class Unfinished:
    """Last flushes that were not over when a session ended, by initiator.

    They are for its next session: a client that loses its connection for a moment does not know
    that its LUN has changed, either.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, list[tuple[int, LastFlush]]] = {}

    def leave(self, initiator_name: str, flushes: Iterable[tuple[int, LastFlush]]) -> None:
        """Keep those of a session that ends that are not over, with their LUNs."""
        unfinished = [each for each in flushes if each[1].result is None]
        # Most never come back.
        self._by_name = {name: kept for name in self._by_name if (kept := self._needed(name))}
        if unfinished:
            self._by_name[initiator_name] = self._needed(initiator_name) + unfinished

    def take(self, initiator_name: str) -> list[tuple[int, LastFlush]]:
        """Hand out those of an initiator that begins a session."""
        needed = self._needed(initiator_name)
        self._by_name.pop(initiator_name, None)
        return needed

    def _needed(self, name: str) -> list[tuple[int, LastFlush]]:
        return [each for each in self._by_name.get(name, ()) if each[1].result != 0]


class LeftSession(Protocol):
    """The session of a nexus that has ended."""

    def depend_on(self, lun: int, flush: LastFlush) -> None:
        """Let no flush by a LUN succeed without this one."""


class LeftNexus(Protocol):
    """A nexus that has ended."""

    lun: int
    unit: LogicalUnit
    outstanding: set[Command]

    @property
    def session(self) -> LeftSession:
        """Whose it was."""


def flush_last(nexuses: Iterable[LeftNexus]) -> None:
    """Flush each device to which nexuses led that have ended, when their last commands have."""
    by_unit: dict[LogicalUnit, list[LeftNexus]] = {}
    for nexus in nexuses:
        by_unit.setdefault(nexus.unit, []).append(nexus)
    for unit, left in by_unit.items():
        flush = LastFlush(unit.name)
        for nexus in left:
            nexus.session.depend_on(nexus.lun, flush)
        under_way = [command for nexus in left for command in nexus.outstanding]
        when_ended(under_way, partial(unit.vdisk.sync, flush.end))


def when_over(flushes: Sequence[LastFlush], done: Callable[[int], None]) -> None:
    """Call ``done`` once all of these are over, with 0 or how one of them failed."""
    flushes = tuple(flushes)

    def finish() -> None:
        done(min((flush.result or 0 for flush in flushes), default=0))

    pending = Countdown(finish)
    for flush in flushes:
        flush.when_over(pending.expect())
    pending.begun()
