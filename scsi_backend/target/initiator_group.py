# SPDX-License-Identifier: GPL-2.0-or-later
"""Security groups of a target: initiators that see LUNs of their own (SCST's ini_groups)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scsi_backend.target.initiator_pattern import Host, InitiatorPattern
from scsi_backend.target.lun_map import LunEntry


@dataclass(frozen=True, slots=True)
class InitiatorGroup:
    """A GROUP: whom it is for, and its LUN map, which may be empty."""

    name: str
    patterns: tuple[InitiatorPattern, ...]
    luns: Mapping[int, LunEntry]

    def has(self, initiator_name: str, host: Host | None) -> bool:
        """Whether an initiator belongs here."""
        return any(pattern.matches(initiator_name, host) for pattern in self.patterns)


def group_of(
    groups: Iterable[InitiatorGroup], initiator_name: str, host: Host | None
) -> InitiatorGroup | None:
    """The first group that has an initiator, in their order, as in SCST."""
    return next((group for group in groups if group.has(initiator_name, host)), None)
