# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of measuring: rounds over cells over servers, and what a failure ends.

Servers take turns within a cell, so that noise of the machine hits all alike, and each round
starts with another server, so that none always follows the same neighbour. Starts nothing:
it is given a function that measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tests.bench import fio, nbdcopy
from tests.bench.cells import AnyCell, Cell
from tests.bench.client import Load, LoadError, Measurement
from tests.bench.processes import RunningServer, ServerError
from tests.bench.results import Failure, Sample

# (client's view, server CPU microseconds per request)
Measured = tuple[Measurement, float]
C = TypeVar("C", bound=AnyCell)


def measure(server: RunningServer, cell: Cell, load: Load) -> Measured:
    """One client run against a running server.

    Raises ServerError when the server has ended, LoadError for any other failure.
    """
    run = nbdcopy.run if cell.is_tls else fio.run
    server.check()
    before_s = server.cpu_s()
    try:
        measurement = run(cell, server.uri, load)
    except LoadError:
        # A server that died is the cause; the client's complaint about it only the effect.
        server.check()
        raise
    cpu_s = server.cpu_s() - before_s
    return measurement, cpu_s * 1e6 / measurement.requests


def run_rounds(
    turns: Sequence[tuple[C, Sequence[str]]],
    runs: int,
    measure_one: Callable[[int, str, C], Measured],
) -> Iterator[Sample | Failure]:
    """Yield each sample as it is made. A cell that failed, or a server that ended, is not retried.

    `turns` are the cells in order, each with its servers. `measure_one` is called with round
    index, server and cell, and raises as `measure` does.
    """
    ended: set[tuple[str, bool]] = set()
    failed: set[tuple[str, str]] = set()
    for index in range(runs):
        for cell, servers in turns:
            first = index % len(servers) if servers else 0
            for server in (*servers[first:], *servers[:first]):
                if (server, cell.is_tls) in ended or (server, cell.name) in failed:
                    continue
                try:
                    measurement, cpu_us = measure_one(index, server, cell)
                except ServerError as error:
                    ended.add((server, cell.is_tls))
                    yield Failure(server, None, str(error), cell.is_tls)
                except LoadError as error:
                    failed.add((server, cell.name))
                    yield Failure(server, cell.name, str(error), cell.is_tls)
                else:
                    yield Sample(server, cell.name, index, measurement, cpu_us)
