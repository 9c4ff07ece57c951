# SPDX-License-Identifier: GPL-2.0-or-later
"""CDBs of a copy manager: EXTENDED COPY(LID1), RECEIVE COPY RESULTS (SPC-4 6.4, SPC-3 6.17)."""

from __future__ import annotations

import struct
from typing import Final

from scsi_backend.t10.cdb import Field
from scsi_backend.t10.opcodes import ExtendedCopy, Opcode, ReceiveCopyResults

EXTENDED_COPY_PARAMETER_LIST_LENGTH: Final = Field(10, 7, 32)
LIST_IDENTIFIER: Final = Field(2, 7, 8)
RECEIVE_COPY_RESULTS_ALLOCATION_LENGTH: Final = Field(10, 7, 32)

_EXTENDED_COPY = struct.Struct(">BB8xIxB")
_RECEIVE_COPY_RESULTS = struct.Struct(">BBB7xIxB")


def extended_copy(parameter_list_length_bytes: int) -> bytes:
    """EXTENDED COPY(LID1)."""
    return _EXTENDED_COPY.pack(
        Opcode.EXTENDED_COPY, ExtendedCopy.LID1, parameter_list_length_bytes, 0
    )


def receive_copy_results(
    action: ReceiveCopyResults, list_identifier: int, allocation_length_bytes: int
) -> bytes:
    """RECEIVE COPY RESULTS; OPERATING PARAMETERS ignores the list identifier."""
    return _RECEIVE_COPY_RESULTS.pack(
        Opcode.RECEIVE_COPY_RESULTS, action, list_identifier, allocation_length_bytes, 0
    )
