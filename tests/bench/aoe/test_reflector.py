# SPDX-License-Identifier: GPL-2.0-or-later
"""reflector.py: its answers in hex; stations' tests run it."""

from __future__ import annotations

import pytest

from tests.bench.aoe.frames import Reply, Route, sectors_of_config
from tests.bench.aoe.reflector import reply_to

TARGET, INITIATOR = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
ROUTE = Route(TARGET, INITIATOR)


@pytest.mark.parametrize(
    ("direction", "sectors", "length"),
    [("read", 2, 36 + 1024), ("read", 16, 36 + 8192), ("write", 2, 60), ("write", 16, 60)],
)
def test_ata_commands_succeed(direction: str, sectors: int, length: int) -> None:
    request = ROUTE.ata(direction, 0x010203, sectors, 0x12345678)
    head, found = reply_to(request)
    assert found == length
    assert head[:14] == INITIATOR + TARGET + b"\x88\xa2"
    assert head[14:24] == bytes.fromhex("18 00 0001 01 00") + request[20:24]
    assert head[25:28] == bytes([0, sectors, 0x40])
    assert head[28:36] == request[28:36]
    assert Reply.parse(head).tag == 0x12345678


def test_query_config_tells_of_sixteen_sectors() -> None:
    request = ROUTE.query_config(9).ljust(60, b"\0")
    head, length = reply_to(request[:36])
    assert length == 60
    assert sectors_of_config(head) == 16
    # AoE version 1 and ccmd 0; no config string.
    assert head[29:32] == bytes.fromhex("10 0000")
    assert Reply.parse(head).tag == 9
