# SPDX-License-Identifier: GPL-2.0-or-later
"""The soft threshold of a thin disk (SBC-4 4.7.3.8): a word of warning before space runs out.

What is measured is what the file system of the backing file has left for anybody. Nothing here is
in the way of a command: whoever owns the unit calls ``check`` now and then.
"""

from __future__ import annotations

import logging
import os

from scsi_backend.handlers.vdisk import Space
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.sense import THIN_PROVISIONING_SOFT_THRESHOLD_REACHED

_log = logging.getLogger(__name__)


class ThinThreshold:
    """Tells every nexus once that the threshold was reached, and again after it was not."""

    def __init__(self, unit: LogicalUnit) -> None:
        self._unit = unit
        self._is_reached = False
        self._is_measuring = False

    def check(self) -> None:
        """Begin to measure, unless that is under way or the unit has no threshold."""
        if self._is_measuring or not self._unit.vdisk.soft_threshold_bytes:
            return
        self._is_measuring = True
        space = Space()

        def done(result: int) -> None:
            self._is_measuring = False
            if result < 0:
                _log.error("%s: free space: %s", self._unit.name, os.strerror(-result))
            else:
                self._compare(space.available_bytes)

        self._unit.vdisk.measure_space(space, done)

    def _compare(self, available_bytes: int) -> None:
        was_reached = self._is_reached
        self._is_reached = available_bytes <= self._unit.vdisk.soft_threshold_bytes
        if self._is_reached and not was_reached:
            _log.warning("%s: %d MiB of space are left", self._unit.name, available_bytes >> 20)
            self._unit.raise_unit_attention(THIN_PROVISIONING_SOFT_THRESHOLD_REACHED)
