# SPDX-License-Identifier: GPL-2.0-or-later
"""Operation codes and service actions (SPC-5 annex F, SBC-4 annex A)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final


class Opcode(IntEnum):
    """Byte 0 of a CDB."""

    TEST_UNIT_READY = 0x00
    REQUEST_SENSE = 0x03
    FORMAT_UNIT = 0x04
    READ_6 = 0x08
    WRITE_6 = 0x0A
    INQUIRY = 0x12
    MODE_SELECT_6 = 0x15
    RESERVE_6 = 0x16
    RELEASE_6 = 0x17
    MODE_SENSE_6 = 0x1A
    START_STOP_UNIT = 0x1B
    RECEIVE_DIAGNOSTIC_RESULTS = 0x1C
    SEND_DIAGNOSTIC = 0x1D
    PREVENT_ALLOW_MEDIUM_REMOVAL = 0x1E
    READ_CAPACITY_10 = 0x25
    READ_10 = 0x28
    WRITE_10 = 0x2A
    WRITE_AND_VERIFY_10 = 0x2E
    VERIFY_10 = 0x2F
    PRE_FETCH_10 = 0x34
    SYNCHRONIZE_CACHE_10 = 0x35
    READ_DEFECT_DATA_10 = 0x37
    WRITE_BUFFER = 0x3B
    READ_BUFFER = 0x3C
    WRITE_SAME_10 = 0x41
    UNMAP = 0x42
    SANITIZE = 0x48
    LOG_SELECT = 0x4C
    LOG_SENSE = 0x4D
    MODE_SELECT_10 = 0x55
    RESERVE_10 = 0x56
    RELEASE_10 = 0x57
    MODE_SENSE_10 = 0x5A
    PERSISTENT_RESERVE_IN = 0x5E
    PERSISTENT_RESERVE_OUT = 0x5F
    VARIABLE_LENGTH = 0x7F
    EXTENDED_COPY = 0x83
    RECEIVE_COPY_RESULTS = 0x84
    READ_16 = 0x88
    COMPARE_AND_WRITE = 0x89
    WRITE_16 = 0x8A
    ORWRITE_16 = 0x8B
    WRITE_AND_VERIFY_16 = 0x8E
    VERIFY_16 = 0x8F
    PRE_FETCH_16 = 0x90
    SYNCHRONIZE_CACHE_16 = 0x91
    WRITE_SAME_16 = 0x93
    WRITE_ATOMIC_16 = 0x9C
    SERVICE_ACTION_IN_16 = 0x9E
    REPORT_LUNS = 0xA0
    MAINTENANCE_IN = 0xA3
    MAINTENANCE_OUT = 0xA4
    READ_12 = 0xA8
    WRITE_12 = 0xAA
    WRITE_AND_VERIFY_12 = 0xAE
    VERIFY_12 = 0xAF
    READ_DEFECT_DATA_12 = 0xB7


class ServiceActionIn16(IntEnum):
    """Service actions of opcode 9Eh."""

    READ_CAPACITY_16 = 0x10
    GET_LBA_STATUS = 0x12


class Sanitize(IntEnum):
    """Service actions of SANITIZE (SBC-4 5.30)."""

    OVERWRITE = 0x01
    BLOCK_ERASE = 0x02
    EXIT_FAILURE_MODE = 0x1F


class VariableLength(IntEnum):
    """Service actions of the variable-length CDB, 7Fh (SBC-4 table 35)."""

    READ_32 = 0x0009
    VERIFY_32 = 0x000A
    WRITE_32 = 0x000B
    WRITE_AND_VERIFY_32 = 0x000C
    WRITE_SAME_32 = 0x000D
    ORWRITE_32 = 0x000E
    WRITE_ATOMIC_32 = 0x000F


class ExtendedCopy(IntEnum):
    """Service actions of EXTENDED COPY, 83h (SPC-5 table 150)."""

    LID1 = 0x00


class ReceiveCopyResults(IntEnum):
    """Service actions of RECEIVE COPY RESULTS, 84h (SPC-5 table 151)."""

    COPY_STATUS_LID1 = 0x00
    OPERATING_PARAMETERS = 0x03
    FAILED_SEGMENT_DETAILS_LID1 = 0x04


class MaintenanceIn(IntEnum):
    """Service actions of MAINTENANCE IN, A3h (SPC-5 annex F)."""

    REPORT_TARGET_PORT_GROUPS = 0x0A
    REPORT_SUPPORTED_OPERATION_CODES = 0x0C
    REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS = 0x0D
    REPORT_TIMESTAMP = 0x0F


class MaintenanceOut(IntEnum):
    """Service actions of MAINTENANCE OUT, A4h (SPC-5 annex F)."""

    SET_TARGET_PORT_GROUPS = 0x0A


# Opcodes that need a service action to say what they are.
_SERVICE_ACTIONS: Final[Mapping[int, type[IntEnum]]] = MappingProxyType(
    {
        Opcode.SANITIZE: Sanitize,
        Opcode.VARIABLE_LENGTH: VariableLength,
        Opcode.EXTENDED_COPY: ExtendedCopy,
        Opcode.RECEIVE_COPY_RESULTS: ReceiveCopyResults,
        Opcode.SERVICE_ACTION_IN_16: ServiceActionIn16,
        Opcode.MAINTENANCE_IN: MaintenanceIn,
        Opcode.MAINTENANCE_OUT: MaintenanceOut,
    }
)
# One of their names says nothing without the command's.
_NAMED_AFTER_OPCODE: Final = frozenset({Sanitize, ExtendedCopy, ReceiveCopyResults})


# SAM-5 5.2.1: the group code (bits 7-5 of the opcode) gives the length of the CDB in bytes.
# Group 3 is variable-length or vendor's; 6 and 7 are vendor's, for which 16 holds any in use.
_LENGTH_BY_GROUP = (6, 10, 10, None, 16, 12, 16, 16)


def cdb_length(cdb: bytes | memoryview) -> int:
    """Return how many bytes the CDB that begins here has (SAM-5 5.2.1, SPC-5 4.2.3)."""
    fixed = _LENGTH_BY_GROUP[cdb[0] >> 5]
    if fixed is not None:
        return fixed
    # The variable-length CDB (7Fh) counts the bytes after its eighth.
    return 8 + cdb[7] if cdb[0] == 0x7F and len(cdb) > 7 else 16


# Where a CDB of each operation code has its CONTROL byte: the last, or byte 1 of 7Fh.
CONTROL_BYTE_AT: Final = bytes(
    1 if opcode == Opcode.VARIABLE_LENGTH else (_LENGTH_BY_GROUP[opcode >> 5] or 16) - 1
    for opcode in range(256)
)
NACA_BIT: Final = 0x04


def service_action(cdb: bytes | memoryview) -> int:
    """Return the SERVICE ACTION field (SPC-5 4.2.3), which 7Fh has in bytes 8 and 9."""
    if cdb[0] == Opcode.VARIABLE_LENGTH:
        return cdb[8] << 8 | cdb[9]
    return cdb[1] & 0x1F


def opcode_text(cdb: bytes | memoryview) -> str:
    """Return T10's name of the command a CDB holds, for messages."""
    try:
        name = _name(cdb)
    except (ValueError, IndexError):
        return f"opcode {cdb[0]:02X}h"
    stem, _, width = name.replace("PRE_FETCH", "PRE-FETCH").rpartition("_")
    return f"{stem.replace('_', ' ')}({width})" if width.isdigit() else name.replace("_", " ")


def _name(cdb: bytes | memoryview) -> str:
    opcode = Opcode(cdb[0])
    actions = _SERVICE_ACTIONS.get(opcode)
    if actions is None:
        return opcode.name
    action = actions(service_action(cdb))
    return f"{opcode.name} {action.name}" if actions in _NAMED_AFTER_OPCODE else action.name
