# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel says it does about tasks, done by the device server, too.

The kernel waits for the commands that it aborts, and tells its own initiator by itself; what it
cannot know is what a reset means to the logical unit, and to those who come by other doors. Where
the LUN is gone, there is no unit to reset: what is still under way is aborted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from bridges.local.tcmu.lead import Lead
from bridges.local.tcmu.wire import Tmr
from scsi_backend.servers.command import Command
from scsi_backend.target import task_management


def carry_out(function: int, commands: Sequence[Command], lead: Lead) -> bool:
    """Do what the kernel has told of; tell whether it is a function that is known here."""
    act = _FUNCTIONS.get(function)
    if act is None:
        return False
    if not lead.is_current and act is not _abort_task:
        act = _abort_task_set
    act(lead, commands)
    return True


def _finished() -> None:
    """Nobody waits: the kernel sees the commands' ends in the ring."""


def _abort_task(lead: Lead, commands: Sequence[Command]) -> None:
    for command in commands:
        task_management.abort_task(lead.nexus, command, _finished)


def _abort_task_set(lead: Lead, commands: Sequence[Command]) -> None:
    task_management.abort_task_set(lead.nexus, _finished)


def _clear_task_set(lead: Lead, commands: Sequence[Command]) -> None:
    task_management.clear_task_set(lead.nexus, _finished)


def _logical_unit_reset(lead: Lead, commands: Sequence[Command]) -> None:
    task_management.logical_unit_reset(lead.unit, _finished)


def _target_reset(lead: Lead, commands: Sequence[Command]) -> None:
    units = dict.fromkeys(each.unit for each in lead.session.nexuses.values())
    task_management.target_reset(units, _finished)


_FUNCTIONS: Final[Mapping[int, Callable[[Lead, Sequence[Command]], None]]] = MappingProxyType(
    {
        Tmr.ABORT_TASK: _abort_task,
        Tmr.ABORT_TASK_SET: _abort_task_set,
        Tmr.CLEAR_TASK_SET: _clear_task_set,
        Tmr.LUN_RESET: _logical_unit_reset,
        Tmr.TARGET_WARM_RESET: _target_reset,
        Tmr.TARGET_COLD_RESET: _target_reset,
    }
)
