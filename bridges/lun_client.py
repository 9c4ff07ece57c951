# SPDX-License-Identifier: GPL-2.0-or-later
"""A front-end's hold on one LUN: submit, recover, follow, and run exchanges, without ever blocking.

The fast path is ``nexus.submit`` itself; only a command that did not end with GOOD comes here.

A LUN is an address. Where its target maps another device there, the first command that finds the
old way closed leads the client to the new one, and is tried again there: a WRITE, too, because it
was the LUN that was to be written, and whoever sent it could not know of the change. A device whose
blocks have another length is never followed: what was made for the one would change other bytes of
the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from bridges.exchange import Exchange, Request
from bridges.lun import LunInfo, probe
from bridges.recovery import Action, Reply, RetryBudget, ScsiError, decide, reply_of
from bridges.sparing_log import SparingLog
from bridges.turns import Turns
from scsi_backend.io.trampoline import Trampoline
from scsi_backend.servers.command import Command
from scsi_backend.t10.cdb import TEST_UNIT_READY
from scsi_backend.t10.sense import LUN_NOT_SUPPORTED
from scsi_backend.t10.status import Status
from scsi_backend.target.nexus import ItlNexus
from scsi_backend.target.session import Session

_log = logging.getLogger(__name__)

OutcomeT = TypeVar("OutcomeT")

# Looks at a LUN that has changed, then calls what it was given.
Refresh = Callable[[Callable[[], None]], None]

# A LUN that changes during each of so many probes is taken as the last one found it.
_MAX_LOOKS = 4
_NO_LUN: Final = Reply(Status.CHECK_CONDITION, LUN_NOT_SUPPORTED, 0)


class Clock(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float:
        """Monotonic time in seconds."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """Call back after ``delay`` seconds."""


class LunClient:
    """One initiator's LUN. ``info`` is what ``open`` or the last change of the LUN found.

    ``nexus`` is the way to what ``info`` is about. They change together, and ``info`` is another
    object then.
    """

    info: LunInfo

    def __init__(self, session: Session, lun: int, clock: Clock, *, follows: bool = True) -> None:
        """The session must have the LUN.

        A client that does not follow stays with the device that the LUN leads to now.
        """
        self._session = session
        self._lun = lun
        self._follows = follows
        self.nexus = session.nexuses[lun]
        self.clock = clock
        self._block_size_bytes: int | None = None
        # The way to a device with other blocks.
        self._other: ItlNexus | None = None
        # The look that is under way, and who waits for what it finds.
        self._look: _Look | None = None
        self._waiting: list[Callable[[ScsiError | None], None]] = []
        # For commands that failed for good, of which a client can have as many as it likes.
        self.failures = SparingLog(clock.time, _log.warning)
        # Of the requests that change blocks in part, whichever connection they came by.
        self.turns = Turns()
        # Called after the LUN was looked at again because something has changed.
        self.on_change: Callable[[], None] | None = None

    @property
    def way(self) -> ItlNexus:
        """Where to look for the LUN; where it leads nowhere, that is the nexus that says so."""
        return self._session.nexuses.get(self._lun, self.nexus) if self._follows else self.nexus

    @property
    def is_current(self) -> bool:
        """Whether the LUN still leads where ``nexus`` does."""
        return self.leads_by(self.nexus)

    def leads_by(self, nexus: ItlNexus) -> bool:
        """Whether a nexus is the way to the LUN now."""
        return self._session.nexuses.get(self._lun) is nexus

    @property
    def is_barred(self) -> bool:
        """Whether the LUN leads to a device with other blocks, which is not followed."""
        return self._other is not None and self.way is self._other

    def open(self, done: Callable[[ScsiError | None], None]) -> None:
        """Probe the LUN; ``done(None)`` once ``info`` is there."""
        self._wait_for_look(done, is_news=True)

    def run(
        self, exchange: Exchange[OutcomeT], done: Callable[[OutcomeT | ScsiError], None]
    ) -> None:
        """Run an exchange; ``done`` gets its outcome, now or later."""
        Trampoline(exchange, self._perform, done, ScsiError, done).start()

    def _perform(self, request: Request, resume: Callable[[Reply | ScsiError], None]) -> None:
        self.submit(_command(request, resume))

    def submit(self, command: Command) -> None:
        """Submit a command; its ``on_done`` hears of the final outcome only."""
        _submit(self, command)

    def recover(self, command: Command, done: Callable[[Command], None]) -> None:
        """Try a command again that ended without GOOD, as often as ``recovery`` allows.

        ``done(command)`` follows when it has succeeded or failed for good.
        """
        _Retry(self, command, done).consider(command)

    def send(self, command: Command) -> None:
        """See ``_Way``."""
        self.nexus.submit(command)

    def refresh(self, then: Callable[[], None]) -> None:
        """Look at the LUN again, then call ``then``; what it was stands if it cannot be read."""
        self._wait_for_look(self._changed(then), is_news=True)

    def leading_on(self, command: Command) -> Refresh | None:
        """See ``_Way``."""
        if command.nexus is not self.nexus:
            # Another command has been there before.
            return _at_once
        return None if self.way in (self.nexus, self._other) else self._follow

    def _follow(self, then: Callable[[], None]) -> None:
        # A look that is under way sees what this one would.
        self._wait_for_look(self._changed(then), is_news=False)

    def _changed(self, then: Callable[[], None]) -> Callable[[ScsiError | None], None]:
        def looked(failure: ScsiError | None) -> None:
            if failure is None and self.on_change is not None:
                self.on_change()
            then()

        return looked

    def _wait_for_look(self, done: Callable[[ScsiError | None], None], *, is_news: bool) -> None:
        """Have ``done`` called after a look that knows what was known before this call.

        One at a time: of two, the one that began later could end before.
        """
        self._waiting.append(done)
        if self._look is None:
            self._look = _Look(self, self._looked)
            self._look.start()
        elif is_news:
            self._look.note_change()

    def _looked(self, nexus: ItlNexus, outcome: LunInfo | ScsiError) -> None:
        waiting, self._waiting, self._look = self._waiting, [], None
        failure = outcome if isinstance(outcome, ScsiError) else self._take(nexus, outcome)
        for done in waiting:
            try:
                done(failure)
            except Exception:
                # It may be another connection's; those behind it wait as well.
                _log.exception("completion callback failed")

    def _take(self, nexus: ItlNexus, info: LunInfo) -> ScsiError | None:
        """Go where the LUN leads, unless the blocks there are others."""
        size = info.block_size_bytes
        if self._block_size_bytes not in (None, size):
            self._other = nexus
            _log.warning(
                "%s: LUN %d leads to %s with blocks of %d bytes instead of %d: not followed",
                *(self._session.initiator_name, self._lun, nexus.unit.name),
                *(size, self._block_size_bytes),
            )
            return ScsiError(TEST_UNIT_READY, _NO_LUN)
        self._block_size_bytes = size
        self.nexus, self.info = nexus, info
        return None


def _at_once(then: Callable[[], None]) -> None:
    then()


def _command(request: Request, resume: Callable[[Reply | ScsiError], None]) -> Command:
    def finish(command: Command) -> None:
        reply = reply_of(command)
        resume(reply if reply.is_success else ScsiError(command.cdb, reply))

    return Command(request.cdb, request.data_in, request.data_out, finish)


class _Way(Protocol):
    """Where a command goes, and what is done about what it meets."""

    clock: Clock

    def send(self, command: Command) -> None:
        """Submit a command, once."""

    def refresh(self, then: Callable[[], None]) -> None:
        """Deal with a LUN that says that it has changed, then call ``then``."""

    def leading_on(self, command: Command) -> Refresh | None:
        """What to do before a command that met no LUN is sent again; None for nothing at all."""


class _Look:
    """A probe, taken again from its beginning where the LUN changed on the way.

    Its own commands do not refresh the LUN: while unit attentions keep coming, that would begin
    probe within probe without end. ``done`` is told what was looked at, and what was found.
    """

    def __init__(
        self, client: LunClient, done: Callable[[ItlNexus, LunInfo | ScsiError], None]
    ) -> None:
        self._client = client
        self._done = done
        self._looks_left = _MAX_LOOKS
        self._has_changed = False
        self._nexus = client.way
        self.clock = client.clock

    def start(self) -> None:
        """Look."""
        self._looks_left -= 1
        self._has_changed = False
        self._nexus = self._client.way
        Trampoline(probe(), self._perform, self._finish, ScsiError, self._finish).start()

    def note_change(self) -> None:
        """What was seen so far may have changed since."""
        self._has_changed = True

    def _perform(self, request: Request, resume: Callable[[Reply | ScsiError], None]) -> None:
        _submit(self, _command(request, resume))

    def send(self, command: Command) -> None:
        """See ``_Way``."""
        self._nexus.submit(command)

    def refresh(self, then: Callable[[], None]) -> None:
        """See ``_Way``."""
        self.note_change()
        then()

    def leading_on(self, command: Command) -> Refresh | None:
        """See ``_Way``: what was found on the old way is of no use on the new one."""
        return None

    def _finish(self, outcome: LunInfo | ScsiError) -> None:
        has_moved = self._client.way is not self._nexus
        has_changed = self._has_changed and not isinstance(outcome, ScsiError)
        if (has_moved or has_changed) and self._looks_left:
            self.start()
        elif self._client.leads_by(self._nexus):
            self._done(self._nexus, outcome)
        else:
            # When it closed, it went on answering, as if it had none of the pages.
            self._done(self._nexus, ScsiError(TEST_UNIT_READY, _NO_LUN))


def _submit(way: _Way, command: Command) -> None:
    """Send a command; its ``on_done`` hears of the final outcome only."""
    final = command.on_done

    def consider(command: Command) -> None:
        if command.status == 0:
            final(command)
        else:
            _Retry(way, command, final).consider(command)

    command.on_done = consider
    way.send(command)


class _Retry:
    """One command that is being tried again."""

    def __init__(self, way: _Way, command: Command, done: Callable[[Command], None]) -> None:
        self._way = way
        self._command = command
        self._done = done
        self._budget = RetryBudget(way.clock.time())

    def consider(self, command: Command) -> None:
        reply = reply_of(command)
        action = decide(reply.status, reply.sense)
        refresh: Refresh | None = self._way.refresh
        if reply.sense == LUN_NOT_SUPPORTED:
            refresh = self._way.leading_on(command)
            action = Action.REFRESH if refresh else Action.FAIL
        if action in (Action.ACCEPT, Action.FAIL):
            self._done(command)
            return
        delay_s = self._budget.next_delay_s(action, self._way.clock.time())
        if delay_s is None:
            self._done(command)
        elif action is Action.REFRESH and refresh:
            refresh(self._again)
        elif delay_s:
            self._way.clock.call_later(delay_s, self._again)
        else:
            self._again()

    def _again(self) -> None:
        self._command.renew(self.consider)
        self._way.send(self._command)
