# SPDX-License-Identifier: GPL-2.0-or-later
"""Lengths of 64 bits, as extended headers have them, against fields of 32."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridges.lun import LunInfo
from bridges.nbd import translate
from tests.bridges.nbd.test_translate import DISK, NO_LIMITS, Recorder

LONG = 512 * ((1 << 32) + 5)
FREE = replace(DISK, limits=NO_LIMITS)
# VPD B0h has 64 bits for this limit, WRITE SAME (16) 32 for the length.
GENEROUS = replace(DISK, limits=replace(NO_LIMITS, max_write_same=1 << 40))
# From LBA 1 on: as much as a command can say, and the rest.
TWO_PIECES = ["0000000000000001ffffffff", "00000001000000000000000" + "6"]


def test_a_long_cache_is_prefetched_in_pieces() -> None:
    cdbs = Recorder().run(translate.cache(FREE, 512, LONG))
    assert cdbs == [f"9002{piece}0000" for piece in TWO_PIECES]


@pytest.mark.parametrize("info", [FREE, GENEROUS])
def test_long_zeros_are_written_in_pieces(info: LunInfo) -> None:
    exchange = translate.write_zeroes(info, 512, LONG, fua=True, no_hole=True)
    assert Recorder().run(exchange) == [
        *(f"9301{piece}0000" for piece in TWO_PIECES),
        # More blocks than the field can say: all up to the end.
        "91000000000000000001000000000000",
    ]


def test_a_long_trim_is_unmapped_in_pieces() -> None:
    lun = Recorder()
    lun.run(translate.trim(FREE, 512, LONG, fua=False))
    assert [data[8:20].hex() for data in lun.data if data is not None] == TWO_PIECES


@pytest.mark.parametrize("info", [FREE, GENEROUS])
def test_a_long_trim_by_write_same_comes_in_pieces(info: LunInfo) -> None:
    info = replace(info, provisioning=replace(DISK.provisioning, has_unmap=False))
    cdbs = Recorder().run(translate.trim(info, 512, LONG, fua=False))
    assert cdbs == [f"9309{piece}0000" for piece in TWO_PIECES]
