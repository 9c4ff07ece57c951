# SPDX-License-Identifier: GPL-2.0-or-later
"""Command line of the AoE benchmark: `python -m tests.bench.aoe --help`.

Composition only: makes images, hosts and servers, runs the rounds, prints the report. The exit
status is 1 when a server did not start or a run failed, although the others are measured.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from tests.bench import environment
from tests.bench.aoe import report
from tests.bench.aoe.cells import CELLS, AoeCell
from tests.bench.aoe.cpus import Cpus
from tests.bench.aoe.expectations import EXPECTATIONS
from tests.bench.aoe.hosts import link
from tests.bench.aoe.servers import SERVERS, AoeServer, Place
from tests.bench.aoe.stations import Station, station
from tests.bench.client import LoadError
from tests.bench.processes import ServerError, kill_children
from tests.bench.report import Report, print_failure, print_header, to_json
from tests.bench.results import Failure, Results, Sample
from tests.bench.rounds import Measured, run_rounds
from tests.bench.stage import chosen, leave_on_signals, random_file, wide_console

SERVER_KEYS = ", ".join(server.key for server in SERVERS)
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")
VERSION_COMMANDS = (("dpkg-query", "-W", "-f", "${Package} ${Version}", "vblade"),)
CELL_NAMES = ", ".join(cell.name for cell in CELLS)

# A server's process: its key, the MTU of its link, and whether it is the durable one.
StationKey = tuple[str, int, bool]

app = typer.Typer(add_completion=False)


@dataclass(slots=True)
class Bench:
    """One run: what is up, and what failed to be; all of it ends with `stack`."""

    header: environment.Environment
    disk_directory: Path
    cpus: Cpus
    stack: ExitStack
    stations: dict[StationKey, Station] = field(default_factory=dict)
    broken: dict[StationKey, str] = field(default_factory=dict)

    def start(self, servers: Sequence[AoeServer], cells: Sequence[AoeCell]) -> None:
        """Bring up each server that some cell asks for; those that fail are noted."""
        made = tempfile.TemporaryDirectory(prefix="scst-bridge-bench-")
        folder = Path(self.stack.enter_context(made))
        images = {
            is_durable: self._image(is_durable)
            for is_durable in sorted({cell.is_durable for cell in cells})
        }
        self.stack.callback(kill_children)
        for cell in cells:
            for server in servers:
                key = (server.key, cell.mtu, cell.is_durable)
                if server.takes(cell) and key not in self.stations and key not in self.broken:
                    self._start(server, key, images[cell.is_durable], folder)

    def _image(self, is_durable: bool) -> Path:
        directory = self.disk_directory if is_durable else Path(self.header.directory)
        image = self.stack.enter_context(random_file(directory, self.header.size_mib << 20))
        # What was written now must not reach the disk during a run.
        with image.open("rb") as written:
            os.fsync(written.fileno())
        return image

    def _start(self, server: AoeServer, key: StationKey, image: Path, folder: Path) -> None:
        own = folder / "-".join(map(str, key))
        own.mkdir()
        try:
            network = self.stack.enter_context(link(key[1]))
            place = Place(network.target.interface, key[1], image, own / "scst.conf", key[2])
            running = station(server, place, network, own / "log", self.cpus.server)
            self.stations[key] = self.stack.enter_context(running)
        except ServerError as error:
            self.broken[key] = str(error)

    def measure(self, server: str, cell: AoeCell) -> Measured:
        """One run. Raises LoadError, also where the server is not up: it may be in other cells."""
        key = (server, cell.mtu, cell.is_durable)
        if key in self.broken:
            raise LoadError(self.broken[key])
        try:
            return self.stations[key].measure(cell, self.header.seconds)
        except ServerError as error:
            raise LoadError(str(error)) from error


def run_benchmark(
    servers: Sequence[AoeServer],
    cells: Sequence[AoeCell],
    header: environment.Environment,
    disk_directory: Path,
) -> Results:
    """All rounds; every host, process and file is gone when it returns or raises."""
    progress = Console(stderr=True)
    samples: list[Sample] = []
    failures: list[Failure] = []
    cpus = Cpus.available()
    with ExitStack() as stack:
        stack.enter_context(cpus.taken())
        # Without a thread of its own, which would take time from the generator.
        live = stack.enter_context(Live(console=progress, auto_refresh=False, transient=True))
        live.update(Text("starting the servers"), refresh=True)
        bench = Bench(header, disk_directory, cpus, stack)
        bench.start(servers, cells)

        def measure_one(index: int, key: str, cell: AoeCell) -> Measured:
            words = f"run {index + 1} of {header.runs}: {cell.title}, {key}"
            live.update(Text(words), refresh=True)
            return bench.measure(key, cell)

        turns = [(cell, [server.key for server in servers if server.takes(cell)]) for cell in cells]
        for outcome in run_rounds(turns, header.runs, measure_one):
            if isinstance(outcome, Sample):
                samples.append(outcome)
            else:
                failures.append(outcome)
                print_failure(progress, outcome)
    return Results(tuple(samples), tuple(failures))


def _refuse_memory(directory: Path) -> None:
    """Durability costs nothing where there is no disk."""
    kind = environment.file_system(directory)
    if kind in MEMORY_FILE_SYSTEMS:
        raise typer.BadParameter(
            f"{directory} is on {kind}, and durable cells need a disk",
            param_hint="--disk-directory",
        )


@app.command()
def main(
    server: Annotated[
        list[str] | None, typer.Option(help=f"Only these (repeat): {SERVER_KEYS}.")
    ] = None,
    cell: Annotated[
        list[str] | None, typer.Option(help=f"Only these (repeat): {CELL_NAMES}.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Rounds over all servers.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one run.")] = 0.8,
    directory: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Where the image is made.")
    ] = Path("/dev/shm"),
    disk_directory: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="The same for durable cells: a disk.")
    ] = Path("/var/tmp"),
    size_mib: Annotated[int, typer.Option(min=16, help="Size of each image.")] = 256,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write all figures here, too.")
    ] = None,
) -> None:
    """Compare our AoE server with vblade; with the defaults it takes some six minutes."""
    servers = chosen("server", server, {one.key: one for one in SERVERS})
    cells = chosen("cell", cell, {one.name: one for one in CELLS})
    if any(one.is_durable for one in cells):
        _refuse_memory(disk_directory)
    if os.geteuid() != 0:
        typer.echo("failed: needs root to make network namespaces", err=True)
        raise typer.Exit(1)
    leave_on_signals()
    console = wide_console()
    header = environment.collect(directory.resolve(), size_mib, runs, seconds, VERSION_COMMANDS)
    print_header(console, header)
    cpus = Cpus.available()
    for line in report.circumstances(cpus.server, cpus.generator, disk_directory.resolve()):
        console.print(line, highlight=False, markup=False)
    results = run_benchmark(servers, cells, header, disk_directory.resolve())
    finished = Report(header, servers, cells, results, EXPECTATIONS)
    report.print_report(console, finished)
    if json_file is not None:
        json_file.write_text(to_json(finished))
    if results.failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
