# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of bursts that are taken apart: every frame gets its own answer, and the order is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status
from tests.bridges.aoe.bench import ata_reply, by_tag, read_ext, write_ext
from tests.bridges.aoe.ringed import RingBench
from tests.scsi_backend.fakes import NOT_NOW, pattern

READ, WRITE = 0x88, 0x8A
FAILURE = (Status.CHECK_CONDITION, Sense(SenseKey.HARDWARE_ERROR, 0x4400))


@pytest.fixture
def bench() -> Iterator[RingBench]:
    bench = RingBench()
    bench.exchange(read_ext(0, 2), write_ext(0, bytes(1024)))
    bench.lun.cdbs.clear()
    yield bench
    bench.close()


def lba_and_blocks(cdb: bytes) -> tuple[int, int]:
    return int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")


def test_each_frame_is_tried_and_answered_by_itself(bench: RingBench) -> None:
    # The burst fails, then the second of its three frames.
    bench.lun.answers[READ] = [FAILURE]
    bench.vdisk.faults.errno_at[12] = 5
    replies = bench.exchange(*(read_ext(10 + 2 * n, 2, f"{n:08x}") for n in range(3)))
    assert [lba_and_blocks(cdb) for cdb in bench.lun.cdbs] == [(10, 6), (10, 2), (12, 2), (14, 2)]
    found = by_tag(replies)
    assert found[bytes(4)][36:] == pattern(10, 512) + pattern(11, 512)
    assert found[b"\0\0\0\1"] == ata_reply("40 40 02 41 0c0000000000 0000", tag="00000001")
    assert found[b"\0\0\0\2"][36:] == pattern(14, 512) + pattern(15, 512)


def test_writes_are_durable_as_the_burst_would_have_been(bench: RingBench) -> None:
    bench.lun.answers[WRITE] = [FAILURE]
    bench.exchange(*(write_ext(10 + 2 * n, b"w" * 1024) for n in range(2)))
    assert [cdb[1] for cdb in bench.lun.cdbs] == [0x08] * 3


def test_a_burst_is_pending_until_the_last_part_has_ended(bench: RingBench) -> None:
    bench.lun.answers[WRITE] = [FAILURE]
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    data = [b"a" * 1024, b"b" * 1024]
    bench.exchange(*(write_ext(10 + 2 * n, data[n], f"{n:08x}") for n in range(2)))
    assert bench.ring.taken == 0
    bench.vdisk.release()
    bench.vdisk.release()
    assert bench.ring_port.pending > 0
    bench.vdisk.release_all()
    assert len(bench.later()) == 2
    assert bench.ring_port.pending == 0
    assert bench.vdisk.blocks(10, 4) == b"".join(data)
