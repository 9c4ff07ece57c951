# SPDX-License-Identifier: GPL-2.0-or-later
"""generator.py: the window, what it counts, and every reply that it must not take for good."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pytest

from tests.bench.aoe.cells import AoeCell, Pattern
from tests.bench.aoe.frames import Route
from tests.bench.aoe.generator import PATIENCE_S, REQUESTS, Flight, Generator, Tally
from tests.bench.aoe.wire import Answer, Wire, always_good, good_reply
from tests.bench.client import LoadError, Measurement

ROUTE = Route(b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2")
DISK_SECTORS = 1 << 15
READ = AoeCell("read", 2, 32, Pattern.PAGES)
WRITE = AoeCell("write", 16, 32, Pattern.SEQUENTIAL)
SERIAL = AoeCell("read", 2, 1, Pattern.RANDOM)
SECONDS = 0.5
ANNOUNCEMENT = bytes.fromhex(
    "ffffffffffff 020000000001 88a2 18 00 0001 01 01 00000000 0040 4019 10 10 0000"
).ljust(60, b"\0")


@contextmanager
def wired(answer: Answer) -> Iterator[Wire]:
    wire = Wire(answer)
    try:
        yield wire
    finally:
        wire.close()


def run(wire: Wire, cell: AoeCell, seconds: float = SECONDS) -> Measurement:
    return Generator(wire.ring(), ROUTE, cell, DISK_SECTORS, wire.clock, wire.cpu_clock).run(
        seconds
    )


def fault_of(answer: Answer, cell: AoeCell = READ) -> str:
    """What a run fails with."""
    with wired(answer) as wire, pytest.raises(LoadError) as caught:
        run(wire, cell)
    return str(caught.value)


def spoilt(at: int, place: int, octet: int) -> Answer:
    """Good replies but for one octet of the one with this number."""

    def answer(number: int, request: bytes) -> list[bytes]:
        reply = bytearray(good_reply(request))
        if number == at:
            reply[place] = octet
        return [bytes(reply)]

    return answer


@pytest.mark.parametrize("cell", [READ, WRITE, SERIAL], ids=lambda cell: cell.name)
def test_good_replies_are_counted_and_the_window_is_kept(cell: AoeCell) -> None:
    with wired(always_good) as wire:
        found = run(wire, cell)
        assert found.requests == len(wire.requests) > cell.window
        assert wire.most_at_once == cell.window
    assert found.bytes_per_s == found.iops * cell.block_bytes
    assert found.idle_share is not None
    assert 0 < found.idle_share < 1


def test_time_in_which_the_ring_was_never_empty_is_not_idle() -> None:
    with wired(always_good) as wire:
        wire.is_instant = True
        found = run(wire, READ)
        assert found.idle_share == 0.0


@pytest.mark.parametrize(
    ("elapsed_s", "cpu_s", "idle_s", "share"),
    [
        (2.0, 2.0, 0.5, 0.25),
        (2.0, 1.5, 0.8, 0.2),
        (2.0, 1.0, 0.8, 0.0),
        (2.0, 2.1, 1.0, 0.5),
        (2.0, 0.0, 2.0, 0.0),
    ],
    ids=["alone", "preempted", "preempted for longer than idle", "inexact clock", "never ran"],
)
def test_time_taken_by_others_is_not_idle(
    elapsed_s: float, cpu_s: float, idle_s: float, share: float
) -> None:
    tally = Tally(elapsed_s=elapsed_s, cpu_s=cpu_s, idle_s=idle_s)
    assert tally.idle_share() == pytest.approx(share)


def test_requests_are_those_of_the_cell_one_after_the_other() -> None:
    with wired(always_good) as wire:
        run(wire, WRITE)
        count = min(len(wire.requests), REQUESTS)
        expected = islice(WRITE.lbas(DISK_SECTORS, random.Random(1)), count)
        for request, lba in zip(wire.requests, expected, strict=False):
            assert len(request) == 36 + 8192
            assert request[24:28] == bytes.fromhex("41 00 10 34")
            assert int.from_bytes(request[28:34], "little") == lba
        assert any(wire.requests[0][36:])


def test_tags_are_unique_among_the_prepared_requests() -> None:
    with wired(always_good) as wire:
        run(wire, WRITE)
        tags = [request[20:24] for request in wire.requests[:REQUESTS]]
    assert len(set(tags)) == len(tags)


def test_latency_is_taken_at_window_one_only() -> None:
    with wired(always_good) as wire:
        serial = run(wire, SERIAL)
    with wired(always_good) as wire:
        deep = run(wire, READ)
    assert serial.p50_us is not None
    assert serial.p99_us is not None
    assert serial.p99_us >= serial.p50_us >= 1000
    assert (deep.p50_us, deep.p99_us) == (None, None)


@pytest.mark.parametrize(
    ("place", "octet", "words"),
    [
        (27, 0x41, "status 0x41"),
        (27, 0x00, "status 0x00"),
        (14, 0x1C, "flags 0x1c"),
        (14, 0x10, "flags 0x10"),
        (15, 1, "error 1"),
        (17, 2, "wrong replies"),
        (18, 2, "wrong replies"),
        (19, 1, "command 1"),
    ],
)
def test_wrong_octet_is_fatal(place: int, octet: int, words: str) -> None:
    text = fault_of(spoilt(40, place, octet))
    assert "1 wrong replies, the first: " in text
    assert words in text
    assert text.startswith("0 of ")


def test_tag_of_no_frame_in_flight_is_fatal_and_its_request_lost() -> None:
    place = 23 if sys.byteorder == "little" else 20
    text = fault_of(spoilt(40, place, 0xFF))
    assert "of no frame in flight" in text
    assert text.startswith("1 of ")


def test_reply_that_comes_twice_is_fatal() -> None:
    text = fault_of(lambda number, request: [good_reply(request)] * (2 if number == 40 else 1))
    assert "of no frame in flight" in text


@pytest.mark.parametrize("cell", [READ, WRITE], ids=lambda cell: cell.name)
@pytest.mark.parametrize("change", [-1, 1])
def test_reply_of_another_length_is_fatal(cell: AoeCell, change: int) -> None:
    def answer(number: int, request: bytes) -> list[bytes]:
        reply = good_reply(request)
        return [(reply + b"x")[: len(reply) + change] if number == 40 else reply]

    assert "1 wrong replies" in fault_of(answer, cell)


def test_every_wrong_reply_in_flight_is_counted() -> None:
    def answer(number: int, request: bytes) -> list[bytes]:
        return [good_reply(request)[:27] + b"\x41" + good_reply(request)[28:]]

    assert "32 wrong replies" in fault_of(answer)


@pytest.mark.parametrize("cell", [READ, SERIAL], ids=lambda cell: cell.name)
def test_lost_frame_ends_the_run_in_bounded_time(cell: AoeCell) -> None:
    def answer(number: int, request: bytes) -> list[bytes]:
        return [] if number == 40 else [good_reply(request)]

    with wired(answer) as wire:
        began_s = wire.now_s
        with pytest.raises(LoadError, match=r"^1 of \d+ frames got no reply$"):
            run(wire, cell)
        assert wire.now_s - began_s < SECONDS + 2 * PATIENCE_S


def test_lost_frame_is_not_sent_again_while_others_are() -> None:
    def answer(number: int, request: bytes) -> list[bytes]:
        return [] if number == 40 else [good_reply(request)]

    with wired(answer) as wire:
        with pytest.raises(LoadError):
            run(wire, READ, 4 * SECONDS)
        lost = wire.requests[40]
        assert len(wire.requests) > REQUESTS
        assert wire.requests.count(lost) == 1


def test_silence_is_a_failure() -> None:
    assert fault_of(lambda number, request: []) == "32 of 32 frames got no reply"


def test_announcements_are_no_replies_and_no_faults() -> None:
    with wired(lambda number, request: [ANNOUNCEMENT, good_reply(request)]) as wire:
        found = run(wire, READ)
        assert found.requests == len(wire.requests)


def test_endless_announcements_end_the_run_in_bounded_time() -> None:
    with wired(always_good) as wire:
        began_s = wire.now_s

        def clock() -> float:
            wire.receive(ANNOUNCEMENT)
            return wire.clock()

        wire.answer = lambda number, request: []
        generator = Generator(wire.ring(), ROUTE, READ, DISK_SECTORS, clock, wire.cpu_clock)
        with pytest.raises(LoadError, match="32 of 32 frames got no reply"):
            generator.run(SECONDS)
        assert wire.now_s - began_s < SECONDS + 2 * PATIENCE_S


def test_link_that_is_gone_is_a_failure() -> None:
    with wired(always_good) as wire:
        ring = wire.ring()
        wire.close()
        with pytest.raises(LoadError, match="cannot send"):
            Generator(ring, ROUTE, READ, DISK_SECTORS, wire.clock, wire.cpu_clock).run(SECONDS)


def test_flight_has_no_room_beyond_window_end_and_what_is_in_flight() -> None:
    flight = Flight(salt=0, window=8)
    assert flight.room() == 8
    flight.sent(8)
    assert flight.room() == 0
    flight = Flight(salt=0, window=8, next=REQUESTS - 3)
    assert flight.room() == 3
    flight.sent(3)
    assert (flight.next, flight.room()) == (0, 5)
    flight = Flight(salt=0, window=8, next=2)
    flight.flags[5] = 1
    assert flight.room() == 3


def test_flight_lands_each_tag_once_and_only_its_own() -> None:
    flight = Flight(salt=5 * REQUESTS, window=2)
    flight.sent(2)
    assert not flight.landed(1)
    assert not flight.landed(5 * REQUESTS + 2)
    assert flight.landed(5 * REQUESTS + 1)
    assert not flight.landed(5 * REQUESTS + 1)
    assert flight.count == 1
