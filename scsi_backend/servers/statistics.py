# SPDX-License-Identifier: GPL-2.0-or-later
"""What a logical unit counts: commands, blocks and errors, for its log pages."""

from __future__ import annotations

import time
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


_NOTHING: Final = Counters()


# READ and WRITE count those of up to this length by the length: in a list, which is one addition
# to the path of each; the longer ones can afford a call.
SHORT_BLOCKS: Final = 256


class Transfers:
    """How many commands moved how many blocks one way."""

    __slots__ = ("_long_blocks", "_long_commands", "short")

    def __init__(self) -> None:
        # By length in blocks.
        self.short = [0] * (SHORT_BLOCKS + 1)
        self._long_commands = 0
        self._long_blocks = 0

    def add(self, length_blocks: int) -> None:
        """Count a command of any length."""
        self._long_commands += 1
        self._long_blocks += length_blocks

    @property
    def commands(self) -> int:
        """All commands."""
        return sum(self.short) + self._long_commands

    @property
    def blocks(self) -> int:
        """The blocks of all commands."""
        short = sum(length * commands for length, commands in enumerate(self.short))
        return short + self._long_blocks


class Statistics:
    """Counters since the logical unit came, and since each log page was reset.

    READ, and WRITE of any kind that brings the data of each block, count themselves in ``reads``
    and ``writes``; VERIFY, WRITE SAME and UNMAP are not among them.
    """

    def __init__(self) -> None:
        self.reads = Transfers()
        self.writes = Transfers()
        self._read_errors = 0
        self._write_errors = 0
        self._began_s = time.monotonic()
        self._resets: dict[int, Counters] = {}

    @property
    def total(self) -> Counters:
        """All that was ever counted."""
        return Counters(
            read_commands=self.reads.commands,
            read_blocks=self.reads.blocks,
            read_errors=self._read_errors,
            write_commands=self.writes.commands,
            write_blocks=self.writes.blocks,
            write_errors=self._write_errors,
        )

    def counters(self, page_code: int) -> Counters:
        """What was counted since a log page was reset."""
        return self.total.since(self._resets.get(page_code, _NOTHING))

    def reset(self, page_code: int) -> None:
        """Let the counters of a log page begin again."""
        self._resets[page_code] = self.total

    def note_error(self, sense: Sense) -> None:
        """Count what a command ends with, if it is an error of the medium."""
        if sense.code == AdditionalSense.UNRECOVERED_READ_ERROR:
            self._read_errors += 1
        elif sense.code == AdditionalSense.PERIPHERAL_DEVICE_WRITE_FAULT:
            self._write_errors += 1

    @property
    def power_on_minutes(self) -> int:
        """How long the logical unit has been there."""
        return int((time.monotonic() - self._began_s) // 60)
