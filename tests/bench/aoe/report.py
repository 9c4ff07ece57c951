# SPDX-License-Identifier: GPL-2.0-or-later
"""What the reader of the AoE benchmark sees: circumstances, tables, failures.

Formats only: tests/bench/tables.py makes the tables, results.py the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import tables
from tests.bench.aoe.expectations import RATE_GOAL
from tests.bench.aoe.servers import SERVERS
from tests.bench.cells import AnyCell
from tests.bench.environment import file_system
from tests.bench.report import Report, print_tables
from tests.bench.results import Metric

RATE_TITLE = "Rate in thousands of frames per second (medians of the rounds)"
CPU_TITLE = "Server CPU time per frame in microseconds"
LATENCY_TITLE = "Latency at window 1 in microseconds, median of the frames (and 99th percentile)"
IDLE_TITLE = "Time in which the generator waited for the server, in percent"
RATIO_TITLE = "ours / peer: frames per second, median of the rounds (lowest-highest)"
CPU_RATIO_TITLE = "ours / peer: server CPU time per frame, below 1 ours needs less"
LATENCY_RATIO_TITLE = "ours / peer: p50 latency, below 1 ours is quicker"
GOAL = f"The goal at window 32 is {RATE_GOAL:.1f} where storage is not waited for."
# Of the generator's CPU, for whatever else runs on a quiet machine.
TOLERATED_SHARE = 0.05
# With less idle time than this, a quicker generator would get more out of the server.
SCARCE_SHARE = 0.15


def circumstances(server_cpu: int, generator_cpu: int, disk_directory: Path) -> list[str]:
    """What a figure of this benchmark is worthless without, besides the common header."""
    if server_cpu == generator_cpu:
        cpus = "server and generator share one CPU: the figures mean little"
    else:
        cpus = f"server on CPU {server_cpu}; generator, which never sleeps, on CPU {generator_cpu}"
    return [cpus, f"durable: in {disk_directory} ({file_system(disk_directory)})"]


def _tables(report: Report) -> Iterator[Table | None]:
    servers, cells, results = report.servers, report.cells, report.results
    serial = [cell for cell in cells if cell.is_serial]

    def figures(title: str, of: Sequence[AnyCell], describe: tables.Describe) -> Table | None:
        return tables.figures_table(title, servers, of, results, None, describe) if of else None

    yield figures(RATE_TITLE, cells, tables.rate)
    yield figures(CPU_TITLE, cells, tables.cpu)
    yield figures(LATENCY_TITLE, serial, tables.latency)
    yield figures(IDLE_TITLE, cells, tables.idle)
    for ours in (server for server in servers if server.is_ours):
        for title, of, metric in (
            (RATIO_TITLE, cells, Metric.IOPS),
            (CPU_RATIO_TITLE, cells, Metric.SERVER_CPU),
            (LATENCY_RATIO_TITLE, serial, Metric.P50),
        ):
            yield tables.ratios_table(title, ours, servers, of, results, metric)
    yield tables.expectations_table(report.expectations, results)


def remarks(report: Report) -> Iterator[str]:
    """Whether the generator was the bottleneck, and what the bounds do not say."""
    idle: list[tuple[float, str]] = []
    preempted = [0.0]
    ceilings: list[tuple[float, str]] = []
    for server in SERVERS:
        for cell in report.cells:
            figures = report.results.figures(server.key, cell.name)
            if figures is None:
                continue
            preempted.append(figures.preempted_share or 0.0)
            if not server.stores:
                ceilings.append((figures.iops, cell.title))
            elif figures.idle_share is not None:
                idle.append((figures.idle_share, f"{cell.title}, {server.name}"))
    if idle:
        share, where = min(idle)
        yield f"The generator waited for {share:.0%} of its time or more (least: {where})."
        if share < SCARCE_SHARE:
            yield "Where it waited for little, a server could do more: see its CPU time per frame."
    if max(preempted) > TOLERATED_SHARE:
        yield (
            f"Others had the generator's CPU for up to {max(preempted):.0%} of the time: figures "
            "mean less, and time waited is counted too low."
        )
    if ceilings:
        rate, where = max(ceilings)
        yield f"Without a disk it gets {rate / 1e3:.1f} thousand replies per second ({where})."
    if report.results.samples:
        yield GOAL


def print_report(console: Console, report: Report) -> None:
    """All tables, then every failure in full."""
    print_tables(console, _tables(report), report.results.failures)
    for line in remarks(report):
        console.print(line, highlight=False, markup=False)
