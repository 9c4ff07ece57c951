# SPDX-License-Identifier: GPL-2.0-or-later
"""A nexus for tests of commands that reach no logical unit."""

from __future__ import annotations

from collections.abc import Sequence

from scsi_backend.servers.command import Command, Reachable
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.transport_id import transport_id


class LoneNexus:
    """Records what commands tell their nexus."""

    is_read_only = False
    is_write_protected = False
    uses_descriptor_sense = False
    relative_target_port = 1

    def __init__(self) -> None:
        self.id = ItNexusId(transport_id("lone"), self.relative_target_port)
        self.outstanding: set[Command] = set()
        self.aborted: set[Command] = set()
        self.faults: list[Command] = []

    def take_unit_attention(self) -> Sense | None:
        """There is never one."""
        return None

    def clear_unit_attention(self, sense: Sense) -> None:
        """See ``Nexus``."""

    def defer_error(self, sense: Sense) -> None:
        """See ``Nexus``."""

    def faulted(self, command: Command, sense: Sense) -> None:
        """See ``Nexus``."""
        self.faults.append(command)

    def reported_luns(self) -> Sequence[int]:
        """There are none."""
        return ()

    def reachable_units(self) -> Sequence[Reachable]:
        """There are none."""
        return ()
