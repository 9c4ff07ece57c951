# SPDX-License-Identifier: GPL-2.0-or-later
"""Operation codes and service actions (SPC-5 annex F, SBC-4 annex A)."""

from __future__ import annotations

from enum import IntEnum


class Opcode(IntEnum):
    """Byte 0 of a CDB."""

    TEST_UNIT_READY = 0x00
    REQUEST_SENSE = 0x03
    READ_6 = 0x08
    WRITE_6 = 0x0A
    INQUIRY = 0x12
    MODE_SELECT_6 = 0x15
    MODE_SENSE_6 = 0x1A
    START_STOP_UNIT = 0x1B
    SEND_DIAGNOSTIC = 0x1D
    READ_CAPACITY_10 = 0x25
    READ_10 = 0x28
    WRITE_10 = 0x2A
    VERIFY_10 = 0x2F
    PRE_FETCH_10 = 0x34
    SYNCHRONIZE_CACHE_10 = 0x35
    WRITE_SAME_10 = 0x41
    UNMAP = 0x42
    MODE_SELECT_10 = 0x55
    MODE_SENSE_10 = 0x5A
    READ_16 = 0x88
    COMPARE_AND_WRITE = 0x89
    WRITE_16 = 0x8A
    VERIFY_16 = 0x8F
    PRE_FETCH_16 = 0x90
    SYNCHRONIZE_CACHE_16 = 0x91
    WRITE_SAME_16 = 0x93
    SERVICE_ACTION_IN_16 = 0x9E
    REPORT_LUNS = 0xA0
    READ_12 = 0xA8
    WRITE_12 = 0xAA
    VERIFY_12 = 0xAF


class ServiceActionIn16(IntEnum):
    """Service actions of opcode 9Eh."""

    READ_CAPACITY_16 = 0x10
    GET_LBA_STATUS = 0x12


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


def opcode_text(cdb: bytes | memoryview) -> str:
    """Return T10's name of the command a CDB holds, for messages."""
    try:
        opcode = Opcode(cdb[0])
        if opcode is Opcode.SERVICE_ACTION_IN_16:
            name = ServiceActionIn16(cdb[1] & 0x1F).name
        else:
            name = opcode.name
    except ValueError:
        return f"opcode {cdb[0]:02X}h"
    stem, _, width = name.replace("PRE_FETCH", "PRE-FETCH").rpartition("_")
    return f"{stem.replace('_', ' ')}({width})" if width.isdigit() else name.replace("_", " ")
