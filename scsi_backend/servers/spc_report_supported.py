# SPDX-License-Identifier: GPL-2.0-or-later
"""What the device server can do, as the rows of its dispatch table have it (SPC-5 6.35, 6.36)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.t10 import cdb_reports as fields
from scsi_backend.t10 import supported_commands, task_management
from scsi_backend.t10.cdb_reports import ReportingOptions
from scsi_backend.t10.command_usage import COMMAND_USAGE, CommandUsage
from scsi_backend.t10.opcodes import MaintenanceIn, Opcode
from scsi_backend.t10.task_management import TaskManagementSupport

# TARGET RESET is served as well, but there is no bit for it any more.
TASK_MANAGEMENT_FUNCTIONS: Final = (
    TaskManagementSupport.ABORT_TASK
    | TaskManagementSupport.ABORT_TASK_SET
    | TaskManagementSupport.CLEAR_TASK_SET
    | TaskManagementSupport.LOGICAL_UNIT_RESET
    | TaskManagementSupport.I_T_NEXUS_RESET
)
# As SCST: a function waits for commands that are with the backing store.
_TASK_MANAGEMENT_TIMEOUT_S = 30
_MIN_ALLOCATION_BYTES = 4


def report_supported_operation_codes(unit: LogicalUnit, command: Command) -> None:
    """REPORT SUPPORTED OPERATION CODES (SPC-5 6.35)."""
    cdb = command.cdb
    options = fields.REPORTING_OPTIONS.read(cdb)
    if options not in _OPTIONS:
        raise CheckCondition(fields.REPORTING_OPTIONS.invalid())
    wants_timeouts = bool(fields.RCTD.read(cdb))
    if options == ReportingOptions.ALL:
        data = supported_commands.all_commands(_descriptors(unit, wants_timeouts))
    else:
        data = _one_command(unit, _requested(unit, cdb, options), wants_timeouts)
    command.reply(data, fields.REPORT_SUPPORTED_ALLOCATION_LENGTH.read(cdb))


_OPTIONS = frozenset(ReportingOptions)


def _descriptors(unit: LogicalUnit, wants_timeouts: bool) -> Iterator[bytes]:
    rows = [row for rows in unit.rows.values() for row in rows]
    for row in sorted(rows, key=lambda row: (row.opcode, row.service_action or 0)):
        usage = _usage(row)
        yield supported_commands.command_descriptor(
            row.opcode,
            row.service_action,
            len(usage.cdb),
            usage.timeouts if wants_timeouts else None,
        )


def _requested(unit: LogicalUnit, cdb: bytes, options: int) -> CommandRow | None:
    """The row that a CDB asks for; the two strict options want the right kind of opcode."""
    rows = unit.rows.get(fields.REQUESTED_OPERATION_CODE.read(cdb))
    if rows is None:
        return None
    has_service_actions = rows[0].service_action is not None
    wants_service_action = options == ReportingOptions.SERVICE_ACTION
    if options != ReportingOptions.EITHER and wants_service_action != has_service_actions:
        raise CheckCondition(fields.REQUESTED_OPERATION_CODE.invalid())
    # Option 001b does not look at the service action, and there is none to look for.
    action = fields.REQUESTED_SERVICE_ACTION.read(cdb)
    if options == ReportingOptions.OPERATION_CODE:
        action = 0
    return next((row for row in rows if (row.service_action or 0) == action), None)


def _one_command(unit: LogicalUnit, row: CommandRow | None, wants_timeouts: bool) -> bytes:
    if row is None:
        return supported_commands.unsupported_command()
    usage = _usage(row)
    return supported_commands.one_command(
        usage.usage_data(is_thin=unit.vdisk.is_thin_provisioned),
        usage.timeouts if wants_timeouts else None,
    )


def _usage(row: CommandRow) -> CommandUsage:
    return COMMAND_USAGE[row.opcode, row.service_action]


def report_supported_task_management_functions(unit: LogicalUnit, command: Command) -> None:
    """REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5 6.36)."""
    cdb = command.cdb
    allocation_length = fields.REPORT_SUPPORTED_ALLOCATION_LENGTH.read(cdb)
    if allocation_length < _MIN_ALLOCATION_BYTES:
        raise CheckCondition(fields.REPORT_SUPPORTED_ALLOCATION_LENGTH.invalid())
    if fields.REPD.read(cdb):
        data = task_management.supported_functions_with_timeout(
            TASK_MANAGEMENT_FUNCTIONS, _TASK_MANAGEMENT_TIMEOUT_S
        )
    else:
        data = task_management.supported_functions(TASK_MANAGEMENT_FUNCTIONS)
    command.reply(data, allocation_length)


REPORT_SUPPORTED_COMMANDS = (
    CommandRow(
        Opcode.MAINTENANCE_IN,
        lambda unit: partial(report_supported_operation_codes, unit),
        service_action=MaintenanceIn.REPORT_SUPPORTED_OPERATION_CODES,
    ),
    CommandRow(
        Opcode.MAINTENANCE_IN,
        lambda unit: partial(report_supported_task_management_functions, unit),
        service_action=MaintenanceIn.REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS,
    ),
)
