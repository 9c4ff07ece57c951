# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the medium is in a logical unit, and which nexuses want it to stay (SBC-4 5.15)."""

from __future__ import annotations


class Medium:
    """The medium of one logical unit; what ejecting it does is sbc_start_stop.py's business."""

    def __init__(self) -> None:
        self.is_present = True
        self._preventing: set[object] = set()

    @property
    def is_removal_prevented(self) -> bool:
        """Whether any nexus prevents its removal."""
        return bool(self._preventing)

    def prevent_removal(self, nexus: object) -> None:
        """Keep the medium in until the same nexus allows its removal, or is lost."""
        self._preventing.add(nexus)

    def allow_removal(self, nexus: object) -> None:
        """Forget what a nexus wanted: it said so, logged out, or was lost."""
        self._preventing.discard(nexus)

    def allow_all(self) -> None:
        """Forget what all nexuses wanted: the logical unit was reset."""
        self._preventing.clear()
