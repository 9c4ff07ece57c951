# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of the CDBs that move the medium and keep it in (SBC-4 5.31, 5.15); see cdb.py."""

from __future__ import annotations

from typing import Final

from scsi_backend.t10.cdb import Field

# START STOP UNIT.
START: Final = Field(4, 0, 1)
# PREVENT ALLOW MEDIUM REMOVAL.
PREVENT: Final = Field(4, 1, 2)
