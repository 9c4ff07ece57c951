# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests over a wire that loses, delays and repeats frames."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bridges.aoe.address import Address
from bridges.aoe_tools.layers import ANY_TARGET, QueryConfig, ReserveRelease
from tests.bridges.aoe_tools.fake_wire import (
    CLIENT,
    OTHER,
    TARGET,
    FakeWire,
    answering,
    reply_to,
    silent,
)

E11 = Address(1, 1)
CONFIG = "0040 0001 02 10 0000"


def tags(wire: FakeWire) -> list[int]:
    return [int.from_bytes(frame[20:24], "big") for frame in wire.sent]


def test_an_answer_ends_the_waiting() -> None:
    wire = FakeWire([answering(CONFIG)])
    reply = wire.exchanger().first_reply(TARGET, E11, QueryConfig())
    assert reply is not None
    assert (reply.source, reply.address, reply.error) == (TARGET, E11, 0)
    assert wire.now_s == 0
    assert len(wire.sent) == 1


def test_a_lost_request_is_repeated_with_a_new_tag() -> None:
    wire = FakeWire([silent, silent, answering(CONFIG)])
    reply = wire.exchanger(timeout_s=2.0, first_tag=5).first_reply(TARGET, E11, QueryConfig())
    assert reply is not None
    assert tags(wire) == [0x80000005, 0x80000006, 0x80000007]
    assert reply.tag == 0x80000007
    assert wire.now_s == 1.0
    assert len({frame[:20] + frame[24:] for frame in wire.sent}) == 1


def test_silence_ends_after_four_requests_and_the_time_given() -> None:
    wire = FakeWire()
    assert wire.exchanger(timeout_s=3.0).first_reply(TARGET, E11, QueryConfig()) is None
    assert len(set(tags(wire))) == 4
    assert wire.now_s == 3.0


def test_a_late_answer_to_an_earlier_request_counts() -> None:
    def late(request: bytes) -> Iterable[bytes]:
        return [reply_to(wire.sent[0], CONFIG)]

    wire = FakeWire([silent, late])
    reply = wire.exchanger(first_tag=5).first_reply(TARGET, E11, QueryConfig())
    assert reply is not None
    assert reply.tag == 0x80000005


def test_the_next_request_takes_no_answer_to_the_last_one() -> None:
    def twice(request: bytes) -> Iterable[bytes]:
        return [reply_to(request, CONFIG)] * 2

    wire = FakeWire([twice])
    exchanger = wire.exchanger()
    assert exchanger.first_reply(TARGET, E11, QueryConfig()) is not None
    assert exchanger.first_reply(TARGET, E11, QueryConfig()) is None


def test_tags_stay_in_the_half_that_linux_leaves_to_programs() -> None:
    wire = FakeWire()
    wire.exchanger(first_tag=(1 << 31) - 2).first_reply(TARGET, E11, QueryConfig())
    assert tags(wire) == [0xFFFFFFFE, 0xFFFFFFFF, 0x80000000, 0x80000001]


def not_ours(request: bytes) -> Iterable[bytes]:
    """Frames that are each wrong in one thing."""
    right = reply_to(request, CONFIG)
    yield request
    yield OTHER + right[6:]
    yield right[:12] + b"\x08\x00" + right[14:]
    yield right[:14] + b"\x10" + right[15:]
    yield right[:17] + b"\x02" + right[18:]
    yield right[:18] + b"\x02" + right[19:]
    yield right[:19] + b"\x00" + right[20:]
    yield right[:20] + b"\0\0\0\0" + right[24:]
    yield right[:23]
    yield b""


def test_frames_that_are_no_answer_are_ignored() -> None:
    wire = FakeWire([not_ours])
    assert wire.exchanger().first_reply(TARGET, E11, QueryConfig()) is None
    assert wire.now_s == 2.0


def test_foreign_frames_do_not_prolong_the_waiting() -> None:
    class BusyWire(FakeWire):
        def receive(self, timeout_s: float) -> bytes:
            self.now_s += 0.1
            return bytes(60)

    wire = BusyWire()
    assert wire.exchanger(timeout_s=2.0).first_reply(TARGET, E11, QueryConfig()) is None
    assert wire.now_s < 2.5
    assert len(wire.sent) == 4


def test_everybody_answers_a_broadcast() -> None:
    def three(request: bytes) -> Iterable[bytes]:
        yield reply_to(request, CONFIG)
        yield reply_to(request, CONFIG, address="0001 02")
        yield reply_to(request, CONFIG, address="0007 01", source=OTHER)

    wire = FakeWire([three, silent, three])
    replies = list(wire.exchanger().replies(b"\xff" * 6, ANY_TARGET, QueryConfig()))
    assert [(str(reply.address), reply.source) for reply in replies] == [
        ("e1.1", TARGET),
        ("e1.2", TARGET),
        ("e7.1", OTHER),
    ] * 2
    assert wire.now_s == 2.0
    assert [frame[:12] for frame in wire.sent] == [b"\xff" * 6 + CLIENT] * 4


@pytest.mark.parametrize(
    ("asked", "is_taken"),
    [
        (Address(1, 0xFF), True),
        (Address(0xFFFF, 1), True),
        (Address(2, 0xFF), False),
        (Address(0xFFFF, 2), False),
    ],
)
def test_each_half_of_an_address_may_be_any(asked: Address, is_taken: bool) -> None:
    wire = FakeWire([answering("00 00")])
    reply = wire.exchanger().first_reply(TARGET, asked, ReserveRelease())
    assert (reply is not None) is is_taken
