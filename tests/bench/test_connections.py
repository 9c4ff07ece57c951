# SPDX-License-Identifier: GPL-2.0-or-later
"""connections.py: the order of its rounds, its load, and its report."""

from __future__ import annotations

from tests.bench.connections import ALONE, CROWDED, Outcome, Plan, lines, order
from tests.bench.crowd import Memory
from tests.bench.fio import command
from tests.bench.results import Ratio, Results
from tests.bench.samples import sample

PLAN = Plan(idle=1000, active=8, queue_depth=4, runs=2)
RESULTS = Results(
    (
        sample("warm-up", "active", 0, 1.0),
        sample(ALONE, "active", 0, 100_000.0),
        sample(CROWDED, "active", 0, 95_000.0),
        sample(CROWDED, "active", 1, 40_000.0),
        sample(ALONE, "active", 1, 50_000.0),
    ),
    (),
)


def test_each_of_both_comes_first_in_every_other_round() -> None:
    assert list(order(2)) == [(0, ALONE), (0, CROWDED), (1, CROWDED), (1, ALONE)]


def test_active_connections_are_as_many_jobs() -> None:
    line = command(PLAN.cell, "nbd+unix:///", 1 << 20, 1.0)
    assert {"--numjobs=8", "--iodepth=4", "--bs=4096", "--rw=randread"} <= set(line)


def test_ratio_is_taken_round_by_round() -> None:
    outcome = Outcome(RESULTS, Memory(0, 0), ())
    assert outcome.ratio() == Ratio(2, (0.95 + 0.8) / 2, 0.8, 0.95)


def test_report_gives_errors_memory_rates_and_ratio() -> None:
    assert lines(PLAN, Outcome(RESULTS, Memory(20480, 10240), ())) == [
        "errors: 0 (expected 0)",
        "memory of the daemon per idle connection: RSS 20.0 KiB, PSS 10.0 KiB",
        "4k read 8 x QD4 without idle ones: 75.0 kIOPS, p50 / p99 15 / 30 µs, 1.5 µs CPU / request",
        "4k read 8 x QD4 beside 1000 idle ones: 67.5 kIOPS, p50 / p99 18 / 36 µs, "
        "1.8 µs CPU / request",
        "beside / without: 0.88 (0.80-0.95), expected >= 0.90",
    ]


def test_report_without_samples_shows_the_first_errors_and_counts_the_rest() -> None:
    errors = tuple(f"handshake {index}: refused" for index in range(12))
    shown = lines(PLAN, Outcome(Results((), ()), Memory(0, 0), errors))
    assert shown[0] == "errors: 12 (expected 0)"
    assert shown[2] == "error: handshake 0: refused"
    assert shown[-2:] == ["error: handshake 9: refused", "and 2 errors more"]
