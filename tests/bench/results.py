# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples, failures, and the arithmetic over them: medians and ratios within a round.

Pure. A ratio compares two servers in the same cell of the same round, that is within a few
seconds of each other; the median is taken over such ratios. A ratio of medians would set
figures beside each other that were measured minutes apart, under different noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from tests.bench.fio import Measurement


@dataclass(frozen=True, slots=True)
class Sample:
    """One fio run: the client's view, and the server's CPU time per request in microseconds."""

    server: str
    cell: str
    round_index: int
    measurement: Measurement
    server_cpu_us: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A server that did not start (`cell` is None), that ended, or whose fio run failed."""

    server: str
    cell: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds of one server in one cell, each figure by itself."""

    rounds: int
    iops: float
    bytes_per_s: float
    p50_us: float
    p99_us: float
    server_cpu_us: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """IOPS of one server over those of a peer: median, lowest and highest of the rounds."""

    rounds: int
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was seen, in the order in which it happened."""

    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]

    def of(self, server: str, cell: str) -> list[Sample]:
        """The samples of one server in one cell."""
        return [one for one in self.samples if (one.server, one.cell) == (server, cell)]

    def failure(self, server: str, cell: str | None) -> Failure | None:
        """What went wrong in one cell, or with the server as a whole (None)."""
        wanted = (server, cell)
        return next((one for one in self.failures if (one.server, one.cell) == wanted), None)

    def figures(self, server: str, cell: str) -> Figures | None:
        """Medians of one server in one cell; None without samples."""
        samples = self.of(server, cell)
        if not samples:
            return None

        def middle(figure: Callable[[Sample], float]) -> float:
            return median(map(figure, samples))

        return Figures(
            rounds=len(samples),
            iops=middle(lambda one: one.measurement.iops),
            bytes_per_s=middle(lambda one: one.measurement.bytes_per_s),
            p50_us=middle(lambda one: one.measurement.p50_us),
            p99_us=middle(lambda one: one.measurement.p99_us),
            server_cpu_us=middle(lambda one: one.server_cpu_us),
        )

    def ratio(self, server: str, peer: str, cell: str) -> Ratio | None:
        """How many times the peer's IOPS; None when no round has samples of both."""
        of_peer = {one.round_index: one.measurement.iops for one in self.of(peer, cell)}
        ratios = [
            one.measurement.iops / of_peer[one.round_index]
            for one in self.of(server, cell)
            if one.round_index in of_peer
        ]
        if not ratios:
            return None
        return Ratio(len(ratios), median(ratios), min(ratios), max(ratios))
