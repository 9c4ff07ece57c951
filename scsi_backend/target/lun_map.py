# SPDX-License-Identifier: GPL-2.0-or-later
"""The LUNs of a target: which number leads to which device, and whether it may be written."""

from __future__ import annotations

from dataclasses import dataclass

from scsi_backend.servers.logical_unit import LogicalUnit

# SCST: 14 bits, single level.
MAX_LUN = 16383


@dataclass(frozen=True, slots=True)
class LunEntry:
    """One line ``LUN number device``."""

    unit: LogicalUnit
    is_read_only: bool = False
