# SPDX-License-Identifier: GPL-2.0-or-later
"""expectations.py: each kind of cell has its bound."""

from __future__ import annotations

from tests.bench.aoe.cells import CELLS
from tests.bench.aoe.expectations import EXPECTATIONS
from tests.bench.results import Metric, Ratio, Results
from tests.bench.samples import sample


def test_bounds_are_those_that_were_set() -> None:
    stated = {f"{one.title} {one.expected}" for one in EXPECTATIONS}
    # Ten cells at each window, and the durable ones at the larger.
    assert len(stated) == len(EXPECTATIONS) == 22
    assert stated >= {
        "2s read W32 sequential: ours / vblade >= 1.00",
        "2s write W32 random 4k: ours / vblade >= 1.00",
        "16s write W32 random: ours / vblade >= 1.00",
        "2s read W1 random p50 latency: ours / vblade <= 1.15",
        "16s write W1 sequential p50 latency: ours / vblade <= 1.15",
        "2s durable write W32 random 4k: ours / vblade >= 3.00",
        "16s durable write W32 random: ours / vblade >= 3.00",
    }


def test_cells_without_a_bound_are_durable_ones_at_window_one() -> None:
    bound = {one.cell for one in EXPECTATIONS}
    assert {cell.name for cell in CELLS} - bound == {
        "write-2s-w1-page-durable",
        "write-16s-w1-rnd-durable",
    }


def test_found_is_the_ratio_to_vblade() -> None:
    cell = "read-2s-w32-seq"
    (one,) = [each for each in EXPECTATIONS if each.cell == cell]
    results = Results(
        (
            sample("ours", cell, 0, 3000.0),
            sample("vblade", cell, 0, 2000.0),
            sample("reflector", cell, 0, 9000.0),
        ),
        (),
    )
    assert one.metric is Metric.IOPS
    assert one.found(results) == Ratio(1, 1.5, 1.5, 1.5)
