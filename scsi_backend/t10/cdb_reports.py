# SPDX-License-Identifier: GPL-2.0-or-later
"""CDB fields of the commands by which a device server reports on itself (SPC-5 6).

REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS, LOG SELECT, LOG SENSE, RECEIVE
DIAGNOSTIC RESULTS, READ BUFFER and WRITE BUFFER.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from scsi_backend.t10.cdb import Field

# REPORT SUPPORTED OPERATION CODES, and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
RCTD: Final = Field(2, 7, 1)
REPD: Final = Field(2, 7, 1)
REPORTING_OPTIONS: Final = Field(2, 2, 3)
REQUESTED_OPERATION_CODE: Final = Field(3, 7, 8)
REQUESTED_SERVICE_ACTION: Final = Field(4, 7, 16)
REPORT_SUPPORTED_ALLOCATION_LENGTH: Final = Field(6, 7, 32)
# LOG SELECT and LOG SENSE. PPC is obsolete since SPC-4.
LOG_PCR: Final = Field(1, 1, 1)
LOG_PPC: Final = Field(1, 1, 1)
LOG_SP: Final = Field(1, 0, 1)
LOG_PAGE_CONTROL: Final = Field(2, 7, 2)
LOG_PAGE_CODE: Final = Field(2, 5, 6)
LOG_SUBPAGE_CODE: Final = Field(3, 7, 8)
LOG_PARAMETER_POINTER: Final = Field(5, 7, 16)
LOG_SENSE_ALLOCATION_LENGTH: Final = Field(7, 7, 16)
LOG_SELECT_PARAMETER_LIST_LENGTH: Final = Field(7, 7, 16)
# RECEIVE DIAGNOSTIC RESULTS, and SEND DIAGNOSTIC's page format.
PCV: Final = Field(1, 0, 1)
RECEIVE_DIAGNOSTIC_PAGE_CODE: Final = Field(2, 7, 8)
RECEIVE_DIAGNOSTIC_ALLOCATION_LENGTH: Final = Field(3, 7, 16)
SEND_DIAGNOSTIC_PF: Final = Field(1, 4, 1)
# READ BUFFER and WRITE BUFFER; the length is ALLOCATION LENGTH or PARAMETER LIST LENGTH.
BUFFER_MODE: Final = Field(1, 4, 5)
BUFFER_ID: Final = Field(2, 7, 8)
BUFFER_OFFSET: Final = Field(3, 7, 24)
BUFFER_LENGTH: Final = Field(6, 7, 24)


class ReportingOptions(IntEnum):
    """What REPORT SUPPORTED OPERATION CODES asks for (SPC-5 6.35)."""

    ALL = 0
    OPERATION_CODE = 1
    SERVICE_ACTION = 2
    EITHER = 3


class BufferMode(IntEnum):
    """The modes of READ BUFFER and WRITE BUFFER that there are (SPC-5 6.21, 6.49)."""

    DATA = 0x02
    DESCRIPTOR = 0x03
    ECHO = 0x0A
    ECHO_DESCRIPTOR = 0x0B
