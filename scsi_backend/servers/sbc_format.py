# SPDX-License-Identifier: GPL-2.0-or-later
"""FORMAT UNIT (SBC-4 5.4): zeros, or an initialization pattern, over all of the medium.

Neither capacity nor block length change, and there are no defects and no protection information.
As SCST, a thin-provisioned disk is deallocated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.long_operation import LongOperation, OperationKind
from scsi_backend.servers.medium_fill import clear, deallocate, flush, overwrite, size_bytes
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.servers.steps import Steps
from scsi_backend.t10 import cdb_format as fields
from scsi_backend.t10 import sense
from scsi_backend.t10.opcodes import Opcode

# Where the CDB announces no parameter list, these are zero (SBC-4 table 51).
_ONLY_WITH_FMTDATA = (fields.CMPLST, fields.DEFECT_LIST_FORMAT)
# Short and long block format; with no defects in them, lists of either are the same.
_DEFECT_LIST_FORMATS = frozenset({0b000, 0b011})
# Reserved unless FOV is set.
_ONLY_WITH_FOV = (fields.DPRY, fields.DCRT, fields.STPF, fields.IP)

_RECOVERS = frozenset({Opcode.FORMAT_UNIT, Opcode.SANITIZE})
# Beside those that read or write blocks.
_NEEDS_FORMAT = frozenset({Opcode.TEST_UNIT_READY, Opcode.PRE_FETCH_10, Opcode.PRE_FETCH_16})


def _needs_format(row: CommandRow) -> bool:
    if row.opcode in _RECOVERS:
        return False
    return row.writes_medium or row.blocks_of is not None or row.opcode in _NEEDS_FORMAT


FORMAT = OperationKind(
    in_progress=sense.FORMAT_IN_PROGRESS,
    failed=sense.FORMAT_COMMAND_FAILED,
    after_failure=sense.MEDIUM_FORMAT_CORRUPTED,
    is_refused_after_failure=_needs_format,
)


@dataclass(frozen=True, slots=True)
class _Request:
    """What the parameter list asks for; no ``pattern`` is the default one."""

    pattern: bytes = b""
    is_immediate: bool = False


def format_unit(unit: LogicalUnit, command: Command) -> None:
    """FORMAT UNIT; with FMTDATA, the parameter list is as long as its header says."""
    cdb = command.cdb
    for field in (fields.FMTPINFO, fields.FFMT):
        if field.read(cdb):
            raise CheckCondition(field.invalid())
    request = _Request()
    if fields.FMTDATA.read(cdb):
        if fields.DEFECT_LIST_FORMAT.read(cdb) not in _DEFECT_LIST_FORMATS:
            raise CheckCondition(fields.DEFECT_LIST_FORMAT.invalid())
        request = _read_list(unit, command)
    else:
        for field in _ONLY_WITH_FMTDATA:
            if field.read(cdb):
                raise CheckCondition(field.invalid())
    operation = LongOperation(unit, FORMAT, size_bytes(unit))
    steps = _steps(unit, operation, request.pattern)
    operation.begin(command, steps, is_immediate=request.is_immediate)


def _read_list(unit: LogicalUnit, command: Command) -> _Request:
    is_long = bool(fields.LONGLIST.read(command.cdb))
    header_bytes = fields.LONG_HEADER_BYTES if is_long else fields.SHORT_HEADER_BYTES
    header = data_out_exactly(command, header_bytes)
    unsupported = [fields.PROTECTION_FIELDS_USAGE]
    if is_long:
        unsupported += [fields.P_I_INFORMATION, fields.PROTECTION_INTERVAL_EXPONENT]
        unsupported.append(fields.LONG_DEFECT_LIST_LENGTH)
    else:
        unsupported.append(fields.DEFECT_LIST_LENGTH)
    if not fields.FOV.read(header):
        unsupported.extend(_ONLY_WITH_FOV)
    for field in unsupported:
        if field.read(header):
            raise CheckCondition(field.invalid_in_list())
    is_immediate = bool(fields.FORMAT_IMMED.read(header))
    has_pattern = bool(fields.IP.read(header))
    pattern = _read_pattern(unit, command, header_bytes) if has_pattern else b""
    return _Request(pattern, is_immediate)


def _read_pattern(unit: LogicalUnit, command: Command, at_byte: int) -> bytes:
    """The pattern of the initialization pattern descriptor (SBC-4 5.4.2.3), empty if default."""
    body_at = at_byte + fields.INITIALIZATION_PATTERN_DESCRIPTOR_BYTES
    descriptor = data_out_exactly(command, body_at)[at_byte:]
    for field in (fields.IP_MODIFIER, fields.SECURITY_INITIALIZE):
        if field.read(descriptor):
            raise CheckCondition(field.invalid_in_list(at_byte))
    kind = fields.INITIALIZATION_PATTERN_TYPE.read(descriptor)
    length = fields.INITIALIZATION_PATTERN_LENGTH.read(descriptor)
    if kind not in (fields.DEFAULT_PATTERN, fields.REPEAT_PATTERN):
        raise CheckCondition(fields.INITIALIZATION_PATTERN_TYPE.invalid_in_list(at_byte))
    # The default has no pattern of its own, a repeated one has up to a block.
    is_default = kind == fields.DEFAULT_PATTERN
    if bool(length) is is_default or length > unit.vdisk.block_size_bytes:
        raise CheckCondition(fields.INITIALIZATION_PATTERN_LENGTH.invalid_in_list(at_byte))
    return bytes(data_out_exactly(command, body_at + length)[body_at:])


def _steps(unit: LogicalUnit, operation: LongOperation, pattern: bytes) -> Steps:
    if any(pattern):
        yield from overwrite(unit, operation, pattern)
    elif unit.vdisk.is_thin_provisioned:
        yield from deallocate(unit, operation)
    else:
        yield from clear(unit, operation)
    yield from flush(unit)


FORMAT_COMMANDS = (
    CommandRow(Opcode.FORMAT_UNIT, lambda unit: partial(format_unit, unit), writes_medium=True),
)
