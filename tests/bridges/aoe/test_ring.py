# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of rows of slots: their layout, and who owns them."""

from __future__ import annotations

import mmap
import struct

import pytest

from bridges.aoe.ring import RX_FRAME_OFFSET, RxRing, Slots, ring_request, slot_bytes
from tests.bridges.aoe.ringed import MemoryRing


@pytest.mark.parametrize(
    ("content", "size"), [(1, 128), (127, 128), (128, 256), (1586, 1664), (9086, 9088)]
)
def test_slots_hold_their_content_and_are_no_power_of_two_when_large(
    content: int, size: int
) -> None:
    assert slot_bytes(content) == size


@pytest.mark.parametrize(
    ("frame_bytes", "count", "block", "blocks", "size"),
    [(1514, 2048, 53248, 64, 1664), (9014, 896, 290816, 28, 9088), (562, 64, 20480, 2, 640)],
)
def test_a_ring_is_asked_for_in_blocks_of_whole_pages_and_whole_slots(
    frame_bytes: int, count: int, block: int, blocks: int, size: int
) -> None:
    assert block % 4096 == 0
    assert ring_request(frame_bytes, count) == struct.pack("IIII", block, blocks, size, count)


def test_frames_begin_where_a_column_of_64_bits_can() -> None:
    assert RX_FRAME_OFFSET % 8 == 0


def ring_of(slots: int) -> tuple[MemoryRing, RxRing]:
    kernel = MemoryRing(1514, slots)
    return kernel, RxRing(kernel.memory, kernel.size_bytes)


def test_frames_are_found_in_their_order_up_to_the_end_of_the_ring() -> None:
    kernel, ring = ring_of(8)
    assert not ring.has_frame
    assert ring.ready(32) == 0
    for number in range(6):
        kernel.deliver(bytes([number]) * 60)
    assert ring.has_frame
    assert ring.ready(4) == 4
    assert ring.ready(32) == 6
    assert [bytes(ring.frame(slot)) for slot in range(6)] == [bytes([n]) * 60 for n in range(6)]
    ring.advance(6)
    ring.release(0, 6)
    for number in range(5):
        kernel.deliver(bytes([number]) * 60)
    # The first two of them are at the end.
    assert (ring.next_slot, ring.ready(32)) == (6, 2)
    ring.advance(2)
    assert (ring.next_slot, ring.ready(32)) == (0, 3)
    assert kernel.lost == 0


def test_slots_that_are_not_given_back_are_not_filled() -> None:
    kernel, ring = ring_of(4)
    for number in range(6):
        kernel.deliver(bytes([number]) * 60)
    assert (ring.ready(8), kernel.lost) == (4, 2)
    ring.advance(4)
    ring.release(0, 4)
    assert ring.ready(8) == 0
    kernel.deliver(b"z" * 60)
    assert bytes(ring.frame(0)) == b"z" * 60


def test_a_closed_ring_lets_go_of_its_memory() -> None:
    memory = mmap.mmap(-1, 4096)
    ring = RxRing(memoryview(memory), 512)
    ring.views(36, 100)
    with pytest.raises(BufferError):
        memory.close()
    ring.close()
    memory.close()
    assert memory.closed


def test_a_frame_that_is_longer_than_its_slot_is_cut_off() -> None:
    kernel, ring = ring_of(4)
    kernel.deliver(bytes(3000))
    assert len(ring.frame(0)) == kernel.size_bytes - RX_FRAME_OFFSET


def test_columns_and_views_are_parts_of_the_slots() -> None:
    memory = memoryview(bytearray(4 * 128))
    slots = Slots(memory, 128, 8)
    slots.column(12)[1:4] = memoryview(struct.pack("3I", 7, 8, 9)).cast("I")
    assert slots.column(12).tolist() == [0, 7, 8, 9]
    assert slots.wide_column(8).tolist() == [number << 32 for number in (0, 7, 8, 9)]
    assert [struct.unpack_from("I", memory, 128 * slot + 12)[0] for slot in range(4)] == [
        0,
        7,
        8,
        9,
    ]
    views = slots.views(4, 2)
    assert [bytes(view) for view in views] == [
        memory[128 * n + 12 : 128 * n + 14] for n in range(4)
    ]
    assert len(slots.views(0, 5)[3]) == 5
    # Two lengths in turn are not made again and again.
    assert slots.views(4, 2) is views
