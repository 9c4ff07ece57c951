# SPDX-License-Identifier: GPL-2.0-or-later
"""What the reader sees: header, table of figures, table of ratios, failures; and the JSON file.

Formats only; every number comes from results.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.environment import Environment
from tests.bench.fio import Cell
from tests.bench.results import Failure, Figures, Ratio, Results
from tests.bench.servers import Server


@dataclass(frozen=True, slots=True)
class Report:
    """One finished benchmark: the rows and columns that were asked for, and what came of them."""

    environment: Environment
    servers: Sequence[Server]
    cells: Sequence[Cell]
    results: Results

    def pairs(self) -> list[tuple[Server, Server]]:
        """Each of our servers with each of its peers."""
        peers = [server for server in self.servers if not server.is_ours]
        return [(ours, peer) for ours in self.servers if ours.is_ours for peer in peers]


def rate(cell: Cell, figures: Figures) -> str:
    """Requests per second for random loads, bytes per second (10^9) for sequential ones."""
    if cell.is_sequential:
        return f"{figures.bytes_per_s / 1e9:.2f} GB/s"
    return f"{figures.iops / 1000:.1f} kIOPS"


def describe(cell: Cell, figures: Figures) -> str:
    """One entry of the table of figures; latency only where no queue of our own adds to it."""
    lines = [f"[bold]{rate(cell, figures)}[/bold]", f"{figures.server_cpu_us:.1f} µs CPU"]
    if cell.queue_depth == 1:
        lines.insert(1, f"{figures.p50_us:.0f} / {figures.p99_us:.0f} µs")
    return "\n".join(lines)


def figures_table(report: Report) -> Table:
    """Servers by cells, absolute."""
    table = Table(
        title="Medians: rate, p50 / p99 latency (QD1), server CPU time per request",
        show_lines=True,
    )
    table.add_column("server", overflow="fold", min_width=len("ours/nbdkit->daemon"))
    for cell in report.cells:
        table.add_column(cell.title, justify="right", overflow="fold")
    for server in report.servers:
        table.add_row(
            _labelled(server.name, report.results.failure(server.key, None)),
            *(_entry(report.results, server, cell) for cell in report.cells),
        )
    return table


def _labelled(text: str, failure: Failure | None) -> str:
    """The text, and below it what went wrong."""
    return text if failure is None else f"{text}\n[red]{escape(failure.reason)}[/red]"


def _entry(results: Results, server: Server, cell: Cell) -> str:
    figures = results.figures(server.key, cell.name)
    text = "-" if figures is None else describe(cell, figures)
    return _labelled(text, results.failure(server.key, cell.name))


def ratios_table(report: Report) -> Table:
    """Each of ours over each peer by cells; above 1 ours is faster."""
    table = Table(title="IOPS of ours / IOPS of the peer: median of the rounds (lowest to highest)")
    table.add_column("ours")
    table.add_column("peer")
    for cell in report.cells:
        table.add_column(cell.title, justify="right")
    above = None
    for ours, peer in report.pairs():
        if above not in (None, ours):
            table.add_section()
        above = ours
        ratios = (report.results.ratio(ours.key, peer.key, cell.name) for cell in report.cells)
        table.add_row(ours.name, peer.name, *map(_ratio_entry, ratios))
    return table


def _ratio_entry(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    style = "green" if ratio.median >= 1 else "red"
    return f"[{style}]{ratio.median:.2f}[/{style}] ({ratio.low:.2f} to {ratio.high:.2f})"


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
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_failure(console: Console, failure: Failure) -> None:
    """One line, as long as the reason needs."""
    where = f"{failure.server} {failure.cell or ''}".strip()
    console.print(f"[red]failed:[/red] {where}: {escape(failure.reason)}", soft_wrap=True)


def print_report(console: Console, report: Report) -> None:
    """Both tables, then every failure in full."""
    console.print(figures_table(report))
    if report.pairs():
        console.print(ratios_table(report))
    for failure in report.results.failures:
        print_failure(console, failure)


def to_json(report: Report) -> str:
    """The report for programs: environment, each sample, medians, ratios and failures."""
    results = report.results
    document = {
        "environment": asdict(report.environment),
        "cells": [asdict(cell) for cell in report.cells],
        "samples": [asdict(sample) for sample in results.samples],
        "medians": [
            {"server": server.key, "cell": cell.name, **asdict(figures)}
            for server in report.servers
            for cell in report.cells
            if (figures := results.figures(server.key, cell.name))
        ],
        "ratios": [
            {"server": ours.key, "peer": peer.key, "cell": cell.name, **asdict(ratio)}
            for ours, peer in report.pairs()
            for cell in report.cells
            if (ratio := results.ratio(ours.key, peer.key, cell.name))
        ],
        "failures": [asdict(failure) for failure in results.failures],
    }
    return json.dumps(document, indent=2) + "\n"
