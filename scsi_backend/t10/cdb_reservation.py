# SPDX-License-Identifier: GPL-2.0-or-later
"""The CDBs of the reservation commands (SPC-5 6.16, 6.17; SPC-2 7.16, 7.17, 7.21, 7.22)."""

from __future__ import annotations

import struct
from typing import Final

from scsi_backend.t10.cdb import Field
from scsi_backend.t10.opcodes import Opcode

# PERSISTENT RESERVE IN and OUT.
PR_SERVICE_ACTION: Final = Field(1, 4, 5)
PR_IN_ALLOCATION_LENGTH: Final = Field(7, 7, 16)
PR_SCOPE: Final = Field(2, 7, 4)
PR_TYPE: Final = Field(2, 3, 4)
PR_OUT_PARAMETER_LIST_LENGTH: Final = Field(5, 7, 32)
# RESERVE and RELEASE, both lengths: third-party reservations, and reservations of extents.
THIRD_PARTY: Final = Field(1, 4, 1)
EXTENT: Final = Field(1, 0, 1)
RESERVE_10_LONG_ID: Final = Field(1, 1, 1)

_PR_IN = struct.Struct(">BB5xHB")
_PR_OUT = struct.Struct(">BBBxxIB")


def persistent_reserve_in(action: int, allocation_length_bytes: int) -> bytes:
    """PERSISTENT RESERVE IN (SPC-5 6.16)."""
    return _PR_IN.pack(Opcode.PERSISTENT_RESERVE_IN, action, allocation_length_bytes, 0)


def persistent_reserve_out(action: int, kind: int, parameter_list_length_bytes: int) -> bytes:
    """PERSISTENT RESERVE OUT (SPC-5 6.17) with a TYPE, of the whole logical unit."""
    length = parameter_list_length_bytes
    return _PR_OUT.pack(Opcode.PERSISTENT_RESERVE_OUT, action, kind, length, 0)
