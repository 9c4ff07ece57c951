# SPDX-License-Identifier: GPL-2.0-or-later
"""SMART data, byte by byte."""

from __future__ import annotations

import pytest

from bridges.aoe.smart import SMART_DATA, with_checksum
from tests.bridges.aoe.bench import Bench, ata, ata_reply


def test_data_have_a_revision_no_attributes_and_a_checksum() -> None:
    assert bytes.fromhex("1000") + bytes(509) + b"\xf0" == SMART_DATA


def test_checksum_makes_all_bytes_add_up_to_zero() -> None:
    assert with_checksum(b"\x01\x02") == b"\x01\x02\xfd"
    assert with_checksum(bytes(3)) == bytes(4)


@pytest.mark.parametrize(
    ("brought", "length"), [(0, 60), (24, 60), (100, 136), (512, 548), (999, 548)]
)
def test_a_smart_reply_without_data_is_as_long_as_aoeping_wants_it(
    brought: int, length: int
) -> None:
    bench = Bench()
    (reply,) = bench.exchange(ata("00 d8 00 b0 004fc2000000 0000", b"\xee" * brought))
    expected = ata_reply("00 00 00 40 004fc2000000 0000")
    assert reply == expected.ljust(length, b"\0")
