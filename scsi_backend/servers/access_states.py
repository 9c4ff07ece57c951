# SPDX-License-Identifier: GPL-2.0-or-later
"""What a logical unit is through a port that is not active: which commands it answers (SPC-5 5.8).

The accept lists are SCST's; they have all that SPC-5 wants, and READ CAPACITY beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit, Restriction
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.alua import AccessState
from scsi_backend.t10.opcodes import MaintenanceIn, MaintenanceOut, Opcode, ServiceActionIn16
from scsi_backend.t10.sense import Sense

# An opcode alone stands for all its service actions.
_Accepted = frozenset[Opcode | tuple[Opcode, int]]

_TRANSITIONING: Final[_Accepted] = frozenset(
    {
        Opcode.INQUIRY,
        Opcode.REPORT_LUNS,
        Opcode.REQUEST_SENSE,
        Opcode.READ_BUFFER,
        Opcode.WRITE_BUFFER,
        Opcode.READ_CAPACITY_10,
        (Opcode.SERVICE_ACTION_IN_16, ServiceActionIn16.READ_CAPACITY_16),
        (Opcode.MAINTENANCE_IN, MaintenanceIn.REPORT_TARGET_PORT_GROUPS),
    }
)
_UNAVAILABLE: Final[_Accepted] = _TRANSITIONING | {
    (Opcode.MAINTENANCE_OUT, MaintenanceOut.SET_TARGET_PORT_GROUPS)
}
_STANDBY: Final[_Accepted] = _UNAVAILABLE | {
    Opcode.LOG_SELECT,
    Opcode.LOG_SENSE,
    Opcode.MODE_SELECT_6,
    Opcode.MODE_SELECT_10,
    Opcode.MODE_SENSE_6,
    Opcode.MODE_SENSE_10,
    Opcode.PERSISTENT_RESERVE_IN,
    Opcode.PERSISTENT_RESERVE_OUT,
    Opcode.RECEIVE_DIAGNOSTIC_RESULTS,
    Opcode.RELEASE_6,
    Opcode.RELEASE_10,
    Opcode.RESERVE_6,
    Opcode.RESERVE_10,
    Opcode.SEND_DIAGNOSTIC,
}


class _Limits(NamedTuple):
    """What is accepted in a state, and what the rest ends with."""

    accepted: _Accepted
    sense: Sense


# A state that is not here restricts nothing.
_LIMITS: Final[Mapping[AccessState, _Limits]] = MappingProxyType(
    {
        AccessState.STANDBY: _Limits(_STANDBY, sense_data.PORT_IN_STANDBY),
        AccessState.UNAVAILABLE: _Limits(_UNAVAILABLE, sense_data.PORT_UNAVAILABLE),
        AccessState.OFFLINE: _Limits(_UNAVAILABLE, sense_data.PORT_UNAVAILABLE),
        AccessState.TRANSITIONING: _Limits(_TRANSITIONING, sense_data.ACCESS_STATE_TRANSITION),
    }
)


def _refuse(sense: Sense, command: Command) -> None:
    command.check_condition(sense)


def _all_but(accepted: _Accepted, sense: Sense) -> Restriction:
    def applies(row: CommandRow) -> bool:
        return row.opcode not in accepted and (row.opcode, row.service_action) not in accepted

    return Restriction(applies, partial(_refuse, sense))


RESTRICTIONS: Final[Mapping[AccessState, Restriction]] = MappingProxyType(
    {state: _all_but(*limits) for state, limits in _LIMITS.items()}
)


def condition(unit: LogicalUnit, relative_target_port: int) -> Sense | None:
    """What TEST UNIT READY ends with through a port that is not active; None if nothing."""
    limits = _LIMITS.get(unit.access_state(relative_target_port))
    return None if limits is None else limits.sense


# SPC-5 6.7.2, TPGS.
_TPGS_NONE: Final = 0
_TPGS_IMPLICIT: Final = 1
_TPGS_BOTH: Final = 3
# PERIPHERAL QUALIFIER 001b: the unit exists, and cannot be reached through this port.
_NOT_CONNECTED: Final = 0x20
_UNREACHABLE: Final = frozenset({AccessState.UNAVAILABLE, AccessState.OFFLINE})


def tpgs(unit: LogicalUnit) -> int:
    """The TPGS field of the standard INQUIRY data."""
    if unit.port_groups is None:
        return _TPGS_NONE
    return _TPGS_BOTH if unit.vdisk.has_explicit_alua else _TPGS_IMPLICIT


def peripheral(unit: LogicalUnit, relative_target_port: int) -> int:
    """Byte 0 of INQUIRY data through a port: as SCST, it tells of a port that leads nowhere."""
    state = unit.access_state(relative_target_port)
    return _NOT_CONNECTED if state in _UNREACHABLE else 0
