# SPDX-License-Identifier: GPL-2.0-or-later
"""REPORT TARGET PORT GROUPS (SPC-5 6.37) and SET TARGET PORT GROUPS (SPC-5 6.45).

As with SCST, a device that is in no device group answers the first with no groups.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.port_groups import StatesNotSetError
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.t10 import cdb_alua as fields
from scsi_backend.t10 import sense
from scsi_backend.t10.alua import AccessState, PortGroup, port_groups_data
from scsi_backend.t10.opcodes import MaintenanceIn, MaintenanceOut, Opcode

# What an initiator may ask for. Offline is asked for by port and not by group (SPC-5 6.45), which
# is left to the administrator here.
_SETTABLE: Final = frozenset(
    {
        AccessState.ACTIVE,
        AccessState.NONOPTIMIZED,
        AccessState.STANDBY,
        AccessState.UNAVAILABLE,
    }
)


def report_target_port_groups(unit: LogicalUnit, command: Command) -> None:
    """REPORT TARGET PORT GROUPS, with the header of either format."""
    cdb = command.cdb
    form = fields.PARAMETER_DATA_FORMAT.read(cdb)
    if form > fields.FORMAT_EXTENDED:
        raise CheckCondition(fields.PARAMETER_DATA_FORMAT.invalid())
    data = port_groups_data(_groups(unit), is_extended=form == fields.FORMAT_EXTENDED)
    command.reply(data, fields.REPORT_ALLOCATION_LENGTH.read(cdb))


def _groups(unit: LogicalUnit) -> tuple[PortGroup, ...]:
    return () if unit.port_groups is None else tuple(unit.port_groups.described())


def set_target_port_groups(unit: LogicalUnit, command: Command) -> None:
    """SET TARGET PORT GROUPS: the whole list is checked before anything of it takes effect."""
    length = fields.SET_PARAMETER_LIST_LENGTH.read(command.cdb)
    if length == 0:
        command.complete()
        return
    if length < fields.SET_HEADER_BYTES or length % fields.SET_DESCRIPTOR_BYTES:
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    states = _checked_states(unit, data_out_exactly(command, length))
    if unit.port_groups is not None:
        try:
            unit.port_groups.set_states(states, command.nexus)
        except StatesNotSetError as error:
            raise CheckCondition(sense.SET_TARGET_PORT_GROUPS_FAILED) from error
    command.complete()


def _checked_states(unit: LogicalUnit, data: memoryview) -> dict[int, AccessState]:
    known = {group.group_id: group.state for group in _groups(unit)}
    states: dict[int, AccessState] = {}
    for position in range(fields.SET_HEADER_BYTES, len(data), fields.SET_DESCRIPTOR_BYTES):
        descriptor = data[position : position + fields.SET_DESCRIPTOR_BYTES]
        state = fields.SET_STATE.read(descriptor)
        if state not in _SETTABLE:
            raise CheckCondition(fields.SET_STATE.invalid_in_list(position))
        group_id = fields.SET_GROUP_ID.read(descriptor)
        # Named twice, a group would be asked for two states at once.
        if group_id not in known or group_id in states:
            raise CheckCondition(fields.SET_GROUP_ID.invalid_in_list(position))
        states[group_id] = AccessState(state)
    if any(known[group_id] is AccessState.TRANSITIONING for group_id in states):
        raise CheckCondition(sense.ACCESS_STATE_TRANSITION)
    return states


ALUA_COMMANDS: Final = (
    CommandRow(
        Opcode.MAINTENANCE_IN,
        lambda unit: partial(report_target_port_groups, unit),
        service_action=MaintenanceIn.REPORT_TARGET_PORT_GROUPS,
    ),
    CommandRow(
        Opcode.MAINTENANCE_OUT,
        lambda unit: partial(set_target_port_groups, unit),
        service_action=MaintenanceOut.SET_TARGET_PORT_GROUPS,
        is_supported=lambda vdisk: vdisk.has_explicit_alua,
    ),
)
