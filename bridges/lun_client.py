# SPDX-License-Identifier: GPL-2.0-or-later
"""A front-end's hold on one LUN: submit, recover, and run exchanges, without ever blocking.

The fast path is ``nexus.submit`` itself; only a command that did not end with GOOD comes here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from bridges.exchange import Exchange, Request
from bridges.lun import LunInfo, probe
from bridges.recovery import Action, Reply, RetryBudget, ScsiError, decide, reply_of
from bridges.sparing_log import SparingLog
from bridges.turns import Turns
from scsi_backend.io.trampoline import Trampoline
from scsi_backend.servers.command import Command
from scsi_backend.target.nexus import ItlNexus

_log = logging.getLogger(__name__)

OutcomeT = TypeVar("OutcomeT")

# Looks at a LUN that has changed, then calls what it was given.
Refresh = Callable[[Callable[[], None]], None]

# A LUN that changes during each of so many probes is taken as the last one found it.
_MAX_LOOKS = 4


class Clock(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float:
        """Monotonic time in seconds."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """Call back after ``delay`` seconds."""


class LunClient:
    """One initiator's LUN. ``info`` is what ``open`` or the last change of the LUN found."""

    info: LunInfo

    def __init__(self, nexus: ItlNexus, clock: Clock) -> None:
        self.nexus = nexus
        self.clock = clock
        # For commands that failed for good, of which a client can have as many as it likes.
        self.failures = SparingLog(clock.time, _log.warning)
        # Of the requests that change blocks in part, whichever connection they came by.
        self.turns = Turns()
        # Called after the LUN was looked at again because it said that something changed.
        self.on_change: Callable[[], None] | None = None

    def open(self, done: Callable[[ScsiError | None], None]) -> None:
        """Probe the LUN; ``done(None)`` once ``info`` is there."""

        def finish(outcome: LunInfo | ScsiError) -> None:
            if isinstance(outcome, ScsiError):
                done(outcome)
            else:
                self.info = outcome
                done(None)

        _Look(self, finish).start()

    def run(
        self, exchange: Exchange[OutcomeT], done: Callable[[OutcomeT | ScsiError], None]
    ) -> None:
        """Run an exchange; ``done`` gets its outcome, now or later."""
        Trampoline(exchange, self._perform, done, ScsiError, done).start()

    def _perform(self, request: Request, resume: Callable[[Reply | ScsiError], None]) -> None:
        self.submit(_command(request, resume))

    def submit(self, command: Command, refresh: Refresh | None = None) -> None:
        """Submit a command; its ``on_done`` hears of the final outcome only.

        ``refresh`` is what to do where the LUN says that it has changed (``self.refresh``).
        """
        final = command.on_done

        def consider(command: Command) -> None:
            if command.status == 0:
                final(command)
            else:
                _Retry(self, command, final, refresh or self.refresh).consider(command)

        command.on_done = consider
        self.nexus.submit(command)

    def recover(self, command: Command, done: Callable[[Command], None]) -> None:
        """Try a command again that ended without GOOD, as often as ``recovery`` allows.

        ``done(command)`` follows when it has succeeded or failed for good.
        """
        _Retry(self, command, done, self.refresh).consider(command)

    def refresh(self, then: Callable[[], None]) -> None:
        """Look at the LUN again, then call ``then``; what it was stands if it cannot be read."""

        def finish(outcome: LunInfo | ScsiError) -> None:
            if not isinstance(outcome, ScsiError):
                self.info = outcome
                if self.on_change is not None:
                    self.on_change()
            then()

        _Look(self, finish).start()


def _command(request: Request, resume: Callable[[Reply | ScsiError], None]) -> Command:
    def finish(command: Command) -> None:
        reply = reply_of(command)
        resume(reply if reply.is_success else ScsiError(command.cdb, reply))

    return Command(request.cdb, request.data_in, request.data_out, finish)


class _Look:
    """A probe, taken again from its beginning where the LUN changed on the way.

    Its own commands do not refresh the LUN: while unit attentions keep coming, that would begin
    probe within probe without end.
    """

    def __init__(self, client: LunClient, done: Callable[[LunInfo | ScsiError], None]) -> None:
        self._client = client
        self._done = done
        self._looks_left = _MAX_LOOKS
        self._has_changed = False

    def start(self) -> None:
        self._looks_left -= 1
        self._has_changed = False
        Trampoline(probe(), self._perform, self._finish, ScsiError, self._done).start()

    def _perform(self, request: Request, resume: Callable[[Reply | ScsiError], None]) -> None:
        self._client.submit(_command(request, resume), self._note_change)

    def _note_change(self, again: Callable[[], None]) -> None:
        self._has_changed = True
        again()

    def _finish(self, info: LunInfo) -> None:
        if self._has_changed and self._looks_left:
            self.start()
        else:
            self._done(info)


class _Retry:
    """One command that is being tried again."""

    def __init__(
        self,
        client: LunClient,
        command: Command,
        done: Callable[[Command], None],
        refresh: Refresh,
    ) -> None:
        self._client = client
        self._command = command
        self._done = done
        self._refresh = refresh
        self._budget = RetryBudget(client.clock.time())

    def consider(self, command: Command) -> None:
        reply = reply_of(command)
        action = decide(reply.status, reply.sense)
        if action in (Action.ACCEPT, Action.FAIL):
            self._done(command)
            return
        delay_s = self._budget.next_delay_s(action, self._client.clock.time())
        if delay_s is None:
            self._done(command)
        elif action is Action.REFRESH:
            self._refresh(self._again)
        elif delay_s:
            self._client.clock.call_later(delay_s, self._again)
        else:
            self._again()

    def _again(self) -> None:
        self._command.renew(self.consider)
        self._client.nexus.submit(self._command)
