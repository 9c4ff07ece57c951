# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of REPORT and SET TARGET PORT GROUPS: the CDBs' and the parameter list's.

Source: SPC-5 6.37, 6.45.
"""

from __future__ import annotations

from typing import Final

from scsi_backend.t10.cdb import Field

# REPORT TARGET PORT GROUPS.
PARAMETER_DATA_FORMAT: Final = Field(1, 7, 3)
REPORT_ALLOCATION_LENGTH: Final = Field(6, 7, 32)
# Values of PARAMETER DATA FORMAT: the header has the length only, or four bytes more.
FORMAT_LENGTH_ONLY: Final = 0
FORMAT_EXTENDED: Final = 1

# SET TARGET PORT GROUPS: the CDB, then the parameter list, whose header is reserved.
SET_PARAMETER_LIST_LENGTH: Final = Field(6, 7, 32)
SET_HEADER_BYTES: Final = 4
SET_DESCRIPTOR_BYTES: Final = 4
# Of one descriptor.
SET_STATE: Final = Field(0, 3, 4)
SET_GROUP_ID: Final = Field(2, 7, 16)
