# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a disk leads: the kernel's nexus with one LUN, and the terms that it is served on."""

from __future__ import annotations

from dataclasses import dataclass

from bridges.local.tcmu.naming import DeviceConfig, LunName, identity_of
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.nexus import ItlNexus
from scsi_backend.target.session import Session


@dataclass(frozen=True, slots=True)
class Lead:
    """A LUN as a session had it when somebody looked; ``config`` is what a disk is known by.

    The nexus is part of it: what the kernel still has for a device must never reach another one
    that has come in its place.
    """

    config: DeviceConfig
    session: Session
    nexus: ItlNexus
    cmd_time_out_s: int

    @classmethod
    def of(cls, target: str, session: Session, nexus: ItlNexus, cmd_time_out_s: int) -> Lead:
        """The lead of a nexus, as it is now."""
        identity = identity_of(LunEntry(nexus.unit, is_read_only=nexus.is_read_only))
        config = DeviceConfig(LunName(target, nexus.lun), identity)
        return cls(config, session, nexus, cmd_time_out_s)

    @property
    def name(self) -> LunName:
        """The LUN."""
        return self.config.name

    @property
    def unit(self) -> LogicalUnit:
        """The device behind the LUN."""
        return self.nexus.unit

    @property
    def is_current(self) -> bool:
        """Whether the LUN still is there, and leads where it did."""
        return self.session.nexuses.get(self.nexus.lun) is self.nexus

    def has_successor(self, lead: Lead) -> bool:
        """Whether an initiator that remembers this one can go on with another."""
        return lead.config == self.config and lead.unit is self.unit
