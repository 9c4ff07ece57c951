# SPDX-License-Identifier: GPL-2.0-or-later
"""What a logical unit counts: commands, blocks and errors, for its log pages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.sense import Sense


class Counters(NamedTuple):
    """The counters at one moment, or what was added between two."""

    read_commands: int = 0
    read_blocks: int = 0
    read_errors: int = 0
    write_commands: int = 0
    write_blocks: int = 0
    write_errors: int = 0

    def since(self, earlier: Counters) -> Counters:
        """What was added since an earlier moment."""
        return Counters(*(now - then for now, then in zip(self, earlier, strict=True)))


# Additional sense code to the counter of errors that it makes.
_COUNTER_OF: Final[Mapping[int, str]] = MappingProxyType(
    {
        AdditionalSense.UNRECOVERED_READ_ERROR: "read_errors",
        AdditionalSense.PERIPHERAL_DEVICE_WRITE_FAULT: "write_errors",
    }
)
_NOTHING: Final = Counters()


class Statistics:
    """Counters since the logical unit came, and since each log page was reset.

    READ and WRITE add to the commands and blocks themselves: a call would cost as much again.
    Commands that read or write in other ways are not among them.
    """

    __slots__ = ("_began_s", "_resets", *Counters._fields)

    read_commands: int
    read_blocks: int
    read_errors: int
    write_commands: int
    write_blocks: int
    write_errors: int

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._resets: dict[int, Counters] = {}
        for name in Counters._fields:
            setattr(self, name, 0)

    @property
    def total(self) -> Counters:
        """All that was ever counted."""
        return Counters(*(getattr(self, name) for name in Counters._fields))

    def counters(self, page_code: int) -> Counters:
        """What was counted since a log page was reset."""
        return self.total.since(self._resets.get(page_code, _NOTHING))

    def reset(self, page_code: int) -> None:
        """Let the counters of a log page begin again."""
        self._resets[page_code] = self.total

    def note_error(self, sense: Sense) -> None:
        """Count what a command ends with, if it is an error of the medium."""
        name = _COUNTER_OF.get(sense.code)
        if name is not None:
            setattr(self, name, getattr(self, name) + 1)

    @property
    def power_on_minutes(self) -> int:
        """How long the logical unit has been there."""
        return int((time.monotonic() - self._began_s) // 60)
