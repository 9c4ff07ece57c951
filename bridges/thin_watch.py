# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks now and then how much space the file systems of thin disks have left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.thin_threshold import ThinThreshold

# At a gigabyte a second, what is written meanwhile is less than anybody's threshold should be.
PERIOD_S = 5.0


class ThinWatch:
    """Checks the thresholds of those units that have one, while there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, period_s: float = PERIOD_S) -> None:
        self._loop = loop
        self._period_s = period_s
        self._thresholds: dict[LogicalUnit, ThinThreshold] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, units: Iterable[LogicalUnit]) -> None:
        """Watch these from now on: new ones are checked at once, and all after each period."""
        known = self._thresholds
        self._thresholds = {
            unit: known.get(unit) or ThinThreshold(unit)
            for unit in units
            if unit.vdisk.soft_threshold_bytes
        }
        for unit in self._thresholds.keys() - known.keys():
            self._thresholds[unit].check()
        if not self._thresholds:
            self.stop()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._period_s, self._check)

    def _check(self) -> None:
        for threshold in self._thresholds.values():
            threshold.check()
        self._timer = self._loop.call_later(self._period_s, self._check)

    def stop(self) -> None:
        """Check no more; what is being measured still ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
