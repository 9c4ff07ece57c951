# SPDX-License-Identifier: GPL-2.0-or-later
"""PERSISTENT RESERVE IN (SPC-5 6.16): keys, the reservation, capabilities, full status."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scsi_backend.servers.command import Command, Execute
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.t10 import persistent_reservation as pr
from scsi_backend.t10.cdb_reservation import PR_IN_ALLOCATION_LENGTH
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.persistent_reservation import FullStatus, PrInAction
from scsi_backend.t10.status import Status


def read_keys(unit: LogicalUnit) -> bytes:
    """READ KEYS: one for each registered I_T nexus, equal ones too."""
    state = unit.reservations.state
    return pr.keys_data(state.generation, state.registrants.values())


def read_reservation(unit: LogicalUnit) -> bytes:
    """READ RESERVATION: the holder's key, zero where all registrants hold it."""
    state = unit.reservations.state
    reservation = state.reservation
    found = None
    if reservation is not None:
        holder = reservation.holder
        found = (0 if holder is None else state.registrants[holder], int(reservation.type))
    return pr.reservation_data(state.generation, found)


def report_capabilities(unit: LogicalUnit) -> bytes:
    """REPORT CAPABILITIES."""
    reservations = unit.reservations
    return pr.capabilities_data(
        can_persist=reservations.store is not None, persists=reservations.state.persists
    )


def read_full_status(unit: LogicalUnit) -> bytes:
    """READ FULL STATUS: one descriptor for each registered I_T nexus."""
    state = unit.reservations.state
    kind = 0 if state.reservation is None else int(state.reservation.type)
    return pr.full_status_data(
        state.generation,
        (
            FullStatus(nexus, key, state.is_holder(nexus), kind)
            for nexus, key in state.registrants.items()
        ),
    )


def _bind(build: Callable[[LogicalUnit], bytes]) -> Callable[[LogicalUnit], Execute]:
    return lambda unit: partial(_reply, build, unit)


def _reply(build: Callable[[LogicalUnit], bytes], unit: LogicalUnit, command: Command) -> None:
    if unit.reservations.has_legacy:
        # SPC-2 5.5.1: its own holder's, too.
        command.complete(Status.RESERVATION_CONFLICT)
        return
    command.reply(build(unit), PR_IN_ALLOCATION_LENGTH.read(command.cdb))


PERSISTENT_IN_COMMANDS = tuple(
    CommandRow(Opcode.PERSISTENT_RESERVE_IN, _bind(build), service_action=action)
    for action, build in (
        (PrInAction.READ_KEYS, read_keys),
        (PrInAction.READ_RESERVATION, read_reservation),
        (PrInAction.REPORT_CAPABILITIES, report_capabilities),
        (PrInAction.READ_FULL_STATUS, read_full_status),
    )
)
