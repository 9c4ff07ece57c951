# SPDX-License-Identifier: GPL-2.0-or-later
"""The target port groups of a logical unit, as its device server sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from scsi_backend.t10.alua import AccessState, PortGroup


class StatesNotSetError(Exception):
    """The access states that were asked for cannot be brought about; nothing has changed."""


class PortGroups(Protocol):
    """The groups, each with its state. A port that is in none of them is always active."""

    def state_of(self, relative_target_port: int) -> AccessState:
        """The access state of the group that a port is in."""

    def group_id_of(self, relative_target_port: int) -> int | None:
        """The identifier of the group that a port is in."""

    def described(self) -> Sequence[PortGroup]:
        """All the groups."""

    def set_states(self, states: Mapping[int, AccessState], nexus: object) -> None:
        """Carry out a command of a nexus: new states by group identifier, all of them or none.

        The other nexuses hear of the change. Raises StatesNotSetError.
        """
