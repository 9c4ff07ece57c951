# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration that a daemon has in force, and the only ways to another one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bridges.config import Config, interpret
from bridges.config_diff_text import describe
from bridges.config_edit import edit
from bridges.config_edit_targets import keep_ports
from bridges.daemon_change import Change, Patience
from bridges.daemon_check import reason, refusals
from bridges.daemon_doors import Doors
from scsi_backend.t10.alua import AccessState
from scsi_backend.target.backend import Backend

_log = logging.getLogger(__name__)

_PATIENCE = Patience()
# Initiators set states as well, of which the configuration does not hear.
_SET_STATE: Final = "set-target-group-state"


class ChangeRefusedError(Exception):
    """A daemon cannot take over a configuration; its lines are the reasons."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change has changed, in words, and what is to be told of it."""

    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Running:
    """Owns the configuration in force. Changes come one after the other."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        doors: Doors,
        config: Config,
        *,
        check: Callable[[Config], object] = lambda config: None,
        changed: Callable[[], object] = lambda: None,
        patience: Patience = _PATIENCE,
    ) -> None:
        """``check`` raises what else speaks against a configuration, ``changed`` hears of one."""
        self._loop = loop
        self._backend = backend
        self._doors = doors
        self._config = config
        self._check = check
        self._changed = changed
        self._patience = patience
        self._turn = asyncio.Lock()
        self._is_ended = False

    @property
    def config(self) -> Config:
        """What is in force."""
        return self._config

    async def apply(self, wanted: Config, *, dry_run: bool = False) -> Outcome:
        """Take over another configuration, or only say what that would change.

        Raises ChangeRefusedError, ConfigError or OSError, with everything as it was.
        """
        async with self._turn:
            return await self._apply(self._config, wanted, dry_run=dry_run)

    async def edit(self, verb: str, arguments: Mapping[str, object]) -> Outcome:
        """Carry out a verb of ``config_edit``; raises what ``apply`` does, and EditError."""
        async with self._turn:
            wanted = edit(self._config.statements, verb, arguments)
            running = self._as_initiators_set(arguments) if verb == _SET_STATE else self._config
            return await self._apply(running, wanted, dry_run=False)

    def _as_initiators_set(self, arguments: Mapping[str, object]) -> Config:
        """What is in force, with the state that the target group of an edit really has."""
        group = self._backend.device_groups[str(arguments["device_group"])]
        state = group.target_groups[str(arguments["target_group"])].state
        if state is AccessState.TRANSITIONING:
            # No initiator's, but on its way to the one that the configuration has.
            return self._config
        return edit(self._config.statements, _SET_STATE, {**arguments, "state": state.name.lower()})

    async def note(self, verb: str, arguments: Mapping[str, object]) -> None:
        """Have the configuration say what is being done otherwise; raises EditError."""
        async with self._turn:
            self._config = edit(self._config.statements, verb, arguments)

    async def end(self) -> None:
        """Change nothing any more; return when a change that has begun has ended."""
        # Those that wait for their turn do not get it.
        self._is_ended = True
        async with self._turn:
            pass

    async def _apply(self, running: Config, wanted: Config, *, dry_run: bool) -> Outcome:
        if self._is_ended:
            raise ChangeRefusedError("the daemon is stopping")
        wanted = _with_ports_of(running, wanted)
        found = refusals(running, wanted)
        if found:
            raise ChangeRefusedError("\n".join(map(reason, found)))
        self._check(wanted)
        lines = tuple(describe(running, wanted))
        if dry_run:
            return Outcome(lines)
        change = Change(self._loop, self._backend, self._doors, running, wanted, self._patience)
        await change.prepare()
        change.commit()
        self._config = wanted
        for line in lines:
            _log.info("configuration: %s", line)
        self._changed()
        cautions = [text for text in wanted.cautions() if text not in running.cautions()]
        return Outcome(lines, (*cautions, *await change.finish()))


def _with_ports_of(running: Config, wanted: Config) -> Config:
    """Have targets keep their numbers, which nobody may have given: initiators know them by these.

    Raises ConfigError where another one is given such a number.
    """
    before = running.relative_target_ports()
    after = wanted.relative_target_ports()
    if all(before.get(port, number) == number for port, number in after.items()):
        return wanted
    return interpret(keep_ports(before, wanted.statements))
