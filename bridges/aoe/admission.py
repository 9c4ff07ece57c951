# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is heard by a target and who may use its disk: static access list, mask list, reserve list.

The access list of the configuration comes first; what frames have added restricts further.
"""

from __future__ import annotations

from bridges.aoe.acl import AccessList
from bridges.aoe.state import TargetState


class Admission:
    """``take`` tells it of every new state; the questions are asked for each frame."""

    def __init__(self, access: AccessList, state: TargetState) -> None:
        self._access = access
        self.take(state)

    def take(self, state: TargetState) -> None:
        """Go by this state from now on."""
        self._mask = state.mask_list
        self._masked = frozenset(state.mask_list)
        self._holders = frozenset(state.reserve_list)

    def hears(self, mac: bytes) -> bool:
        """Whether frames from this source are answered at all."""
        return (not self._masked or mac in self._masked) and self._access.admits(mac)

    def fences(self, mac: bytes) -> bool:
        """Whether the disk is reserved for others than this source."""
        return bool(self._holders) and mac not in self._holders

    def audience(self) -> tuple[bytes, ...] | None:
        """Return whom to tell that the target is here, None where no list names anybody."""
        if self._mask:
            return tuple(mac for mac in self._mask if self._access.admits(mac))
        allowed = tuple(sorted(self._access.allow - self._access.deny))
        return allowed if self._access.allow else None
