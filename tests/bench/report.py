# SPDX-License-Identifier: GPL-2.0-or-later
"""What the reader sees: header, tables, failures; and the JSON file.

The tables are tables.py's, every number comes from results.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench import tables
from tests.bench.cells import AnyCell
from tests.bench.environment import Environment
from tests.bench.expectations import EXPECTATIONS, Expectation
from tests.bench.results import Failure, Metric, Results
from tests.bench.servers import AnyServer

RATE_TITLE = "Rate (4k and 64k at random, 1M in sequence; medians of the rounds)"
CPU_TITLE = "Server CPU time per request, or per GiB"
LATENCY_TITLE = "Latency, median of the requests (and 99th percentile)"
RATIO_TITLE = "{} / peer: requests per second, median of the rounds (lowest-highest)"
LATENCY_RATIO_TITLE = "{} / peer: p50 latency, below 1 ours is quicker"


@dataclass(frozen=True, slots=True)
class Report:
    """One finished benchmark: the servers and cells asked for, and what came of them."""

    environment: Environment
    servers: Sequence[AnyServer]
    cells: Sequence[AnyCell]
    results: Results
    expectations: Sequence[Expectation] = EXPECTATIONS


def _tables(report: Report) -> Iterator[Table | None]:
    """Figures, ratios, expectations, in this order; None for those that would be empty."""
    servers, cells, results = report.servers, report.cells, report.results
    serial = [cell for cell in cells if cell.is_serial]

    def figures(
        title: str, of: Sequence[AnyCell], unit: Callable[[AnyCell], str], describe: tables.Describe
    ) -> Table:
        return tables.figures_table(title, servers, of, results, unit, describe)

    yield figures(RATE_TITLE, cells, tables.rate_unit, tables.rate)
    yield figures(CPU_TITLE, cells, tables.cpu_unit, tables.cpu)
    if serial:
        yield figures(LATENCY_TITLE, serial, lambda cell: "µs", tables.latency)
    for ours in (server for server in servers if server.is_ours):
        for title, of, metric in (
            (RATIO_TITLE, cells, Metric.IOPS),
            (LATENCY_RATIO_TITLE, serial, Metric.P50),
        ):
            name = title.format(ours.name)
            yield tables.ratios_table(name, ours, servers, of, results, metric)
    yield tables.expectations_table(report.expectations, results)


def print_header(console: Console, environment: Environment) -> None:
    """The circumstances, before the first figure."""
    versions = ", ".join(environment.versions)
    lines = (
        f"Linux {environment.kernel}, {environment.cpu_count} x {environment.cpu}",
        versions,
        f"{environment.size_mib} MiB in {environment.directory} ({environment.file_system}), "
        f"{environment.runs} runs x {environment.seconds:g} s per cell and server",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False)


def print_failure(console: Console, failure: Failure) -> None:
    """One line, as long as the reason needs."""
    where = " ".join((failure.server, failure.cell or ("with TLS" if failure.is_tls else "")))
    console.print(f"[red]failed:[/red] {where.strip()}: {escape(failure.reason)}", soft_wrap=True)


def print_report(console: Console, report: Report) -> None:
    """All tables, then every failure in full."""
    print_tables(console, _tables(report), report.results.failures)


def print_tables(
    console: Console, made: Iterable[Table | None], failures: Iterable[Failure]
) -> None:
    """The tables that there are, then every failure in full."""
    for table in made:
        if table is not None:
            console.print(table)
    for failure in failures:
        print_failure(console, failure)


def _medians(report: Report) -> Iterator[dict[str, object]]:
    for server in report.servers:
        for cell in report.cells:
            figures = report.results.figures(server.key, cell.name)
            if figures is not None:
                per_gib = figures.server_cpu_s_per_gib(cell.block_bytes)
                yield {
                    "server": server.key,
                    "cell": cell.name,
                    **asdict(figures),
                    "server_cpu_s_per_gib": per_gib,
                }


def _ratios(report: Report) -> Iterator[dict[str, object]]:
    for ours in (server for server in report.servers if server.is_ours):
        for _, peers in tables.peers_of(report.servers):
            for cell in report.cells:
                for metric in Metric:
                    ratio = report.results.ratio(ours.key, peers, cell.name, metric)
                    if ratio is not None:
                        yield {
                            "server": ours.key,
                            "best_of": list(peers),
                            "cell": cell.name,
                            "metric": metric.value,
                            **asdict(ratio),
                        }


def _expectations(report: Report) -> Iterator[dict[str, object]]:
    for one in report.expectations:
        ratio = one.found(report.results)
        if ratio is not None:
            yield {
                "title": one.title,
                "expected": one.expected,
                "found": ratio.median,
                "is_met": one.is_met(ratio),
            }


def _facts(cell: AnyCell) -> dict[str, object]:
    fields: dict[str, object] = {}
    if is_dataclass(cell) and not isinstance(cell, type):
        fields = asdict(cell)
    return {"name": cell.name, "title": cell.title, "block_bytes": cell.block_bytes, **fields}


def to_json(report: Report) -> str:
    """The report for programs: environment, each sample, medians, ratios and failures."""
    results = report.results
    document = {
        "environment": asdict(report.environment),
        "cells": [_facts(cell) for cell in report.cells],
        "samples": [asdict(sample) for sample in results.samples],
        "medians": list(_medians(report)),
        "ratios": list(_ratios(report)),
        "expectations": list(_expectations(report)),
        "failures": [asdict(failure) for failure in results.failures],
    }
    return json.dumps(document, indent=2) + "\n"
