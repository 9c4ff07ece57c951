# SPDX-License-Identifier: GPL-2.0-or-later
"""cells.py: what the table says of each cell."""

from __future__ import annotations

from tests.bench.cells import CELLS

BY_NAME = {cell.name: cell for cell in CELLS}


def test_names_and_titles_are_unique() -> None:
    assert len(BY_NAME) == len(CELLS)
    assert len({cell.title for cell in CELLS}) == len(CELLS)


def test_every_load_is_there_for_reads_and_for_writes() -> None:
    def loads(direction: str) -> list[tuple[int, int, int, bool]]:
        return [
            (cell.block_bytes, cell.queue_depth, cell.connections, cell.is_tls)
            for cell in CELLS
            if cell.direction == direction
        ]

    assert loads("read") == [
        (4096, 1, 1, False),
        (4096, 32, 1, False),
        (4096, 8, 4, False),
        (65536, 16, 1, False),
        (1048576, 8, 1, False),
        (1048576, 2, 4, False),
        (1048576, 8, 1, True),
    ]
    assert loads("write") == loads("read")


def test_only_one_mebibyte_cells_are_sequential() -> None:
    assert {cell.block_bytes for cell in CELLS if cell.is_sequential} == {1048576}
    assert {cell.block_bytes for cell in CELLS if not cell.is_sequential} == {4096, 65536}


def test_serial_cells_have_one_request_at_a_time() -> None:
    assert {cell.name for cell in CELLS if cell.is_serial} == {"randread-qd1", "randwrite-qd1"}


def test_titles_say_direction_length_and_connections() -> None:
    lengths = {4096: "4k", 65536: "64k", 1048576: "1M"}
    for cell in CELLS:
        assert cell.title.startswith(f"{lengths[cell.block_bytes]} {cell.direction} ")
        assert f"QD{cell.queue_depth}" in cell.title
        assert (f"{cell.connections} x " in cell.title) == (cell.connections > 1)
        assert ("TLS" in cell.title) == cell.is_tls
