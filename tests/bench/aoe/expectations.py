# SPDX-License-Identifier: GPL-2.0-or-later
"""What the figures over AoE are hoped to be: bounds on ratios to vblade, by kind of cell.

Information for the reader, never an exit status: neighbours on the machine move any figure.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.aoe.cells import CELLS, AoeCell
from tests.bench.expectations import Expectation, title_of
from tests.bench.results import Metric

RATE_FLOOR = 1.0
RATE_GOAL = 1.3
DURABLE_FLOOR = 3.0
LATENCY_CEILING = 1.15


def _bounds(cell: AoeCell) -> Iterator[tuple[Metric, float]]:
    if cell.is_serial:
        if not cell.is_durable:
            yield Metric.P50, LATENCY_CEILING
    elif cell.is_durable:
        yield Metric.IOPS, DURABLE_FLOOR
    else:
        yield Metric.IOPS, RATE_FLOOR


EXPECTATIONS = tuple(
    Expectation(
        title_of(cell.title, metric, "ours", "vblade"),
        *("ours", ("vblade",), cell.name, metric, bound),
    )
    for cell in CELLS
    for metric, bound in _bounds(cell)
)
