# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the LUN behind a target can be used through it, as the latest command found it.

A LUN in ALUA's standby or unavailable state is another path's business. Its target is not
announced until a command succeeds again, so that clients look for the disk elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable


class Availability:
    """``on_change`` is called when the LUN goes on standby, and when it comes back."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.is_standby = False
        self._on_change = on_change

    def note(self, *, is_standby: bool) -> None:
        """Take note of how a command ended."""
        if is_standby is not self.is_standby:
            self.is_standby = is_standby
            self._on_change()
