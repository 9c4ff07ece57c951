# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of batches that are handled column by column, beside the plain way for each frame."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.aoe.burst import Burst
from bridges.aoe.columns import count_alike, identity, render_alike, runs_of
from bridges.aoe.flow import Flow, flow_of
from bridges.aoe.outbox import Outbox
from bridges.aoe.ring import RxRing
from tests.bridges.aoe.bench import Bench, read_ext, write_ext
from tests.bridges.aoe.ringed import AnsweredPort, MemoryRing

FRAME = read_ext(10, 2).ljust(60, b"\0")


def ring_with(*frames: bytes) -> RxRing:
    kernel = MemoryRing(1514, max(len(frames), 4))
    for frame in frames:
        kernel.deliver(frame)
    return RxRing(kernel.memory, kernel.size_bytes)


def changed(at: int) -> bytes:
    """The frame with another byte in one place."""
    return FRAME[:at] + bytes((FRAME[at] ^ 0x55,)) + FRAME[at + 1 :]


@pytest.mark.parametrize("at", range(36))
@pytest.mark.parametrize("count", [2, 3, 9])
def test_frames_are_alike_if_nothing_but_tag_and_lower_lba_differ(at: int, count: int) -> None:
    is_free = at in range(20, 24) or at in range(28, 32) or at in range(34, 36)
    rx = ring_with(*[FRAME] * (count - 1), changed(at))
    assert count_alike(rx, 0, count, identity(rx, 0)) == (count if is_free else count - 1)


def test_a_frame_of_another_length_is_not_alike() -> None:
    rx = ring_with(FRAME, FRAME, FRAME[:50], FRAME)
    assert count_alike(rx, 0, 4, identity(rx, 0)) == 2
    assert count_alike(rx, 2, 2, identity(rx, 2)) == 1
    assert count_alike(rx, 3, 1, identity(rx, 3)) == 1


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(1, 16))
def test_runs_are_the_longest_without_a_gap(steps: list[int], sectors: int) -> None:
    lbas = [step * sectors for step in steps]
    rx = ring_with(*(read_ext(lba, 2) for lba in lbas))
    runs = runs_of(rx, 0, len(lbas), sectors)
    covered = [(index + n, low + n * sectors) for index, count, low in runs for n in range(count)]
    assert covered == list(enumerate(lbas))
    for (_, count, low), (_, _, following) in pairwise(runs):
        assert low + count * sectors != following


def flow_with(bench: Bench, frame: bytes) -> Flow:
    bench.exchange(read_ext(0, 1))
    flow = flow_of(frame[:20], bench.target, bench.port)
    assert flow is not None
    flow.learn(frame[24:28])
    return flow


@pytest.mark.parametrize("count", [1, 2, 7, 64])
@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize("high", [0, 1, 0xFFFF])
def test_columns_make_the_replies_that_a_burst_makes(count: int, is_write: bool, high: int) -> None:
    chooser = random.Random(count)
    lba = high << 32 | 5
    frames = []
    for index in range(count):
        at, tag = lba + 2 * index, chooser.randbytes(4).hex()
        frames.append(write_ext(at, bytes(1024), tag) if is_write else read_ext(at, 2, tag))
    bench = Bench()
    flow = flow_with(bench, frames[0])
    plan = flow.plans[frames[0][24:28]]
    rx = ring_with(*frames)
    port = AnsweredPort(rx)
    by_columns, by_frames = Outbox(1514), port.outbox
    for outbox in (by_columns, by_frames):
        outbox.memory[:] = b"\xaa" * len(outbox.memory)
    # Twice, since the second time finds what the first has left.
    for _ in range(2):
        by_columns.used = by_frames.used = 0
        render_alike(rx, 0, count, identity(rx, 0), flow, plan, by_columns)
        Burst(port, flow, plan, 0, count, lba).render()
        assert by_columns.used == by_frames.used == count
        assert by_columns.memory == by_frames.memory
        assert list(by_columns.lengths[:count]) == list(by_frames.lengths[:count])
