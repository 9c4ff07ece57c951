# SPDX-License-Identifier: GPL-2.0-or-later
"""EXTENDED COPY(LID1) and RECEIVE COPY RESULTS (SPC-4 6.4, SPC-3 6.17).

Only block device to block device segments, between devices that the initiator has a LUN for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.copy_list import (
    COPY_LIMITS,
    MAX_PARAMETER_LIST_LENGTH,
    CopyList,
    parse_copy_list,
)
from scsi_backend.servers.copy_manager import CopyManager
from scsi_backend.servers.copy_results import CopyOperation
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.t10 import cdb_copy as fields
from scsi_backend.t10.extended_copy import (
    NO_FAILED_SEGMENT_DETAILS,
    copy_status,
    failed_segment_details,
)
from scsi_backend.t10.opcodes import ExtendedCopy, Opcode, ReceiveCopyResults
from scsi_backend.t10.sense import PARAMETER_LIST_LENGTH_ERROR


def extended_copy(unit: LogicalUnit, command: Command) -> None:
    """EXTENDED COPY(LID1); it may go on for long after this returns."""
    length = fields.EXTENDED_COPY_PARAMETER_LIST_LENGTH.read(command.cdb)
    if length == 0:
        command.complete()
        return
    if length > MAX_PARAMETER_LIST_LENGTH:
        raise CheckCondition(PARAMETER_LIST_LENGTH_ERROR)
    copy_list = parse_copy_list(bytes(data_out_exactly(command, length)))
    operation = CopyOperation()
    if copy_list.list_identifier is not None:
        operation = unit.copies.of(command.nexus).begin(copy_list.list_identifier)
    command.on_done = partial(_finished, unit, operation, command.on_done)
    run_steps(command, _steps(unit, command, copy_list, operation))


def _steps(
    unit: LogicalUnit, command: Command, copy_list: CopyList, operation: CopyOperation
) -> Steps:
    # Each has a buffer, and there may be as many as an initiator likes to send.
    yield unit.copies.turn.take
    if copy_list.segments:
        yield from CopyManager(copy_list, command, operation).steps()


def _finished(
    unit: LogicalUnit,
    operation: CopyOperation,
    on_done: Callable[[Command], None],
    command: Command,
) -> None:
    """Keep the outcome before the initiator can ask for it."""
    unit.copies.end(operation, command.status, command.sense)
    command.on_done = on_done
    try:
        on_done(command)
    finally:
        unit.copies.turn.leave()


def receive_copy_status(unit: LogicalUnit, command: Command) -> None:
    """COPY STATUS; an ended operation's is given once, and not for long."""
    list_identifier = fields.LIST_IDENTIFIER.read(command.cdb)
    operation = unit.copies.of(command.nexus).take_status(list_identifier)
    if operation is None:
        raise CheckCondition(fields.LIST_IDENTIFIER.invalid())
    data = copy_status(
        operation.manager_status, operation.segments_processed, operation.written_bytes
    )
    command.reply(data, fields.RECEIVE_COPY_RESULTS_ALLOCATION_LENGTH.read(command.cdb))


def receive_operating_parameters(unit: LogicalUnit, command: Command) -> None:
    """OPERATING PARAMETERS."""
    allocation = fields.RECEIVE_COPY_RESULTS_ALLOCATION_LENGTH.read(command.cdb)
    command.reply(COPY_LIMITS.serialize(), allocation)


def receive_failed_segment_details(unit: LogicalUnit, command: Command) -> None:
    """FAILED SEGMENT DETAILS; kept until they were given whole, or asked for with no room."""
    list_identifier = fields.LIST_IDENTIFIER.read(command.cdb)
    allocation = fields.RECEIVE_COPY_RESULTS_ALLOCATION_LENGTH.read(command.cdb)
    held = unit.copies.of(command.nexus)
    data = _details(command, held.failed(list_identifier))
    if allocation == 0 or allocation >= len(data):
        held.forget_failed(list_identifier)
    command.reply(data, allocation)


def _details(command: Command, operation: CopyOperation | None) -> bytes:
    if operation is None or operation.status is None:
        return NO_FAILED_SEGMENT_DETAILS
    sense = b""
    if operation.sense is not None:
        sense = operation.sense.encode(descriptor=command.nexus.uses_descriptor_sense)
    return failed_segment_details(operation.status, sense)


def _row(
    opcode: Opcode,
    action: ExtendedCopy | ReceiveCopyResults,
    function: Callable[[LogicalUnit, Command], None],
) -> CommandRow:
    return CommandRow(opcode, lambda unit: partial(function, unit), service_action=action)


# EXTENDED COPY does not write the medium of the unit it is sent to: its WRITE commands do.
COPY_COMMANDS: Final = (
    _row(Opcode.EXTENDED_COPY, ExtendedCopy.LID1, extended_copy),
    _row(Opcode.RECEIVE_COPY_RESULTS, ReceiveCopyResults.COPY_STATUS_LID1, receive_copy_status),
    _row(
        Opcode.RECEIVE_COPY_RESULTS,
        ReceiveCopyResults.OPERATING_PARAMETERS,
        receive_operating_parameters,
    ),
    _row(
        Opcode.RECEIVE_COPY_RESULTS,
        ReceiveCopyResults.FAILED_SEGMENT_DETAILS_LID1,
        receive_failed_segment_details,
    ),
)
