# SPDX-License-Identifier: GPL-2.0-or-later
"""What the configuration decides about one target."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from bridges.aoe.acl import AccessList

DEFAULT_IDLE_TIMEOUT_S: Final = 600


class ReservationConflict(StrEnum):
    """What an initiator is told that meets a SCSI reservation.

    ATA's ABRT fails at once, as the conflict does at a SCSI initiator. The Linux driver takes AoE's
    error for a lost frame and goes on trying until its device times out. Whoever the target's own
    reserve list keeps out gets AoE's error in any case.
    """

    ATA = "ata"
    AOE = "aoe"


@dataclass(frozen=True, slots=True)
class Policy:
    """``in_band_editing``: frames may change the config string, the mask list and the reserve list.

    ``write_cache_control``: SET FEATURES may turn the device's write cache on and off, for all
    initiators of all targets. A session without commands for ``idle_timeout_s`` ends; zero keeps
    it for ever.
    """

    access: AccessList = field(default_factory=AccessList)
    in_band_editing: bool = True
    write_cache_control: bool = False
    reservation_conflict: ReservationConflict = ReservationConflict.ATA
    idle_timeout_s: int = DEFAULT_IDLE_TIMEOUT_S


DEFAULT_POLICY: Final = Policy()
