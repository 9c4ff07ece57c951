# SPDX-License-Identifier: GPL-2.0-or-later
"""cells.py: which cells there are, their names, and where their frames go."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from tests.bench.aoe.cells import CELLS, MTU_OF, AoeCell, Pattern

DISK_SECTORS = 1 << 11


def first(cell: AoeCell, count: int) -> list[int]:
    return list(islice(cell.lbas(DISK_SECTORS, random.Random(7)), count))


def test_cells_are_these() -> None:
    names = [cell.name for cell in CELLS]
    assert len(set(names)) == len(names) == 24
    for sectors, patterns in ((2, ("seq", "page", "rnd")), (16, ("seq", "rnd"))):
        for direction in ("read", "write"):
            for window in (1, 32):
                for pattern in patterns:
                    assert f"{direction}-{sectors}s-w{window}-{pattern}" in names
    assert [name for name in names if name.endswith("-durable")] == [
        "write-2s-w1-page-durable",
        "write-2s-w32-page-durable",
        "write-16s-w1-rnd-durable",
        "write-16s-w32-rnd-durable",
    ]


def test_titles_are_unique() -> None:
    assert len({cell.title for cell in CELLS}) == len(CELLS)
    durable = AoeCell("write", 2, 32, Pattern.PAGES, is_durable=True)
    assert durable.title == "2s durable write W32 random 4k"


def test_default_run_ends_within_eight_minutes() -> None:
    # Five rounds of 0.8 s, and a quarter to prepare each run; durable cells have two servers.
    runs = 5 * sum(2 if cell.is_durable else 3 for cell in CELLS)
    assert runs * 1.05 < 480


@pytest.mark.parametrize(("sectors", "mtu"), [(2, 1500), (16, 9000)])
def test_frames_fit_into_the_mtu(sectors: int, mtu: int) -> None:
    assert MTU_OF[sectors] == mtu
    # AoE header without Ethernet's, ATA argument, data.
    assert 10 + 12 + sectors * 512 <= mtu


def test_sequential_frames_follow_one_another_and_begin_anew_at_the_end() -> None:
    found = first(AoeCell("read", 16, 1, Pattern.SEQUENTIAL), DISK_SECTORS // 16 + 2)
    assert found == [*range(0, DISK_SECTORS, 16), 0, 16]


def test_pages_are_four_adjacent_frames() -> None:
    found = first(AoeCell("read", 2, 1, Pattern.PAGES), 400)
    pages = [found[index : index + 4] for index in range(0, 400, 4)]
    for page in pages:
        assert page[0] % 8 == 0
        assert page == [page[0] + offset for offset in (0, 2, 4, 6)]
    assert len({page[0] for page in pages}) > 50


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_frames_are_aligned_and_end_on_the_disk(cell: AoeCell) -> None:
    for lba in first(cell, 3000):
        assert lba % cell.sectors == 0
        assert 0 <= lba <= DISK_SECTORS - cell.sectors


def test_random_frames_reach_both_ends_of_the_disk() -> None:
    found = set(first(AoeCell("read", 2, 1, Pattern.RANDOM), 20 * DISK_SECTORS))
    assert {0, DISK_SECTORS - 2} <= found


def test_window_of_one_is_serial_only() -> None:
    assert {cell.window for cell in CELLS if cell.is_serial} == {1}
    assert {cell.window for cell in CELLS if not cell.is_serial} == {32}
