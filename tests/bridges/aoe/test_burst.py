# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of a burst by itself; what it does behind a port is in test_ring_port.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridges.aoe.burst import Burst
from bridges.aoe.flow import flow_of
from bridges.aoe.ring import RxRing
from scsi_backend.io.scatter import contiguous
from tests.bridges.aoe.bench import (
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REPLY,
    REQUEST,
    Bench,
    answer,
    ask,
    ata_reply,
    read_ext,
    write_ext,
)
from tests.bridges.aoe.ringed import AnsweredPort, MemoryRing
from tests.scsi_backend.fakes import NOT_NOW, pattern

TAGS = ("0000000a", "7fffffff", "00000001")


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.exchange(read_ext(0, 2))
    return bench


def burst_of(bench: Bench, *frames: bytes, lba: int) -> tuple[Burst, AnsweredPort]:
    """A burst that has not begun, and its port."""
    kernel = MemoryRing(1514, 8)
    for frame in frames:
        kernel.deliver(frame)
    flow = flow_of(frames[0][:20], bench.target, bench.port)
    assert flow is not None
    flow.learn(frames[0][24:28])
    plan = flow.plans[frames[0][24:28]]
    rx = RxRing(kernel.memory, kernel.size_bytes)
    port = AnsweredPort(rx)
    return Burst(port, flow, plan, 0, len(frames), lba), port


def _reads() -> list[bytes]:
    return [read_ext(10 + 2 * n, 2, TAGS[n]) for n in range(3)]


def _writes() -> list[bytes]:
    return [write_ext(10 + 2 * n, bytes(1024), TAGS[n]) for n in range(3)]


def test_a_burst_is_one_command_for_all_sectors(bench: Bench) -> None:
    burst, _ = burst_of(bench, *(read_ext(10 + 2 * n, 2, TAGS[n]) for n in range(3)), lba=10)
    burst.start()
    assert burst.cdb == bytes.fromhex("88 00 000000000000000a 00000006 0000")
    assert burst.is_done
    assert (burst.lba, burst.end_lba) == (10, 16)


def test_its_requests_can_be_had_again_when_the_slots_are_gone(bench: Bench) -> None:
    frames = [read_ext(10 + 2 * n, 2, TAGS[n]) for n in range(3)]
    burst, port = burst_of(bench, *frames, lba=10)
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    burst.start()
    burst.port.rx.memory[:] = bytes(len(burst.port.rx.memory))
    assert [bytes(burst.frame(n)) for n in range(3)] == frames
    bench.vdisk.release_all()
    replies = port.answered
    assert [reply[20:24].hex() for reply in replies] == list(TAGS)
    assert [reply[36:] for reply in replies] == [
        pattern(10 + 2 * n, 512) + pattern(11 + 2 * n, 512) for n in range(3)
    ]


def test_a_write_is_made_of_the_received_frames(bench: Bench) -> None:
    frames = [write_ext(10 + 2 * n, bytes([n]) * 1024, TAGS[n]) for n in range(3)]
    burst, _ = burst_of(bench, *frames, lba=10)
    burst.begin(burst.port.rx.views(36, 1024), -1)
    assert burst.cdb == bytes.fromhex("8a 08 000000000000000a 00000006 0000")
    assert bench.vdisk.blocks(10, 6) == b"".join(bytes([n]) * 1024 for n in range(3))
    assert burst.data_out is not None
    burst.port.rx.memory[72 + 36] = 0xEE
    assert contiguous(burst.data_out)[0] == 0xEE


@pytest.mark.parametrize("make", [_reads, _writes])
def test_a_fence_waits_for_a_burst_under_way(bench: Bench, make: Callable[[], list[bytes]]) -> None:
    burst, port = burst_of(bench, *make(), lba=10)
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    burst.begin(burst.port.rx.views(36, 1024), -1)
    reserve = ask(f"01 01 {OTHER_CLIENT_MAC}", 3, REQUEST.replace(CLIENT_MAC, OTHER_CLIENT_MAC))
    assert bench.exchange(reserve) == []
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert len(port.answered) == 3
    back = REPLY.replace(CLIENT_MAC, OTHER_CLIENT_MAC)
    assert bench.port.take() == [answer(f"01 01 {OTHER_CLIENT_MAC}", 3, back)]
    assert not burst.flow.initiator.outstanding.is_any


def test_a_write_that_waits_takes_its_data_along(bench: Bench) -> None:
    frames = [write_ext(10 + 2 * n, bytes([65 + n]) * 1024, TAGS[n]) for n in range(3)]
    burst, port = burst_of(bench, *frames, lba=10)
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    burst.begin(burst.port.rx.views(36, 1024), -1)
    burst.port.rx.memory[:] = b"\xee" * len(burst.port.rx.memory)
    assert [bytes(burst.frame(n)) for n in range(3)] == frames
    bench.vdisk.release_all()
    assert bench.vdisk.blocks(10, 6) == b"".join(bytes([65 + n]) * 1024 for n in range(3))
    assert [reply[20:24].hex() for reply in port.answered] == list(TAGS)


def test_data_move_out_of_the_outbox_before_a_read_waits(bench: Bench) -> None:
    burst, port = burst_of(bench, *(read_ext(10 + 2 * n, 2, TAGS[n]) for n in range(2)), lba=10)
    bench.vdisk.immediate_bytes = 700
    bench.vdisk.is_held = True
    burst.begin(burst.port.outbox.views(36, 1024), 3)
    assert burst.first_out < 0
    # Somebody else's replies go there now.
    burst.port.outbox.memory[:] = b"\xee" * len(burst.port.outbox.memory)
    bench.vdisk.release_all()
    replies = port.answered
    assert [reply[36:] for reply in replies] == [
        pattern(10, 512) + pattern(11, 512),
        pattern(12, 512) + pattern(13, 512),
    ]
    assert port.pending == 0


def test_replies_are_rendered_into_the_outbox_or_into_frames_of_their_own(
    bench: Bench,
) -> None:
    frames = [write_ext(10 + 2 * n, bytes([n]) * 1024, TAGS[n]) for n in range(3)]
    burst, _ = burst_of(bench, *frames, lba=10)
    expected = [
        ata_reply(f"41 00 00 40 {(10 + 2 * n).to_bytes(6, 'little').hex()} 0000", tag=TAGS[n])
        for n in range(3)
    ]
    assert [bytes(frame) for frame in burst.frames()] == expected
    burst.render()
    outbox = burst.port.outbox
    slots = [n * outbox.size_bytes for n in range(3)]
    assert [bytes(outbox.memory[slot : slot + 60]) for slot in slots] == expected
