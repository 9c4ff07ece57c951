# SPDX-License-Identifier: GPL-2.0-or-later
"""Aborting commands, for task management, QERR and PREEMPT AND ABORT (SAM-5 5.6).

What an abort finds on its way to the storage goes on there, but its command ends with TASK
ABORTED; what still waits for its turn is never begun. Doors need an end for each command, so one
whose TASK ABORTED the standard would have withheld (TAS=0) gets it too, and the unit attention
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Protocol

from scsi_backend.servers.command import Command
from scsi_backend.t10 import sense
from scsi_backend.t10.sense import Sense

Finished = Callable[[], None]


class AbortedNexus(Protocol):
    """A nexus, as far as its commands can be aborted."""

    outstanding: set[Command]
    aborted: set[Command]

    def establish_unit_attention(self, sense: Sense) -> None:
        """Queue a unit attention for the nexus's next command."""


def abort(
    nexuses: Iterable[AbortedNexus],
    by: object,
    *,
    tas: bool,
    but: Command | None = None,
) -> list[Command]:
    """Mark commands as aborted and return them; tell those whom ``by`` took them from."""
    aborted: list[Command] = []
    for nexus in nexuses:
        found = set(nexus.outstanding)
        if but is not None:
            found.discard(but)
        nexus.aborted |= found
        aborted += found
        if found and nexus is not by and not tas:
            nexus.establish_unit_attention(sense.COMMANDS_CLEARED)
    return aborted


class Countdown:
    """Calls ``finished`` once everything expected has happened, and ``begun`` was called."""

    def __init__(self, finished: Finished) -> None:
        self._finished = finished
        self._left = 1

    def expect(self) -> Finished:
        """Wait for one thing more; the function returned tells that it has happened."""
        self._left += 1
        return self.begun

    def begun(self) -> None:
        """One thing less to wait for, the announcing of all being one itself."""
        self._left -= 1
        if not self._left:
            self._finished()


def when_ended(commands: Collection[Command], finished: Finished) -> None:
    """Call ``finished`` when the last of these commands has ended, after its owner has heard."""
    pending = Countdown(finished)
    for command in commands:
        command.on_done = partial(_ended, command.on_done, pending.expect())
    pending.begun()


def _ended(on_done: Callable[[Command], None], happened: Finished, command: Command) -> None:
    # The owner may send the command once more, with the callback that it had given.
    command.on_done = on_done
    try:
        on_done(command)
    finally:
        happened()
