# SPDX-License-Identifier: GPL-2.0-or-later
"""First fit in a range of offsets: nothing is given twice, and what comes back is whole again."""

from __future__ import annotations

import random

import pytest

from bridges.local.allocator import Allocator

PAGE = 4096


def test_lowest_room_is_given_in_whole_pages() -> None:
    allocator = Allocator(PAGE, 11 * PAGE)
    assert [allocator.take(length) for length in (1, PAGE, PAGE + 1, 0)] == [
        PAGE,
        2 * PAGE,
        3 * PAGE,
        5 * PAGE,
    ]


def test_what_does_not_fit_is_not_given() -> None:
    allocator = Allocator(0, 4 * PAGE)
    assert allocator.take(4 * PAGE + 1) is None
    assert allocator.take(4 * PAGE) == 0
    assert allocator.take(1) is None


@pytest.mark.parametrize("end", [0, 8192])
def test_empty_range_gives_nothing(end: int) -> None:
    assert Allocator(8192, end).take(1) is None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_parts_that_come_back_in_any_order_are_one_again(order: tuple[int, ...]) -> None:
    allocator = Allocator(0, 3 * PAGE)
    parts = [allocator.take(100) for _ in range(3)]
    for index in order:
        part = parts[index]
        assert part is not None
        allocator.give(part, 100)
    assert allocator.take(3 * PAGE) == 0


def test_gap_between_parts_in_use_is_filled() -> None:
    allocator = Allocator(0, 4 * PAGE)
    for _ in range(4):
        allocator.take(PAGE)
    allocator.give(PAGE, PAGE)
    assert allocator.take(PAGE + 1) is None
    assert allocator.take(PAGE) == PAGE


def test_parts_in_use_never_overlap() -> None:
    source = random.Random(1)
    allocator = Allocator(PAGE, 64 * PAGE)
    owner: dict[int, int] = {}
    held: list[tuple[int, int]] = []
    refused = 0
    for number in range(20_000):
        if held and source.random() < 0.5:
            offset, length = held.pop(source.randrange(len(held)))
            for page in range(offset // PAGE, -(-(offset + length) // PAGE)):
                del owner[page]
            allocator.give(offset, length)
            continue
        length = source.randint(1, 12 * PAGE)
        taken = allocator.take(length)
        if taken is None:
            refused += 1
            continue
        assert PAGE <= taken <= 64 * PAGE - length
        for page in range(taken // PAGE, -(-(taken + length) // PAGE)):
            assert page not in owner
            owner[page] = number
        held.append((taken, length))
    assert refused
    for offset, length in held:
        allocator.give(offset, length)
    assert allocator.take(63 * PAGE) == PAGE
