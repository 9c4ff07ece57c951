# SPDX-License-Identifier: GPL-2.0-or-later
"""SANITIZE (SBC-4 4.11, 5.30): what is stored on the medium shall not be found again.

OVERWRITE writes real data to all blocks, as often as asked, each time until it has left the cache.
BLOCK ERASE writes zeros over what is stored, then deallocates all blocks; it is there where blocks
can be deallocated. There is no key that CRYPTOGRAPHIC ERASE could throw away. Whether the file
system below writes a block to the place that it had is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.long_operation import SERVED_MEANWHILE, LongOperation, OperationKind
from scsi_backend.servers.medium_fill import (
    deallocate,
    flush,
    overwrite,
    overwrite_stored,
    size_bytes,
)
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.servers.steps import Steps
from scsi_backend.t10 import cdb_format as fields
from scsi_backend.t10 import sense
from scsi_backend.t10.cdb import SERVICE_ACTION
from scsi_backend.t10.opcodes import Opcode, Sanitize

_INVERSE = bytes(byte ^ 0xFF for byte in range(256))


def _is_refused_after_failure(row: CommandRow) -> bool:
    return row.opcode not in SERVED_MEANWHILE and row.opcode != Opcode.SANITIZE


SANITIZE = OperationKind(
    in_progress=sense.SANITIZE_IN_PROGRESS,
    failed=sense.SANITIZE_COMMAND_FAILED,
    after_failure=sense.SANITIZE_COMMAND_FAILED,
    is_refused_after_failure=_is_refused_after_failure,
)


def overwrite_medium(unit: LogicalUnit, command: Command) -> None:
    """SANITIZE with OVERWRITE (SBC-4 5.30.2)."""
    cdb = command.cdb
    _check_cdb(unit, cdb)
    length = fields.SANITIZE_PARAMETER_LIST_LENGTH.read(cdb)
    header_bytes = fields.OVERWRITE_HEADER_BYTES
    if not header_bytes < length <= header_bytes + unit.vdisk.block_size_bytes:
        raise CheckCondition(fields.SANITIZE_PARAMETER_LIST_LENGTH.invalid())
    data = bytes(data_out_exactly(command, length))
    # Other values of TEST are vendor specific.
    if fields.TEST.read(data):
        raise CheckCondition(fields.TEST.invalid_in_list())
    count = fields.OVERWRITE_COUNT.read(data)
    if count == 0:
        raise CheckCondition(fields.OVERWRITE_COUNT.invalid_in_list())
    pattern_bytes = fields.OVERWRITE_PATTERN_LENGTH.read(data)
    if not 0 < pattern_bytes <= length - header_bytes:
        raise CheckCondition(fields.OVERWRITE_PATTERN_LENGTH.invalid_in_list())
    pattern = data[header_bytes : header_bytes + pattern_bytes]
    other = pattern.translate(_INVERSE) if fields.INVERT.read(data) else pattern
    # Each pass inverts the one before, and the last one is as the list says (SBC-4 5.30.2).
    passes = [pattern if left % 2 else other for left in range(count, 0, -1)]
    operation = _operation(unit, cdb, count * size_bytes(unit))
    _begin(operation, command, _overwrite_steps(unit, operation, passes))


def _overwrite_steps(unit: LogicalUnit, operation: LongOperation, passes: list[bytes]) -> Steps:
    for pattern in passes:
        yield from overwrite(unit, operation, pattern)
        # In the cache, a pass would replace the one before.
        yield from flush(unit)


def block_erase(unit: LogicalUnit, command: Command) -> None:
    """SANITIZE with BLOCK ERASE (SBC-4 5.30.3); blocks read as zeros afterwards."""
    _check_cdb(unit, command.cdb)
    _check_no_list(command.cdb)
    operation = _operation(unit, command.cdb, 2 * size_bytes(unit))
    _begin(operation, command, _block_erase_steps(unit, operation))


def _block_erase_steps(unit: LogicalUnit, operation: LongOperation) -> Steps:
    yield from overwrite_stored(unit, operation)
    yield from flush(unit)
    yield from deallocate(unit, operation)
    yield from flush(unit)


def exit_failure_mode(unit: LogicalUnit, command: Command) -> None:
    """SANITIZE with EXIT FAILURE MODE (SBC-4 5.30.5); without a failure there is nothing to do."""
    _check_reserved(command.cdb)
    _check_no_list(command.cdb)
    failed = _failed(unit)
    if failed is not None:
        if not failed.allows_exit:
            raise CheckCondition(SERVICE_ACTION.invalid())
        failed.leave()
    command.complete()


def _check_cdb(unit: LogicalUnit, cdb: bytes) -> None:
    """Check what the service actions that sanitize have in common.

    SBC-4 4.11.1: the failure of an operation that had no AUSE is left by success of one that has
    none either.
    """
    _check_reserved(cdb)
    failed = _failed(unit)
    if failed is not None and not failed.allows_exit and fields.AUSE.read(cdb):
        raise CheckCondition(fields.AUSE.invalid())


def _failed(unit: LogicalUnit) -> LongOperation | None:
    """The SANITIZE that has failed, and that no later one has put right."""
    operation = unit.operation
    if isinstance(operation, LongOperation) and operation.kind is SANITIZE and operation.is_failed:
        return operation
    return None


def _check_reserved(cdb: bytes) -> None:
    # ZNR is for zoned block devices only.
    for field in (fields.ZNR, fields.SANITIZE_RESERVED):
        if field.read(cdb):
            raise CheckCondition(field.invalid())


def _check_no_list(cdb: bytes) -> None:
    if fields.SANITIZE_PARAMETER_LIST_LENGTH.read(cdb):
        raise CheckCondition(fields.SANITIZE_PARAMETER_LIST_LENGTH.invalid())


def _operation(unit: LogicalUnit, cdb: bytes, total_bytes: int) -> LongOperation:
    return LongOperation(unit, SANITIZE, total_bytes, allows_exit=bool(fields.AUSE.read(cdb)))


def _begin(operation: LongOperation, command: Command, steps: Steps) -> None:
    is_immediate = bool(fields.SANITIZE_IMMED.read(command.cdb))
    operation.begin(command, steps, is_immediate=is_immediate)


def _row(
    action: Sanitize,
    function: Callable[[LogicalUnit, Command], None],
    is_supported: Callable[[Vdisk], bool] = lambda vdisk: True,
) -> CommandRow:
    return CommandRow(
        Opcode.SANITIZE,
        lambda unit: partial(function, unit),
        service_action=action,
        writes_medium=True,
        is_supported=is_supported,
    )


SANITIZE_COMMANDS = (
    _row(Sanitize.OVERWRITE, overwrite_medium),
    _row(Sanitize.BLOCK_ERASE, block_erase, lambda vdisk: vdisk.is_thin_provisioned),
    _row(Sanitize.EXIT_FAILURE_MODE, exit_failure_mode),
)
