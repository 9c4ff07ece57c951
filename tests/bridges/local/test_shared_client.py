# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies where in a client's area, and how long it looks at the record."""

from __future__ import annotations

import mmap
import threading

import pytest

from bridges.local.shared_client import LANE_AT, RECORD_AT, SharedMemory

PAGE = 4096
LENGTH = 64 * PAGE


def shared(length: int = LENGTH, machine: str = "x86_64") -> SharedMemory:
    return SharedMemory(mmap.mmap(-1, length), machine)


def end(memory: SharedMemory, length: int, status: int, *, has_response: bool = False) -> None:
    """What a server writes when the command in the lane has ended."""
    record = length.to_bytes(4, "big") + bytes((status, has_response, 0, 1))
    memory.view[RECORD_AT : RECORD_AT + 8] = record


class TestLayout:
    def test_record_lane_and_the_rest_do_not_overlap(self) -> None:
        memory = shared()
        assert (RECORD_AT, LANE_AT, memory.lane_bytes) == (8, PAGE, 31 * PAGE)
        buffer = memory.buffer(32 * PAGE)
        assert buffer is not None
        buffer[:] = b"b" * len(buffer)
        assert bytes(memory.view[: 32 * PAGE]) == bytes(32 * PAGE)
        assert memory.buffer(1) is None

    def test_least_area_has_a_lane_and_a_buffer(self) -> None:
        memory = shared(4 * PAGE)
        assert memory.lane_bytes == PAGE
        assert [memory.buffer(PAGE) is None for _ in range(3)] == [False, False, True]

    def test_buffers_of_the_area_are_known(self) -> None:
        memory = shared()
        buffer = memory.buffer(PAGE)
        assert memory.has(buffer)
        assert buffer is not None
        assert memory.has(buffer[5:10])
        assert not memory.has(memoryview(bytearray(5)))
        assert not memory.has(None)


class TestPlaces:
    def test_data_out_is_copied_and_data_in_has_a_source(self) -> None:
        memory = shared()
        placed = memory.place(memoryview(bytearray(100)), memoryview(b"w" * 200))
        assert placed is not None
        assert (placed.data_in_offset, placed.data_out_offset) == (32 * PAGE, 33 * PAGE)
        assert bytes(memory.view[33 * PAGE : 33 * PAGE + 201]) == b"w" * 200 + b"\0"
        assert placed.source is not None
        memory.view[32 * PAGE] = 7
        assert (placed.source[0], len(placed.source)) == (7, 100)

    def test_data_in_the_area_is_used_where_it_lies(self) -> None:
        memory = shared()
        first, second = memory.buffer(PAGE), memory.buffer(PAGE)
        assert first is not None
        assert second is not None
        placed = memory.place(first[10:20], second[30:])
        assert placed is not None
        assert (placed.data_in_offset, placed.data_out_offset) == (32 * PAGE + 10, 33 * PAGE + 30)
        assert (placed.source, placed.parts) == (None, ())

    def test_data_out_that_is_read_only_is_copied_within_the_area(self) -> None:
        memory = shared()
        buffer = memory.buffer(PAGE)
        assert buffer is not None
        buffer[:3] = b"abc"
        placed = memory.place(None, buffer[:3].toreadonly())
        assert placed is not None
        assert placed.data_out_offset == 33 * PAGE
        assert bytes(memory.view[33 * PAGE : 33 * PAGE + 3]) == b"abc"

    @pytest.mark.parametrize(("room", "payload"), [(33, 1), (1, 33), (16, 17)])
    def test_command_without_room_takes_nothing(self, room: int, payload: int) -> None:
        memory = shared()
        data_in, data_out = memoryview(bytearray(room * PAGE)), memoryview(bytes(payload * PAGE))
        assert memory.place(data_in, data_out) is None
        assert memory.buffer(32 * PAGE) is not None

    def test_parts_that_are_given_back_are_used_again(self) -> None:
        memory = shared()
        data = memoryview(bytes(20 * PAGE))
        for _ in range(10):
            placed = memory.place(None, data)
            assert placed is not None
            assert memory.place(None, data) is None
            memory.give_back(placed.parts)

    @pytest.mark.parametrize("nothing", [None, memoryview(b"")])
    def test_command_without_data_needs_no_room(self, nothing: memoryview | None) -> None:
        memory = shared()
        assert memory.buffer(32 * PAGE) is not None
        placed = memory.place(nothing, nothing)
        assert placed is not None
        assert placed.parts == ()


class TestRecord:
    def test_end_is_seen_with_its_length_and_status(self) -> None:
        memory = shared()
        assert memory.choose_record() == RECORD_AT
        assert memory.take_record() is None
        timer = threading.Timer(0.0, end, (memory, 4096, 8))
        timer.start()
        while not memory.look():
            pass
        timer.join()
        assert memory.take_record() == (4096, 8)

    def test_end_with_a_response_is_left_to_that(self) -> None:
        memory = shared()
        memory.choose_record()
        end(memory, 0, 2, has_response=True)
        assert memory.look()
        assert memory.take_record() is None

    def test_record_of_the_last_command_is_forgotten(self) -> None:
        memory = shared()
        memory.choose_record()
        end(memory, 1, 0)
        memory.choose_record()
        assert memory.take_record() is None
        assert not memory.look()

    def test_after_looking_in_vain_eight_commands_are_slept_for(self) -> None:
        memory = shared()
        memory.choose_record()
        assert not memory.look()
        assert [memory.choose_record() for _ in range(10)] == [0] * 8 + [RECORD_AT] * 2

    def test_record_is_not_used_where_stores_may_be_seen_in_another_order(self) -> None:
        assert shared(machine="aarch64").choose_record() == 0
