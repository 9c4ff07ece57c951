# SPDX-License-Identifier: GPL-2.0-or-later
"""CDB fields of the reservation commands (SPC-5 6.16, 6.17; SPC-2 7.16, 7.17, 7.21, 7.22)."""

from __future__ import annotations

from typing import Final

from scsi_backend.t10.cdb import Field

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
