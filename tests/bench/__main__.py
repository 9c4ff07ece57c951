# SPDX-License-Identifier: GPL-2.0-or-later
"""Command line of the benchmark: `python -m tests.bench --help`.

Composition only: makes the image, starts the servers, runs the rounds, prints the report. The
exit status is 1 when a server did not start or a run failed, although the others are measured.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.bench import environment, report
from tests.bench.cells import CELLS, Cell
from tests.bench.certificates import write_certificates
from tests.bench.client import Load
from tests.bench.processes import (
    RunningServer,
    ServerError,
    adopt_orphans,
    kill_children,
    running,
)
from tests.bench.results import Failure, Results, Sample
from tests.bench.rounds import Measured, measure, run_rounds
from tests.bench.servers import EXTRA_SERVERS, SERVERS, Server, Site, turns_of
from tests.bench.stage import chosen, leave_on_signals, random_file, wide_console

SERVER_KEYS = ", ".join(server.key for server in (*SERVERS, *EXTRA_SERVERS))
CELL_NAMES = ", ".join(cell.name for cell in CELLS)
CERTIFICATES = "certificates"

Turns = Sequence[tuple[Cell, Sequence[Server]]]
# A server's process by key, and whether it is the one with TLS.
Started = dict[tuple[str, bool], RunningServer]

app = typer.Typer(add_completion=False)


def start_servers(
    turns: Turns, image: Path, size_bytes: int, folder: Path, stack: contextlib.ExitStack
) -> tuple[Started, list[Failure]]:
    """Start each server in a folder of its own; those that fail are reported, not raised."""
    bridge = Path(sys.executable).with_name("scst-bridge")
    started: Started = {}
    failures = []
    wanted = {
        (server.key, cell.is_tls): plan
        for cell, servers in turns
        for server in servers
        if (plan := server.plan_for(cell)) is not None
    }
    for (key, is_tls), plan in wanted.items():
        own = folder / (f"{key}-tls" if is_tls else key)
        own.mkdir()
        site = Site(image, size_bytes, own, bridge, folder / CERTIFICATES)
        try:
            up = stack.enter_context(running(plan(site), own / "log"))
        except ServerError as error:
            failures.append(Failure(key, None, str(error), is_tls))
        else:
            started[key, is_tls] = up
    return started, failures


def _make_load(
    turns: Turns, header: environment.Environment, image: Path, stack: contextlib.ExitStack
) -> Load:
    """What clients write: the image will do, except for a client that reads a file for it."""
    size_bytes = header.size_mib << 20
    source = image
    if any(cell.is_tls and cell.direction == "write" for cell, _ in turns):
        source = stack.enter_context(random_file(Path(header.directory), size_bytes))
    return Load(size_bytes, header.seconds, source)


def run_benchmark(turns: Turns, header: environment.Environment) -> Results:
    """All rounds; every process and file is gone when it returns or raises."""
    progress = Console(stderr=True)
    samples = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scst-bridge-bench-")))
        image = stack.enter_context(random_file(Path(header.directory), header.size_mib << 20))
        load = _make_load(turns, header, image, stack)
        (folder / CERTIFICATES).mkdir()
        write_certificates(folder / CERTIFICATES)
        stack.callback(kill_children)
        status = stack.enter_context(progress.status("starting the servers"))
        started, failures = start_servers(turns, image, load.size_bytes, folder, stack)
        for failure in failures:
            report.print_failure(progress, failure)

        def measure_one(index: int, key: str, cell: Cell) -> Measured:
            status.update(f"run {index + 1} of {header.runs}: {cell.title}, {key}")
            # What the last run wrote must not reach the disk during this one.
            with image.open("rb") as written:
                os.fsync(written.fileno())
            return measure(started[key, cell.is_tls], cell, load)

        able = [
            (cell, [server.key for server in servers if (server.key, cell.is_tls) in started])
            for cell, servers in turns
        ]
        for outcome in run_rounds(able, header.runs, measure_one):
            if isinstance(outcome, Sample):
                samples.append(outcome)
            else:
                failures.append(outcome)
                report.print_failure(progress, outcome)
    return Results(tuple(samples), tuple(failures))


@app.command()
def main(
    server: Annotated[
        list[str] | None, typer.Option(help=f"Only these (repeat): {SERVER_KEYS}.")
    ] = None,
    cell: Annotated[
        list[str] | None, typer.Option(help=f"Only these (repeat): {CELL_NAMES}.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Rounds over all servers.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one fio run.")] = 2.0,
    is_quick: Annotated[
        bool | None,
        typer.Option(
            "--quick/--all",
            help="Plugins and nbdkit memory under six cells only (default: --all with --server "
            "or --cell, else --quick, which takes some ten minutes).",
        ),
    ] = None,
    directory: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Where the image is made.")
    ] = Path("/dev/shm"),
    size_mib: Annotated[int, typer.Option(min=16, help="Size of the image.")] = 512,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write all figures here, too.")
    ] = None,
) -> None:
    """Compare our NBD servers with nbdkit, qemu-nbd and nbd-server.

    Only where it is asked for: ours-reserved, whose disk the clients have reserved for themselves.
    """
    known = (*SERVERS, *EXTRA_SERVERS) if server else SERVERS
    servers = chosen("server", server, {one.key: one for one in known})
    cells = chosen("cell", cell, {one.name: one for one in CELLS})
    leave_on_signals()
    adopt_orphans()
    console = wide_console()
    header = environment.collect(directory.resolve(), size_mib, runs, seconds)
    report.print_header(console, header)
    if is_quick is None:
        is_quick = not server and not cell
    order = turns_of(servers, cells, is_quick=is_quick)
    finished = report.Report(header, servers, cells, run_benchmark(order, header))
    report.print_report(console, finished)
    if json_file is not None:
        json_file.write_text(report.to_json(finished))
    if finished.results.failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
