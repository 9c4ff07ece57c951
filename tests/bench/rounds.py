# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of measuring: rounds over cells over servers, and what a failure ends.

Servers take turns within a cell, so that noise of the machine hits all alike, and each round
starts with another server, so that none always follows the same neighbour. Starts nothing:
it is given a function that measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.bench.fio import Cell, FioError, Measurement, run
from tests.bench.processes import RunningServer, ServerError
from tests.bench.results import Failure, Sample

# (client's view, server CPU microseconds per request)
Measured = tuple[Measurement, float]


def measure(server: RunningServer, cell: Cell, size_bytes: int, seconds: float) -> Measured:
    """One fio run against a running server.

    Raises ServerError when the server has ended, FioError for any other failure.
    """
    server.check()
    before_s = server.cpu_s()
    try:
        measurement = run(cell, server.uri, size_bytes, seconds)
    except FioError:
        # A server that died is the cause; fio's complaint about the connection only the effect.
        server.check()
        raise
    cpu_s = server.cpu_s() - before_s
    return measurement, cpu_s * 1e6 / measurement.requests


def run_rounds(
    servers: Sequence[str],
    cells: Sequence[Cell],
    runs: int,
    measure_one: Callable[[int, str, Cell], Measured],
) -> Iterator[Sample | Failure]:
    """Yield each sample as it is made. A cell that failed, or a server that ended, is not retried.

    `measure_one` is called with round index, server and cell, and raises as `measure` does.
    """
    ended: set[str] = set()
    failed: set[tuple[str, Cell]] = set()
    for index in range(runs):
        first = index % len(servers) if servers else 0
        for cell in cells:
            for server in (*servers[first:], *servers[:first]):
                if server in ended or (server, cell) in failed:
                    continue
                try:
                    measurement, cpu_us = measure_one(index, server, cell)
                except ServerError as error:
                    ended.add(server)
                    yield Failure(server, None, str(error))
                except FioError as error:
                    failed.add((server, cell))
                    yield Failure(server, cell.name, str(error))
                else:
                    yield Sample(server, cell.name, index, measurement, cpu_us)
