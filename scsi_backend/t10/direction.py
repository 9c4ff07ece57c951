# SPDX-License-Identifier: GPL-2.0-or-later
"""Which way the data of a command goes, where the transport does not say it.

The table has every command with data-out of SPC-5, SBC-4 and the sets that pass-through may meet,
not only what this project serves. Source: the CDB tables of SPC-5 clause 6 and SBC-4 clause 5.
"""

from __future__ import annotations

from typing import Final

from scsi_backend.t10.opcodes import Opcode, service_action

_DATA_OUT: Final = frozenset(
    {
        0x04,  # FORMAT UNIT
        0x07,  # REASSIGN BLOCKS
        0x0A,  # WRITE(6)
        0x15,  # MODE SELECT(6)
        0x16,  # RESERVE(6)
        0x1D,  # SEND DIAGNOSTIC
        0x2A,  # WRITE(10)
        0x2E,  # WRITE AND VERIFY(10)
        0x2F,  # VERIFY(10)
        0x39,  # COMPARE
        0x3A,  # COPY AND VERIFY
        0x3B,  # WRITE BUFFER
        0x3F,  # WRITE LONG(10)
        0x41,  # WRITE SAME(10)
        0x42,  # UNMAP
        0x48,  # SANITIZE
        0x4C,  # LOG SELECT
        0x50,  # XDWRITE(10)
        0x51,  # XPWRITE(10)
        0x53,  # XDWRITEREAD(10), with data-in beside it
        0x55,  # MODE SELECT(10)
        0x56,  # RESERVE(10)
        0x5F,  # PERSISTENT RESERVE OUT
        0x83,  # EXTENDED COPY and the other third-party copy OUT commands
        0x87,  # ACCESS CONTROL OUT
        0x89,  # COMPARE AND WRITE
        0x8A,  # WRITE(16)
        0x8B,  # ORWRITE(16)
        0x8D,  # WRITE ATTRIBUTE
        0x8E,  # WRITE AND VERIFY(16)
        0x8F,  # VERIFY(16)
        0x93,  # WRITE SAME(16)
        0x9A,  # WRITE STREAM(16)
        0x9C,  # WRITE ATOMIC(16)
        0x9D,  # SERVICE ACTION BIDIRECTIONAL
        0x9F,  # SERVICE ACTION OUT(16)
        0xA4,  # MAINTENANCE OUT
        0xA9,  # SERVICE ACTION OUT(12)
        0xAA,  # WRITE(12)
        0xAE,  # WRITE AND VERIFY(12)
        0xAF,  # VERIFY(12)
        0xB5,  # SECURITY PROTOCOL OUT
    }
)

# SBC-4 table 35.
_VARIABLE_LENGTH_DATA_OUT: Final = frozenset(
    {
        0x0004,  # XDWRITE(32)
        0x0006,  # XPWRITE(32)
        0x0007,  # XDWRITEREAD(32), with data-in beside it
        0x000A,  # VERIFY(32)
        0x000B,  # WRITE(32)
        0x000C,  # WRITE AND VERIFY(32)
        0x000D,  # WRITE SAME(32)
        0x000E,  # ORWRITE(32)
        0x000F,  # WRITE ATOMIC(32)
        0x0010,  # WRITE STREAM(32)
        0x0011,  # WRITE SCATTERED(32)
    }
)


def has_data_out(cdb: bytes) -> bool:
    """Tell whether the data of a command, if it has any, goes to the device server."""
    opcode = cdb[0]
    if opcode == Opcode.VARIABLE_LENGTH:
        return service_action(cdb) in _VARIABLE_LENGTH_DATA_OUT
    return opcode in _DATA_OUT
