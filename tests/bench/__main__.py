# SPDX-License-Identifier: GPL-2.0-or-later
"""Command line of the benchmark: `python -m tests.bench --help`.

Composition only: makes the image, starts the servers, runs the rounds, prints the report. The
exit status is 1 when a server did not start or a run failed, although the others are measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from tests.bench import environment, report
from tests.bench.fio import CELLS, Cell
from tests.bench.processes import (
    RunningServer,
    ServerError,
    adopt_orphans,
    kill_children,
    running,
)
from tests.bench.results import Failure, Results, Sample
from tests.bench.rounds import Measured, measure, run_rounds
from tests.bench.servers import SERVERS, Server, Site

CHUNK_BYTES = 4 << 20
# Rich takes 80 columns when the output is no terminal, too few for seven columns.
PIPED_WIDTH = 150
SERVER_KEYS = ", ".join(server.key for server in SERVERS)
CELL_NAMES = ", ".join(cell.name for cell in CELLS)

app = typer.Typer(add_completion=False)


@contextlib.contextmanager
def random_image(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A file of random data, removed when the block is left."""
    with tempfile.NamedTemporaryFile(
        dir=directory, prefix="scst-bridge-bench-", suffix=".img"
    ) as image:
        for offset_bytes in range(0, size_bytes, CHUNK_BYTES):
            image.write(os.urandom(min(CHUNK_BYTES, size_bytes - offset_bytes)))
        image.flush()
        yield Path(image.name)


def start_servers(
    servers: Sequence[Server], image: Path, folder: Path, stack: contextlib.ExitStack
) -> tuple[dict[str, RunningServer], list[Failure]]:
    """Start each server in a folder of its own; those that fail are reported, not raised."""
    bridge = Path(sys.executable).with_name("scst-bridge")
    started: dict[str, RunningServer] = {}
    failures = []
    for server in servers:
        site = Site(image, folder / server.key, bridge)
        site.folder.mkdir()
        try:
            up = stack.enter_context(running(server.plan(site), site.folder / "log"))
        except ServerError as error:
            failures.append(Failure(server.key, None, str(error)))
        else:
            started[server.key] = up
    return started, failures


def run_benchmark(
    servers: Sequence[Server], cells: Sequence[Cell], header: environment.Environment
) -> Results:
    """All rounds; every process and file is gone when it returns or raises."""
    size_bytes = header.size_mib << 20
    progress = Console(stderr=True)
    samples = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scst-bridge-bench-")))
        image = stack.enter_context(random_image(Path(header.directory), size_bytes))
        stack.callback(kill_children)
        status = stack.enter_context(progress.status("starting the servers"))
        started, failures = start_servers(servers, image, folder, stack)
        for failure in failures:
            report.print_failure(progress, failure)

        def measure_one(index: int, key: str, cell: Cell) -> Measured:
            status.update(f"run {index + 1} of {header.runs}: {cell.title}, {key}")
            # What the last run wrote must not reach the disk during this one.
            with image.open("rb") as written:
                os.fsync(written.fileno())
            return measure(started[key], cell, size_bytes, header.seconds)

        for outcome in run_rounds(tuple(started), cells, header.runs, measure_one):
            if isinstance(outcome, Sample):
                samples.append(outcome)
            else:
                failures.append(outcome)
                report.print_failure(progress, outcome)
    return Results(tuple(samples), tuple(failures))


def _chosen_servers(keys: list[str]) -> list[Server]:
    unknown = set(keys) - {server.key for server in SERVERS}
    if unknown:
        raise typer.BadParameter(f"no such server: {', '.join(sorted(unknown))}")
    return [server for server in SERVERS if not keys or server.key in keys]


def _chosen_cells(names: list[str]) -> list[Cell]:
    unknown = set(names) - {cell.name for cell in CELLS}
    if unknown:
        raise typer.BadParameter(f"no such cell: {', '.join(sorted(unknown))}")
    return [cell for cell in CELLS if not names or cell.name in names]


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    """Leave through the with-blocks, as Ctrl-C does."""
    raise SystemExit(128 + number)


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
    directory: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Where the image is made.")
    ] = Path("/dev/shm"),
    size_mib: Annotated[int, typer.Option(min=16, help="Size of the image.")] = 512,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write all figures here, too.")
    ] = None,
) -> None:
    """Compare our NBD servers with nbdkit, qemu-nbd and nbd-server, under fio."""
    servers, cells = _chosen_servers(server or []), _chosen_cells(cell or [])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    adopt_orphans()
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    header = environment.collect(directory.resolve(), size_mib, runs, seconds)
    report.print_header(console, header)
    finished = report.Report(header, servers, cells, run_benchmark(servers, cells, header))
    report.print_report(console, finished)
    if json_file is not None:
        json_file.write_text(report.to_json(finished))
    if finished.results.failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
