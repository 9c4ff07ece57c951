# SPDX-License-Identifier: GPL-2.0-or-later
"""results.py: medians by figure, and ratios that are taken within a round."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.cells import CELLS
from tests.bench.client import Measurement
from tests.bench.results import Failure, Metric, Ratio, Results, Sample
from tests.bench.samples import sample


def results_of(server_iops: list[float], peer_iops: list[float]) -> Results:
    """Rounds of two servers, "ours" and "peer", in the cell "read"."""
    ours = [sample("ours", "read", index, iops) for index, iops in enumerate(server_iops)]
    peer = [sample("peer", "read", index, iops) for index, iops in enumerate(peer_iops)]
    return Results((*ours, *peer), ())


def test_figures_are_medians_over_the_rounds() -> None:
    figures = results_of([1000.0, 5000.0, 2000.0], []).figures("ours", "read")
    assert figures is not None
    assert figures.rounds == 3
    assert figures.iops == 2000.0
    assert figures.bytes_per_s == 2000.0 * 4096
    assert (figures.p50_us, figures.p99_us) == (500.0, 1000.0)
    assert figures.server_cpu_us == 50.0


def test_figures_of_other_cells_and_servers_are_left_out() -> None:
    results = Results(
        (
            sample("ours", "read", 0, 100.0),
            sample("ours", "write", 0, 900.0),
            sample("peer", "read", 0, 800.0),
        ),
        (),
    )
    figures = results.figures("ours", "read")
    assert figures is not None
    assert (figures.rounds, figures.iops) == (1, 100.0)


def test_no_samples_give_no_figures() -> None:
    assert results_of([], [1.0]).figures("ours", "read") is None


def test_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians() -> None:
    # The machine was slow in round 0 and fast in round 2; the medians would give 2000 / 1000.
    ratio = results_of([300.0, 2000.0, 9000.0], [100.0, 4000.0, 1000.0]).ratio(
        "ours", ["peer"], "read"
    )
    assert ratio == Ratio(rounds=3, median=3.0, low=0.5, high=9.0)


def test_ratio_skips_rounds_in_which_one_server_has_no_sample() -> None:
    results = Results(
        (
            sample("ours", "read", 0, 100.0),
            sample("ours", "read", 1, 600.0),
            sample("peer", "read", 1, 200.0),
            sample("peer", "read", 2, 900.0),
        ),
        (),
    )
    assert results.ratio("ours", ["peer"], "read") == Ratio(1, 3.0, 3.0, 3.0)


@pytest.mark.parametrize(("ours", "peer"), [([], [1.0]), ([1.0], []), ([], [])])
def test_no_common_round_gives_no_ratio(ours: list[float], peer: list[float]) -> None:
    assert results_of(ours, peer).ratio("ours", ["peer"], "read") is None


def test_best_peer_is_found_in_each_round_anew() -> None:
    results = Results(
        (
            *(
                sample("ours", "read", index, iops)
                for index, iops in enumerate((600.0, 800.0, 5.0))
            ),
            *(sample("one", "read", index, iops) for index, iops in enumerate((200.0, 400.0))),
            *(sample("two", "read", index, iops) for index, iops in enumerate((300.0, 100.0))),
        ),
        (),
    )
    assert results.ratio("ours", ["one", "two"], "read") == Ratio(2, 2.0, 2.0, 2.0)


@pytest.mark.parametrize(("metric", "expected"), [(Metric.P50, 0.5), (Metric.SERVER_CPU, 0.5)])
def test_best_latency_and_cpu_time_are_the_lowest(metric: Metric, expected: float) -> None:
    # Both fall as IOPS rise (samples.py): ours are half of those of "fast".
    results = Results(
        (
            sample("ours", "read", 0, 4000.0),
            sample("fast", "read", 0, 2000.0),
            sample("slow", "read", 0, 1000.0),
        ),
        (),
    )
    ratio = results.ratio("ours", ["slow", "fast"], "read", metric)
    assert ratio is not None
    assert ratio.median == pytest.approx(expected)


def test_cpu_time_below_the_clock_gives_no_ratio() -> None:
    peer = replace(sample("peer", "read", 0, 1000.0), server_cpu_us=0.0)
    results = Results((sample("ours", "read", 0, 1000.0), peer), ())
    assert results.ratio("ours", ["peer"], "read", Metric.SERVER_CPU) is None


def test_client_without_latencies_gives_rates_only() -> None:
    copied = Measurement(1000, 1000.0, 1e9, None, None)
    results = Results((Sample("ours", "read", 0, copied, 7.0),), ())
    figures = results.figures("ours", "read")
    assert figures is not None
    assert (figures.iops, figures.p50_us, figures.p99_us) == (1000.0, None, None)
    assert results.ratio("ours", ["ours"], "read", Metric.P50) is None


def test_cpu_time_for_a_gibibyte_counts_its_requests() -> None:
    figures = results_of([1000.0], []).figures("ours", "read")
    assert figures is not None
    # 100 us for each of 1024 requests of 1 MiB.
    assert figures.server_cpu_s_per_gib(1 << 20) == pytest.approx(0.1024)


def test_failures_of_a_cell_of_the_server_and_with_tls_are_told_apart() -> None:
    first, second = CELLS[:2]
    tls = next(cell for cell in CELLS if cell.is_tls)
    of_cell = Failure("ours", first.name, "EIO")
    of_server = Failure("peer", None, "did not start")
    of_tls = Failure("other", None, "no certificates", is_tls=True)
    results = Results((), (of_cell, of_server, of_tls))
    assert results.failure("ours", first) == of_cell
    assert results.failure("ours", second) is None
    assert results.failure("peer", first) == results.failure("peer", second) == of_server
    assert results.failure("peer", tls) is None
    assert results.failure("other", tls) == of_tls
    assert results.failure("other", first) is None
