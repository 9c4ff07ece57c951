# SPDX-License-Identifier: GPL-2.0-or-later
"""Task management functions, and what QERR aborts (SAM-5 7).

A function is complete when all commands that it aborted have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import Protocol

from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import AttachedNexus, LogicalUnit
from scsi_backend.servers.task_abort import Countdown, Finished, abort, when_ended
from scsi_backend.t10 import sense


class TaskManagementFunction(IntEnum):
    """What an initiator may ask for outside of commands (SAM-5 table 44)."""

    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_TASK_SET = 3
    LOGICAL_UNIT_RESET = 4
    TARGET_RESET = 5
    I_T_NEXUS_RESET = 6


class ManagementResponse(IntEnum):
    """The service response of a function (SAM-5 7.1), by iSCSI's numbers (RFC 7143 11.6.1)."""

    FUNCTION_COMPLETE = 0
    TASK_DOES_NOT_EXIST = 1
    INCORRECT_LUN = 2
    FUNCTION_NOT_SUPPORTED = 5


class ManagedNexus(AttachedNexus, Protocol):
    """An I_T_L nexus, as task management sees it."""

    lun: int

    @property
    def unit(self) -> LogicalUnit:
        """The logical unit."""


def manage(
    nexuses: Mapping[int, ManagedNexus],
    function: int,
    lun: int,
    is_task: Callable[[Command], bool],
    respond: Callable[[ManagementResponse], None],
    retired: Sequence[ManagedNexus] = (),
) -> None:
    """Perform a function that an initiator asks for by its number; ``nexuses`` are its own.

    So are those that are ``retired`` and still have commands under way: as in SCST, these are
    found wherever their LUN leads now.
    """
    finished = partial(respond, ManagementResponse.FUNCTION_COMPLETE)
    if function == TaskManagementFunction.ABORT_TASK:
        ways = (*nexuses.values(), *retired)
        _abort_found([nexus for nexus in ways if nexus.lun == lun], is_task, respond)
    elif function in _OF_SESSION:
        _OF_SESSION[function](tuple(nexuses.values()), finished, retired)
    elif function not in _OF_NEXUS:
        respond(ManagementResponse.FUNCTION_NOT_SUPPORTED)
    elif lun not in nexuses:
        respond(ManagementResponse.INCORRECT_LUN)
    else:
        _OF_NEXUS[function](nexuses[lun], finished)


def _abort_found(
    ways: Collection[ManagedNexus],
    is_task: Callable[[Command], bool],
    respond: Callable[[ManagementResponse], None],
) -> None:
    if not ways:
        respond(ManagementResponse.INCORRECT_LUN)
        return
    found = ((nexus, each) for nexus in ways for each in nexus.outstanding if is_task(each))
    nexus, command = next(found, (None, None))
    if nexus is None or command is None:
        respond(ManagementResponse.TASK_DOES_NOT_EXIST)
    else:
        abort_task(nexus, command, partial(respond, ManagementResponse.FUNCTION_COMPLETE))


def abort_after_fault(nexus: AttachedNexus, unit: LogicalUnit, command: Command) -> None:
    """Abort what QERR says when a command ends with CHECK CONDITION (SPC-5 7.5.9)."""
    of_all = unit.control.qerr == 1 and unit.control.tst == 0
    _let_go(
        unit, abort(unit.nexuses if of_all else [nexus], nexus, tas=unit.control.tas, but=command)
    )


def abort_task(nexus: ManagedNexus, command: Command, finished: Finished) -> None:
    """ABORT TASK: one command; one that has ended already is no error (SAM-5 7.2)."""
    found = {command} & nexus.outstanding
    nexus.aborted |= found
    when_ended(found, finished)
    _let_go(nexus.unit, found)


def abort_task_set(nexus: ManagedNexus, finished: Finished) -> None:
    """ABORT TASK SET: the nexus's own commands."""
    _abort_tasks([nexus], nexus, finished)


def clear_task_set(nexus: ManagedNexus, finished: Finished) -> None:
    """CLEAR TASK SET: those of all nexuses where they share a task set (TST=0)."""
    unit = nexus.unit
    _abort_tasks(unit.nexuses if unit.control.tst == 0 else [nexus], nexus, finished)


def _abort_tasks(nexuses: Iterable[AttachedNexus], by: ManagedNexus, finished: Finished) -> None:
    aborted = abort(nexuses, by, tas=by.unit.control.tas)
    when_ended(aborted, finished)
    _let_go(by.unit, aborted)


def logical_unit_reset(unit: LogicalUnit, finished: Finished) -> None:
    """LOGICAL UNIT RESET: everybody's commands; as in SCST, everybody hears of it."""
    # The reset's own unit attention tells everybody.
    aborted = abort(unit.nexuses, None, tas=True)
    unit.reset()
    unit.raise_unit_attention(sense.BUS_DEVICE_RESET)
    when_ended(aborted, finished)
    _let_go(unit, aborted)


def i_t_nexus_reset(
    nexuses: Iterable[ManagedNexus],
    finished: Finished,
    retired: Sequence[ManagedNexus] = (),
) -> None:
    """I_T NEXUS RESET, or the loss of a nexus that comes back: one initiator's commands."""
    aborted = [command for nexus in retired for command in abort([nexus], nexus, tas=True)]
    units = [nexus.unit for nexus in retired]
    for nexus in nexuses:
        aborted += abort([nexus], nexus, tas=True)
        nexus.unit.forget(nexus)
        nexus.unit.reservations.nexus_lost(nexus)
        nexus.establish_unit_attention(sense.NEXUS_LOSS)
        units.append(nexus.unit)
    when_ended(aborted, finished)
    for unit in units:
        _let_go(unit, aborted)


def target_reset(units: Iterable[LogicalUnit], finished: Finished) -> None:
    """TARGET RESET, which SAM-3 was the last to have: a reset of each logical unit."""
    pending = Countdown(finished)
    for unit in units:
        logical_unit_reset(unit, pending.expect())
    pending.begun()


_OF_NEXUS: Mapping[int, Callable[[ManagedNexus, Finished], None]] = MappingProxyType(
    {
        TaskManagementFunction.ABORT_TASK_SET: abort_task_set,
        TaskManagementFunction.CLEAR_TASK_SET: clear_task_set,
        TaskManagementFunction.LOGICAL_UNIT_RESET: lambda nexus, finished: logical_unit_reset(
            nexus.unit, finished
        ),
    }
)
_OF_SESSION: Mapping[
    int, Callable[[Sequence[ManagedNexus], Finished, Sequence[ManagedNexus]], None]
] = MappingProxyType(
    {
        TaskManagementFunction.I_T_NEXUS_RESET: i_t_nexus_reset,
        TaskManagementFunction.TARGET_RESET: lambda nexuses, finished, _: target_reset(
            [nexus.unit for nexus in nexuses], finished
        ),
    }
)


def _let_go(unit: LogicalUnit, aborted: Collection[Command]) -> None:
    """End the command of an operation on all of the medium, which itself goes on (SBC-4 4.11.2)."""
    if unit.operation is not None:
        unit.operation.abandon(aborted)
