# SPDX-License-Identifier: GPL-2.0-or-later
"""results.py: medians by figure, and ratios that are taken within a round."""

from __future__ import annotations

import pytest

from tests.bench.results import Failure, Ratio, Results
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
        "ours", "peer", "read"
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
    assert results.ratio("ours", "peer", "read") == Ratio(1, 3.0, 3.0, 3.0)


@pytest.mark.parametrize(("ours", "peer"), [([], [1.0]), ([1.0], []), ([], [])])
def test_no_common_round_gives_no_ratio(ours: list[float], peer: list[float]) -> None:
    assert results_of(ours, peer).ratio("ours", "peer", "read") is None


def test_failures_of_a_cell_and_of_the_server_are_told_apart() -> None:
    of_cell = Failure("ours", "read", "EIO")
    of_server = Failure("peer", None, "did not start")
    results = Results((), (of_cell, of_server))
    assert results.failure("ours", "read") == of_cell
    assert results.failure("ours", None) is None
    assert results.failure("peer", None) == of_server
    assert results.failure("peer", "read") is None
