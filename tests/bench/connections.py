# SPDX-License-Identifier: GPL-2.0-or-later
"""Many connections: `python -m tests.bench.connections --help`.

Our daemon with a thousand idle clients: what each costs in memory, and what they cost the few that
work. Rounds with and without the idle ones alternate, and so does which of the two comes first.
The exit status is 1 when a connection or a client failed; the expectations are information.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.bench import crowd, environment
from tests.bench.cells import KIB, Cell
from tests.bench.client import Load, LoadError
from tests.bench.crowd import Memory
from tests.bench.processes import (
    RunningServer,
    ServerError,
    adopt_orphans,
    kill_children,
    running,
)
from tests.bench.results import Ratio, Results, Sample
from tests.bench.rounds import measure
from tests.bench.servers import EXPORT, SERVERS, Site
from tests.bench.stage import leave_on_signals, random_file, wide_console

CROWDED, ALONE = "crowded", "alone"
EXPECTED_RATIO = 0.9
# Errors that are shown one by one; a thousand alike would say no more.
SHOWN_ERRORS = 10

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many connections there are, and how long the active ones work."""

    idle: int
    active: int
    queue_depth: int
    runs: int

    @property
    def cell(self) -> Cell:
        """The load of the active connections."""
        title = f"4k read {self.active} x QD{self.queue_depth}"
        return Cell("active", title, "randread", 4 * KIB, self.queue_depth, self.active)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen; `memory` is for each idle connection."""

    results: Results
    memory: Memory
    errors: tuple[str, ...]

    def ratio(self) -> Ratio | None:
        """Requests per second with the idle connections over those without, round by round."""
        return self.results.ratio(CROWDED, [ALONE], "active")


def order(runs: int) -> Iterator[tuple[int, str]]:
    """Round index and what is measured: both in each round, in turns first."""
    for index in range(runs):
        pair = (ALONE, CROWDED)
        for name in pair if index % 2 == 0 else pair[::-1]:
            yield index, name


def lines(plan: Plan, outcome: Outcome) -> list[str]:
    """The report."""
    shown = [
        f"errors: {len(outcome.errors)} (expected 0)",
        f"memory of the daemon per idle connection: RSS {outcome.memory.rss_bytes / KIB:.1f} KiB, "
        f"PSS {outcome.memory.pss_bytes / KIB:.1f} KiB",
    ]
    for name, words in ((ALONE, "without idle ones"), (CROWDED, f"beside {plan.idle} idle ones")):
        figures = outcome.results.figures(name, plan.cell.name)
        if figures is not None:
            shown.append(
                f"{plan.cell.title} {words}: {figures.iops / 1e3:.1f} kIOPS, p50 / p99 "
                f"{figures.p50_us or 0:.0f} / {figures.p99_us or 0:.0f} µs, "
                f"{figures.server_cpu_us:.1f} µs CPU / request"
            )
    ratio = outcome.ratio()
    if ratio is not None:
        shown.append(
            f"beside / without: {ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f}), "
            f"expected >= {EXPECTED_RATIO:.2f}"
        )
    more = len(outcome.errors) - SHOWN_ERRORS
    shown += [f"error: {error}" for error in outcome.errors[:SHOWN_ERRORS]]
    return [*shown, f"and {more} errors more"] if more > 0 else shown


class Bench:
    """One daemon under observation; gathers samples and errors."""

    def __init__(self, plan: Plan, site: Site, server: RunningServer, load: Load) -> None:
        self._plan = plan
        self._site = site
        self._server = server
        self._load = load
        self._samples: list[Sample] = []
        self._errors: list[str] = []

    def run(self, console: Console) -> Outcome:
        """Memory first, while the daemon has not yet had a crowd whose memory it could reuse."""
        with console.status("memory") as status:
            memory = self._memory()
            for index, name in order(self._plan.runs):
                status.update(f"run {index + 1} of {self._plan.runs}, {name}")
                with self._crowd(self._plan.idle if name == CROWDED else 0):
                    self._measure(index, name)
        results = Results(tuple(self._samples), ())
        return Outcome(results, memory, tuple(self._errors))

    @contextlib.contextmanager
    def _crowd(self, count: int) -> Iterator[None]:
        """Idle connections, which must still be served in the end."""
        with crowd.crowd(self._site.nbd_socket, EXPORT, count) as gathered:
            yield
            gathered.probe()
        self._errors += gathered.errors

    def _memory(self) -> Memory:
        # The buffers of active connections stay with the daemon and are not what is looked for.
        self._measure(0, "warm-up")
        (group,) = self._server.groups
        before = crowd.memory_of(group.pid)
        with self._crowd(self._plan.idle):
            return crowd.memory_of(group.pid).per_connection(before, self._plan.idle)

    def _measure(self, index: int, name: str) -> None:
        try:
            measurement, cpu_us = measure(self._server, self._plan.cell, self._load)
        except (LoadError, ServerError) as error:
            self._errors.append(f"active connections, {name}: {error}")
        else:
            sample = Sample(name, self._plan.cell.name, index, measurement, cpu_us)
            self._samples.append(sample)


def run_bench(plan: Plan, header: environment.Environment) -> Outcome:
    """Everything; raises ServerError when the daemon does not start."""
    ours = next(server for server in SERVERS if server.key == "ours")
    size_bytes = header.size_mib << 20
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scst-bridge-bench-")))
        image = stack.enter_context(random_file(Path(header.directory), size_bytes))
        stack.callback(kill_children)
        bridge = Path(sys.executable).with_name("scst-bridge")
        site = Site(image, size_bytes, folder, bridge, folder)
        server = stack.enter_context(running(ours.plan(site), folder / "log"))
        load = Load(size_bytes, header.seconds, image)
        return Bench(plan, site, server, load).run(Console(stderr=True))


@app.command()
def main(
    connections: Annotated[int, typer.Option(min=1, help="Idle connections.")] = 1000,
    active: Annotated[int, typer.Option(min=1, help="Connections that read.")] = 8,
    queue_depth: Annotated[int, typer.Option(min=1, help="Reads under way on each.")] = 4,
    runs: Annotated[int, typer.Option(min=1, help="Rounds with and without idle ones.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one fio run.")] = 2.0,
    directory: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Where the image is made.")
    ] = Path("/dev/shm"),
    size_mib: Annotated[int, typer.Option(min=16, help="Size of the image.")] = 256,
) -> None:
    """Measure our daemon with many idle connections and a few active ones."""
    plan = Plan(connections, active, queue_depth, runs)
    leave_on_signals()
    adopt_orphans()
    console = wide_console()
    try:
        crowd.allow_connections(plan.idle + plan.active)
        header = environment.collect(directory.resolve(), size_mib, runs, seconds)
        outcome = run_bench(plan, header)
    except (crowd.LimitError, ServerError) as error:
        console.print(f"failed: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    console.print(f"Linux {header.kernel}, {header.cpu_count} x {header.cpu}", highlight=False)
    for line in lines(plan, outcome):
        console.print(line, highlight=False, markup=False)
    if outcome.errors:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
