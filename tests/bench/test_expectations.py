# SPDX-License-Identifier: GPL-2.0-or-later
"""expectations.py: the bounds, their words, and what keeps to them."""

from __future__ import annotations

import pytest

from tests.bench.cells import CELLS
from tests.bench.expectations import EXPECTATIONS, Expectation
from tests.bench.results import Metric, Ratio, Results
from tests.bench.samples import sample
from tests.bench.servers import EXTRA_SERVERS, FILE_PEERS, SERVERS

IOPS = Expectation("rate", "ours", FILE_PEERS, "randread-qd32", Metric.IOPS, 1.3)
CPU = Expectation("CPU", "ours", ("nbdkit-file",), "randread-qd32", Metric.SERVER_CPU, 1.0)


def test_servers_and_cells_exist() -> None:
    cells = {cell.name for cell in CELLS}
    servers = {server.key for server in (*SERVERS, *EXTRA_SERVERS)}
    for one in EXPECTATIONS:
        assert one.cell in cells
        assert {one.server, *one.peers} <= servers


def test_bounds_are_those_that_were_set() -> None:
    stated = {f"{one.title} {one.expected}" for one in EXPECTATIONS}
    assert len(stated) == len(EXPECTATIONS) == 26
    assert stated >= {
        "4k read QD32: ours / best C peer >= 1.30",
        "4k write QD32: ours / best C peer >= 1.30",
        "1M read QD8: ours / best C peer >= 1.50",
        "1M write QD8: ours / best C peer >= 1.00",
        "4k read QD1 p50 latency: ours / best C peer <= 1.15",
        "4k write QD1 p50 latency: ours / best C peer <= 1.15",
        "4k read QD32 server CPU: ours / nbdkit file <= 1.00",
        "4k write QD32 server CPU: ours / nbdkit file <= 1.00",
        "4k read QD32: ours reserved / ours >= 0.90",
        "4k read QD32: plugin embedded / nbdkit python >= 0.80",
        "4k read QD32: plugin via daemon / nbdkit python >= 0.40",
    }


@pytest.mark.parametrize(
    ("expectation", "median", "is_met"),
    [(IOPS, 1.3, True), (IOPS, 1.29, False), (CPU, 1.0, True), (CPU, 1.01, False)],
)
def test_bound_itself_is_met(expectation: Expectation, median: float, is_met: bool) -> None:
    # The whole span does not count, only the median.
    assert expectation.is_met(Ratio(3, median, 0.1, 9.0)) is is_met


def test_found_is_the_ratio_to_the_best_of_the_peers() -> None:
    results = Results(
        (
            sample("ours", "randread-qd32", 0, 3000.0),
            sample("qemu-nbd", "randread-qd32", 0, 1000.0),
            sample("nbd-server", "randread-qd32", 0, 2000.0),
        ),
        (),
    )
    assert IOPS.found(results) == Ratio(1, 1.5, 1.5, 1.5)
    assert CPU.found(results) is None
