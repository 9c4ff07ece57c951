# SPDX-License-Identifier: GPL-2.0-or-later
"""The cells of the AoE benchmark: one table of the kinds of load that each server is put under.

Data only, and the addresses that follow from it; generator.py makes the load.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

SECTOR_BYTES = 512
PAGE_SECTORS = 8
# A frame with 16 sectors needs 36 bytes of headers and 8192 of data.
MTU_OF = {2: 1500, 16: 9000}


class Pattern(StrEnum):
    """Where the frames go. Linux' aoe driver cuts long requests and pages into adjacent frames."""

    SEQUENTIAL = "seq"
    PAGES = "page"
    RANDOM = "rnd"


PATTERN_WORDS = {
    Pattern.SEQUENTIAL: "sequential",
    Pattern.PAGES: "random 4k",
    Pattern.RANDOM: "random",
}


@dataclass(frozen=True, slots=True)
class AoeCell:
    """One kind of load: `window` frames under way, each with so many sectors.

    A durable write is on stable storage before its reply.
    """

    direction: str
    sectors: int
    window: int
    pattern: Pattern
    is_durable: bool = False

    @property
    def name(self) -> str:
        """For the command line, as "read-2s-w32-seq"."""
        durable = ("durable",) if self.is_durable else ()
        words = (self.direction, f"{self.sectors}s", f"w{self.window}", self.pattern, *durable)
        return "-".join(words)

    @property
    def title(self) -> str:
        """For the tables, as "2s read W32 sequential"."""
        durable = " durable" if self.is_durable else ""
        words = PATTERN_WORDS[self.pattern]
        return f"{self.sectors}s{durable} {self.direction} W{self.window} {words}"

    @property
    def mtu(self) -> int:
        """The MTU of the link that carries such frames."""
        return MTU_OF[self.sectors]

    @property
    def block_bytes(self) -> int:
        """Bytes of data in each frame."""
        return self.sectors * SECTOR_BYTES

    @property
    def is_serial(self) -> bool:
        """Whether each frame waits for the reply to the one before."""
        return self.window == 1

    @property
    def is_sequential(self) -> bool:
        """False: rates are frames per second in every cell."""
        return False

    @property
    def is_tls(self) -> bool:
        """False: AoE has no TLS."""
        return False

    def lbas(self, disk_sectors: int, rng: random.Random) -> Iterator[int]:
        """The address of each frame, without end."""
        if self.pattern is Pattern.SEQUENTIAL:
            while True:
                yield from range(0, disk_sectors - self.sectors + 1, self.sectors)
        unit = max(PAGE_SECTORS if self.pattern is Pattern.PAGES else 0, self.sectors)
        while True:
            first = rng.randrange(disk_sectors // unit) * unit
            yield from range(first, first + unit, self.sectors)


def _cells() -> Iterator[AoeCell]:
    for sectors, patterns in (
        (2, (Pattern.SEQUENTIAL, Pattern.PAGES, Pattern.RANDOM)),
        (16, (Pattern.SEQUENTIAL, Pattern.RANDOM)),
    ):
        for window in (1, 32):
            for direction in ("read", "write"):
                for pattern in patterns:
                    yield AoeCell(direction, sectors, window, pattern)
    for sectors, pattern in ((2, Pattern.PAGES), (16, Pattern.RANDOM)):
        for window in (1, 32):
            yield AoeCell("write", sectors, window, pattern, is_durable=True)


CELLS = tuple(_cells())
