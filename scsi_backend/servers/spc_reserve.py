# SPDX-License-Identifier: GPL-2.0-or-later
"""RESERVE and RELEASE of SPC-2 (7.16, 7.17, 7.21, 7.22), for the whole logical unit.

Beside persistent reservations they follow SPC-4 5.13.3, compatible reservation handling.
"""

from __future__ import annotations

from functools import partial

from scsi_backend.servers.command import CheckCondition, Command, OtherStatus
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.t10.cdb_reservation import EXTENT, RESERVE_10_LONG_ID, THIRD_PARTY
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.status import Status

_REFUSED = (THIRD_PARTY, EXTENT)
_REFUSED_10 = (*_REFUSED, RESERVE_10_LONG_ID)


def reserve(unit: LogicalUnit, command: Command) -> None:
    """RESERVE: after the PERSISTENT RESERVE OUT that is under way, which may register somebody."""
    _check(command)
    run_steps(command, _reserve(unit, command))


def _reserve(unit: LogicalUnit, command: Command) -> Steps:
    reservations, who = unit.reservations, command.nexus.id
    yield reservations.turn.take
    try:
        if command in command.nexus.aborted or not reservations.nexuses_of({who}):
            # It has no effect any more; nobody would be there to release it.
            return
        if _is_compatible(unit, command):
            return
        if not reservations.admits_legacy(who):
            raise OtherStatus(Status.RESERVATION_CONFLICT)
        reservations.reserve_legacy(who)
    finally:
        reservations.turn.leave()


def release(unit: LogicalUnit, command: Command) -> None:
    """RELEASE: GOOD from whoever holds nothing, which is then left as it is."""
    _check(command)
    reservations = unit.reservations
    if reservations.state.registrants and not _is_compatible(unit, command):
        command.complete(Status.RESERVATION_CONFLICT)
        return
    if reservations.legacy_holder == command.nexus.id:
        reservations.reserve_legacy(None)
    command.complete()


def _is_compatible(unit: LogicalUnit, command: Command) -> bool:
    """Whether a persistent reservation already gives what is asked for (CRH)."""
    state = unit.reservations.state
    return state.reservation is not None and state.may_use(command.nexus.id)


def _check(command: Command) -> None:
    is_10 = command.cdb[0] in (Opcode.RESERVE_10, Opcode.RELEASE_10)
    for field in _REFUSED_10 if is_10 else _REFUSED:
        if field.read(command.cdb):
            raise CheckCondition(field.invalid())


RESERVE_COMMANDS = (
    CommandRow(Opcode.RESERVE_6, lambda unit: partial(reserve, unit)),
    CommandRow(Opcode.RELEASE_6, lambda unit: partial(release, unit)),
    CommandRow(Opcode.RESERVE_10, lambda unit: partial(reserve, unit)),
    CommandRow(Opcode.RELEASE_10, lambda unit: partial(release, unit)),
)
