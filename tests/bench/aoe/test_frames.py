# SPDX-License-Identifier: GPL-2.0-or-later
"""frames.py: requests as scapy reads them, and replies in hex."""

from __future__ import annotations

import sys

import pytest
from scapy.contrib.aoe import AOE
from scapy.layers.l2 import Ether

from tests.bench.aoe.frames import Reply, Route, reply_head, reply_lengths, sectors_of_config

TARGET, INITIATOR = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
ROUTE = Route(TARGET, INITIATOR)
CONFIG_REPLY = bytes.fromhex(
    "020000000002 020000000001 88a2 18 00 0001 01 01 01000000 0040 4019 10 10 0000"
)


@pytest.mark.parametrize(
    ("direction", "flags", "command"), [("read", 0x40, 0x24), ("write", 0x41, 0x34)]
)
def test_ata_request_is_what_scapy_reads(direction: str, flags: int, command: int) -> None:
    head = ROUTE.ata(direction, 0x0605_0403_0201, 16, 0x12345678)
    frame = Ether(head)
    assert len(head) == 36
    assert (frame.dst, frame.src, frame.type) == (TARGET.hex(":"), INITIATOR.hex(":"), 0x88A2)
    aoe = frame[AOE]
    assert (aoe.version, int(aoe.flags), aoe.error) == (1, 0, 0)
    assert (aoe.major, aoe.minor, aoe.cmd) == (1, 1, 0)
    assert head[20:24] == (0x12345678).to_bytes(4, sys.byteorder)
    assert head[24:28] == bytes([flags, 0, 16, command])
    assert head[28:36] == bytes([1, 2, 3, 4, 5, 6, 0, 0])


def test_query_config_is_a_read_of_the_config_string() -> None:
    frame = ROUTE.query_config(7)
    assert frame[:14] == TARGET + INITIATOR + b"\x88\xa2"
    assert frame[14:20] == bytes.fromhex("10 00 0001 01 01")
    assert frame[24:] == bytes(8)


def test_sector_count_is_read_from_a_config_response() -> None:
    assert sectors_of_config(CONFIG_REPLY) == 16


@pytest.mark.parametrize(
    "frame",
    [CONFIG_REPLY[:31], b"", CONFIG_REPLY[:14] + b"\x10" + CONFIG_REPLY[15:]],
    ids=["short", "empty", "request"],
)
def test_other_frames_have_no_sector_count(frame: bytes) -> None:
    with pytest.raises(ValueError, match="no Query Config response"):
        sectors_of_config(frame)


def test_reply_is_parsed() -> None:
    tag = (0x12345678).to_bytes(4, sys.byteorder)
    frame = INITIATOR + TARGET + bytes.fromhex("88a2 1c 03 0001 01 00") + tag
    reply = Reply.parse(frame + bytes.fromhex("40 04 02 41 000000000000 0000") + b"data")
    assert reply == Reply(TARGET, 0x1C, 3, 0, 0x12345678, 0x41, b"data")


@pytest.mark.parametrize("length", range(37))
def test_reply_of_any_length_is_parsed(length: int) -> None:
    assert Reply.parse(CONFIG_REPLY[:length]).data == b""


def test_announcement_is_a_config_response_without_a_tag() -> None:
    assert not Reply.parse(CONFIG_REPLY).is_announcement
    assert Reply.parse(CONFIG_REPLY[:20] + bytes(4) + CONFIG_REPLY[24:]).is_announcement


def test_good_replies_have_this_head_and_these_lengths() -> None:
    assert reply_head() == bytes.fromhex("18 00 0001 01 00")
    assert reply_lengths("read", 2) == (36 + 1024,)
    assert set(reply_lengths("write", 2)) == {36, 60}
