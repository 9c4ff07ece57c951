# SPDX-License-Identifier: GPL-2.0-or-later
"""The way through the ring answers what the plain way answers, with fewer commands."""

from __future__ import annotations

import random

import pytest

from tests.bridges.aoe.bench import (
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REQUEST,
    Bench,
    ata,
    by_tag,
    read_ext,
)
from tests.bridges.aoe.ringed import MakeBench, tag


@pytest.mark.parametrize("seed", range(20))
def test_the_ring_answers_what_the_plain_way_answers(make_bench: MakeBench, seed: int) -> None:
    """The same frames, in batches, through the ring and one by one without it."""
    chooser = random.Random(seed)
    through_ring, plain = make_bench(), Bench()
    plain.exchange(read_ext(0, 2))
    frames = Frames(chooser)
    for _ in range(60):
        batch = frames.some(chooser.choice([1, 2, 5, 31, 33, 40]))
        answered = through_ring.exchange(*batch)
        expected = [reply for frame in batch for reply in plain.exchange(frame)]
        assert by_tag(answered) == by_tag(expected)
        assert len(answered) == len(expected)
        assert through_ring.vdisk.data == plain.vdisk.data
    assert through_ring.ring.taken == 0
    assert through_ring.ring.lost == 0
    assert through_ring.ring_port.pending == 0
    # Merged, where there was anything to merge.
    assert len(through_ring.lun.cdbs) < len(plain.lun.cdbs)


class Frames:
    """Frames of two initiators, many of which have a neighbour of the same kind behind them."""

    def __init__(self, chooser: random.Random) -> None:
        self._chooser = chooser
        self._number = 0
        self._kind = ""
        self._lba = 0

    def some(self, count: int) -> list[bytes]:
        """The next frames."""
        choose = self._chooser.choice
        frames = []
        for _ in range(count):
            if choose([True] + [False] * 9) or not self._kind:
                self._kind = choose(["read"] * 4 + ["write"] * 4 + ["odd"])
                self._lba = choose([self._chooser.randrange(1030), 0, 1016])
            frames.append(self._next())
            self._lba = max(0, self._lba + choose([2] * 12 + [1, 0, -3, 50]))
        return frames

    def _next(self) -> bytes:
        choose = self._chooser.choice
        self._number += 1
        lba = self._lba.to_bytes(6, "little").hex()
        other = REQUEST.replace(CLIENT_MAC, OTHER_CLIENT_MAC)
        header = choose([REQUEST] * 15 + [other])
        sectors = choose([2] * 15 + [1, 3, 0])
        data = b""
        if self._kind == "read":
            registers = f"40 00 {sectors:02x} 24 {lba} 0000"
        elif self._kind == "write":
            registers = f"41 00 {sectors:02x} 34 {lba} 0000"
            data = self._chooser.randbytes(512 * min(sectors, 2))
        else:
            registers = choose(
                [
                    "00 00 00 e7 000000000000 0000",
                    "00 00 01 20 050000e00000 0000",
                    f"40 00 02 25 {lba} abcd",
                    f"43 00 02 24 {lba} 0000",
                    f"50 00 02 24 {lba} 0000",
                    "00 00 01 ff 000000000000 0000",
                ]
            )
        return ata(registers, data, header=header, tag=tag(self._number))
