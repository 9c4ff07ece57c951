# SPDX-License-Identifier: GPL-2.0-or-later
"""tables.py: units, entries with and without figures, and the width of each table."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from tests.bench import tables
from tests.bench.cells import CELLS
from tests.bench.client import Measurement
from tests.bench.expectations import EXPECTATIONS
from tests.bench.results import Failure, Figures, Metric, Results, Sample
from tests.bench.samples import sample
from tests.bench.servers import SERVERS

BY_NAME = {cell.name: cell for cell in CELLS}
BY_KEY = {server.key: server for server in SERVERS}
QD1, QD32, SEQUENTIAL = BY_NAME["randread-qd1"], BY_NAME["randread-qd32"], BY_NAME["read-qd8"]
FIGURES = Figures(3, iops=20512.0, bytes_per_s=2.625e9, p50_us=45.2, p99_us=88.4, server_cpu_us=8.0)
WIDTH = 100


def printed(table: Table | None) -> list[str]:
    """The lines of a table on a page as wide as it may be."""
    assert table is not None
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def wide_results() -> Results:
    """Every server in every cell, with figures as long as any machine has them for now."""
    return Results(
        tuple(
            Sample(
                server.key,
                cell.name,
                index,
                Measurement(10**6, iops, 99.99e9, p50_us=iops / 1e4, p99_us=iops / 1e4),
                server_cpu_us=iops / 1e4,
            )
            for server in SERVERS
            for cell in CELLS
            for index, iops in enumerate((9.99e6, 9.99e6 / (30 if server.is_ours else 1)))
        ),
        (),
    )


def test_random_loads_are_given_in_requests_and_sequential_ones_in_bytes() -> None:
    assert (tables.rate(QD32, FIGURES), tables.rate_unit(QD32)) == ("20.5", "kIOPS")
    assert (tables.rate(SEQUENTIAL, FIGURES), tables.rate_unit(SEQUENTIAL)) == ("2.62", "GB/s")


def test_cpu_time_is_given_per_request_or_per_gibibyte() -> None:
    assert (tables.cpu(QD32, FIGURES), tables.cpu_unit(QD32)) == ("8.0", "µs")
    # 8 us for each of 1024 requests of 1 MiB.
    assert (tables.cpu(SEQUENTIAL, FIGURES), tables.cpu_unit(SEQUENTIAL)) == ("0.01", "s/GiB")


def test_latency_is_median_and_99th_percentile_if_there_are_any() -> None:
    assert tables.latency(QD1, FIGURES) == "45.2\n(88.4)"
    without = Figures(1, 1.0, 1.0, None, None, 1.0)
    assert tables.latency(QD1, without) == "-"


def test_idle_time_is_given_in_percent_where_it_was_measured() -> None:
    assert tables.idle(QD1, FIGURES) == "-"
    assert tables.idle(QD1, replace(FIGURES, idle_share=0.426)) == "43"


def test_title_is_not_broken_by_a_narrow_table() -> None:
    title = "A title that is longer than the table below it is wide"
    lines = printed(tables.figures_table(title, [], [QD1], Results((), ()), None, tables.rate))
    assert lines[0] == title
    assert lines[-2].strip() == QD1.title


def test_figures_stand_in_their_column_and_failures_and_gaps_are_marked() -> None:
    servers = [BY_KEY["ours"], BY_KEY["qemu-nbd"], BY_KEY["nbd-server"]]
    results = Results(
        (sample("ours", QD32.name, 0, 200000.0),), (Failure("nbd-server", None, "gone"),)
    )
    lines = printed(
        tables.figures_table("t", servers, [QD32], results, tables.rate_unit, tables.rate)
    )
    assert lines[-2].split() == ["4k", "read", "QD32,", "kIOPS", "200.0", "-", "failed"]


def test_best_peer_comes_first_where_there_are_several_servers_of_files() -> None:
    assert tables.peers_of(SERVERS)[0] == ("best C peer", ("nbdkit-file", "qemu-nbd", "nbd-server"))
    chosen = [BY_KEY["ours"], BY_KEY["qemu-nbd"], BY_KEY["nbdkit-memory"]]
    assert [name for name, _ in tables.peers_of(chosen)] == ["qemu-nbd", "nbdkit memory"]


def test_ratio_has_its_span_below_it() -> None:
    servers = [BY_KEY["ours"], BY_KEY["qemu-nbd"]]
    results = Results(
        (
            *(sample("ours", QD32.name, index, iops) for index, iops in enumerate((200.0, 400.0))),
            *(sample("qemu-nbd", QD32.name, index, 100.0) for index in range(2)),
        ),
        (),
    )
    lines = printed(
        tables.ratios_table("t", servers[0], servers, [QD1, QD32], results, Metric.IOPS)
    )
    assert lines[-3].split() == ["4k", "read", "QD32", "3.00"]
    assert lines[-2].split() == ["(2.00-4.00)"]
    assert not [line for line in lines if "QD1" in line]


def test_nothing_to_compare_is_no_table() -> None:
    nothing = Results((), ())
    ours = BY_KEY["ours"]
    assert tables.ratios_table("t", ours, SERVERS, CELLS, nothing, Metric.IOPS) is None
    assert tables.expectations_table(EXPECTATIONS, nothing) is None


def test_expectation_shows_bound_and_what_was_found() -> None:
    results = Results(
        (sample("ours", QD32.name, 0, 150.0), sample("qemu-nbd", QD32.name, 0, 100.0)), ()
    )
    text = "\n".join(printed(tables.expectations_table(EXPECTATIONS, results)))
    (line,) = [line for line in text.splitlines() if "best C peer" in line]
    words = " ".join(line.split())
    assert words == "4k read QD32: ours / best C peer >= 1.30 1.50 (1.50-1.50) yes"


def test_every_table_fits_into_a_hundred_columns() -> None:
    results = wide_results()
    made: list[Table | None] = [
        tables.figures_table("t", SERVERS, CELLS, results, tables.rate_unit, tables.rate),
        tables.figures_table("t", SERVERS, CELLS, results, tables.cpu_unit, tables.cpu),
        tables.figures_table("t", SERVERS, [QD1], results, tables.cpu_unit, tables.latency),
        *(
            tables.ratios_table("t", server, SERVERS, CELLS, results, metric)
            for server in SERVERS
            if server.is_ours
            for metric in Metric
        ),
        tables.expectations_table(EXPECTATIONS, results),
    ]
    for table in made:
        # Rich would cut off what does not fit, and mark that.
        assert "…" not in "\n".join(printed(table))
