# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of a report, each within 100 columns: cells by servers, cells by peers, bounds.

Formats only; every number comes from results.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.table import Table

from tests.bench.cells import AnyCell
from tests.bench.expectations import BEST_PEER, Expectation
from tests.bench.results import Figures, Metric, Ratio, Results
from tests.bench.servers import FILE_PEERS, AnyServer

NONE = "-"
FAILED = "[red]failed[/red]"

# One entry of a table of figures.
Describe = Callable[[AnyCell, Figures], str]
# A name, and the keys of the servers whose best is meant.
Peers = tuple[str, tuple[str, ...]]


def _table(title: str, first: str, others: Iterable[str]) -> Table:
    """Headings are broken at each blank, so that columns are no wider than their figures."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        # Else a title is broken that is longer than its table is wide.
        min_width=len(title),
        box=box.SIMPLE,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("\n".join(first.split()), vertical="top", no_wrap=True)
    for name in others:
        table.add_column("\n".join(name.split()), justify="right", no_wrap=True)
    return table


def rate(cell: AnyCell, figures: Figures) -> str:
    """Thousands of requests per second for random loads, 10^9 bytes for sequential ones."""
    return f"{figures.bytes_per_s / 1e9:.2f}" if cell.is_sequential else f"{figures.iops / 1e3:.1f}"


def rate_unit(cell: AnyCell) -> str:
    return "GB/s" if cell.is_sequential else "kIOPS"


def cpu(cell: AnyCell, figures: Figures) -> str:
    """Microseconds for each small request, seconds for each GiB of large ones."""
    if cell.is_sequential:
        return f"{figures.server_cpu_s_per_gib(cell.block_bytes):.2f}"
    return f"{figures.server_cpu_us:.1f}"


def cpu_unit(cell: AnyCell) -> str:
    return "s/GiB" if cell.is_sequential else "µs"


def latency(cell: AnyCell, figures: Figures) -> str:
    """Median and 99th percentile in microseconds."""
    if figures.p50_us is None or figures.p99_us is None:
        return NONE
    return f"{figures.p50_us:.1f}\n({figures.p99_us:.1f})"


def idle(cell: AnyCell, figures: Figures) -> str:
    """The part of its time in which the client had nothing to do, in percent."""
    return NONE if figures.idle_share is None else f"{figures.idle_share * 100:.0f}"


def figures_table(
    title: str,
    servers: Sequence[AnyServer],
    cells: Sequence[AnyCell],
    results: Results,
    unit: Callable[[AnyCell], str] | None,
    describe: Describe,
) -> Table:
    """Medians: cells by servers; `unit` where it is not the same in all cells."""
    table = _table(title, "", (server.name for server in servers))
    for cell in cells:
        entries = (_entry(results, server, cell, describe) for server in servers)
        table.add_row(f"{cell.title}, {unit(cell)}" if unit else cell.title, *entries)
    return table


def _entry(results: Results, server: AnyServer, cell: AnyCell, describe: Describe) -> str:
    if results.failure(server.key, cell):
        return FAILED
    figures = results.figures(server.key, cell.name)
    return NONE if figures is None else describe(cell, figures)


def peers_of(servers: Sequence[AnyServer]) -> list[Peers]:
    """With whom ours are compared, by name: the best server of a file, then each peer by itself."""
    peers: list[Peers] = [(server.name, (server.key,)) for server in servers if not server.is_ours]
    rivals = tuple(server.key for server in servers if server.key in FILE_PEERS)
    return [(BEST_PEER, rivals), *peers] if len(rivals) > 1 else peers


def ratios_table(
    title: str,
    ours: AnyServer,
    servers: Sequence[AnyServer],
    cells: Sequence[AnyCell],
    results: Results,
    metric: Metric,
) -> Table | None:
    """Cells by peers; None where nothing can be compared."""
    peers = peers_of(servers)
    table = _table(title, f"{ours.name} /", (name for name, _ in peers))
    for cell in cells:
        ratios = [results.ratio(ours.key, keys, cell.name, metric) for _, keys in peers]
        if any(ratios):
            table.add_row(cell.title, *(_ratio(ratio, metric) for ratio in ratios))
    return table if table.row_count else None


def _ratio(ratio: Ratio | None, metric: Metric) -> str:
    if ratio is None:
        return NONE
    is_good = ratio.median >= 1 if metric.is_gain else ratio.median <= 1
    return f"{_coloured(f'{ratio.median:.2f}', is_good)}\n{_span(ratio)}"


def _span(ratio: Ratio) -> str:
    return f"({ratio.low:.2f}-{ratio.high:.2f})"


def _coloured(text: str, is_good: bool) -> str:
    style = "green" if is_good else "red"
    return f"[{style}]{text}[/{style}]"


def expectations_table(expectations: Sequence[Expectation], results: Results) -> Table | None:
    """What was expected and what was found, where it was measured; None where nothing was."""
    table = _table("Expectations (for information)", "ratio", ("expected", "found", "met"))
    for one in expectations:
        ratio = one.found(results)
        if ratio is not None:
            is_met = one.is_met(ratio)
            found = f"{ratio.median:.2f} {_span(ratio)}"
            table.add_row(
                one.title, one.expected, found, _coloured("yes" if is_met else "no", is_met)
            )
    return table if table.row_count else None
