# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of what ports have in common: counting, holding up, and closing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bridges.aoe.link import Link
from bridges.aoe.port import MAX_PENDING
from tests.bridges.aoe.bench import TARGET_MAC, read_ext
from tests.bridges.aoe.ringed import RingBench
from tests.scsi_backend.fakes import NOT_NOW


@pytest.fixture
def bench() -> Iterator[RingBench]:
    bench = RingBench(slots=2048)
    bench.exchange(read_ext(0, 2))
    yield bench
    bench.close()


def hold(bench: RingBench) -> None:
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True


def test_no_more_is_taken_on_than_can_be_borne_and_the_rest_is_served_later(
    bench: RingBench,
) -> None:
    hold(bench)
    total = MAX_PENDING + 200
    frames = [read_ext(5 * n % 1000, 1, f"{n:08x}") for n in range(total)]
    assert bench.exchange(*frames) == []
    assert MAX_PENDING <= bench.ring_port.pending < MAX_PENDING + 64
    assert bench.ring.taken > 100
    bench.vdisk.is_held = False
    bench.vdisk.immediate_bytes = None
    replies = []
    while bench.vdisk.held:
        bench.vdisk.release()
        replies += bench.later()
    assert {reply[20:24] for reply in replies} == {n.to_bytes(4, "big") for n in range(total)}
    assert (bench.ring.taken, bench.ring.lost, bench.ring_port.pending) == (0, 0, 0)


def test_a_link_that_has_changed_is_taken_over(bench: RingBench) -> None:
    port = bench.ring_port
    port.take_link(Link(bytes.fromhex(TARGET_MAC), 1060, True))
    assert (port.mtu, port.sector_count) == (1060, 2)
    port.take_link(Link(bytes.fromhex("02000000000a"), 600, True))
    assert (port.mac, port.sector_count) == (bytes.fromhex("02000000000a"), 1)
    # What was remembered of the initiator was for another address.
    assert bench.exchange(read_ext(10, 1)) == []


def test_what_has_come_is_still_handled_when_no_more_is_to_be_received(bench: RingBench) -> None:
    for number in range(1000):
        bench.ring.deliver(read_ext(number, 1))
    asyncio.run(bench.ring_port.finish())
    assert len(bench.later()) == 1000


def test_a_port_that_is_held_up_finishes_when_it_can(bench: RingBench) -> None:
    async def scenario() -> list[bytes]:
        hold(bench)
        total = MAX_PENDING + 200
        bench.exchange(*(read_ext(5 * n % 1000, 1, f"{n:08x}") for n in range(total)))
        finishing = asyncio.ensure_future(bench.ring_port.finish())
        await asyncio.sleep(0)
        assert not finishing.done()
        bench.vdisk.is_held = False
        bench.vdisk.immediate_bytes = None
        replies = []
        while bench.vdisk.held:
            bench.vdisk.release()
            replies += bench.later()
        await finishing
        assert len(replies) == total
        return replies

    replies = asyncio.run(scenario())
    assert len({reply[20:24] for reply in replies}) == len(replies)


def test_a_port_that_is_abandoned_finishes_at_once(bench: RingBench) -> None:
    async def scenario() -> None:
        hold(bench)
        bench.exchange(*(read_ext(5 * n % 1000, 1, f"{n:08x}") for n in range(MAX_PENDING + 9)))
        finishing = asyncio.ensure_future(bench.ring_port.finish())
        await asyncio.sleep(0)
        bench.ring_port.abandon()
        await finishing
        # And one that was closed before its time comes handles nothing.
        bench.ring_port.start()
        assert not bench.loop.readable

    asyncio.run(scenario())
    bench.vdisk.release_all()
    assert bench.later() == []


def test_an_abandoned_port_is_closed_at_once(bench: RingBench) -> None:
    hold(bench)
    bench.exchange(read_ext(10, 1))
    bench.ring_port.abandon()
    assert bench.packets.is_closed
    assert not bench.loop.readable
    bench.ring_port.abandon()
    bench.vdisk.release_all()
    assert bench.later() == []
