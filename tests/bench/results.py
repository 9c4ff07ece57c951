# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples, failures, and the arithmetic over them: medians and ratios within a round.

Pure. A ratio compares servers in the same cell of the same round, that is within a few
seconds of each other; the median is taken over such ratios. A ratio of medians would set
figures beside each other that were measured minutes apart, under different noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from tests.bench.cells import AnyCell
from tests.bench.client import Measurement

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Sample:
    """One client run: the client's view, and the server's CPU time per request in microseconds."""

    server: str
    cell: str
    round_index: int
    measurement: Measurement
    server_cpu_us: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A server that did not start (`cell` is None), that ended, or whose client failed.

    A server with TLS is a process apart from the one without, and fails apart from it.
    """

    server: str
    cell: str | None
    reason: str
    is_tls: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds of one server in one cell, each figure by itself."""

    rounds: int
    iops: float
    bytes_per_s: float
    p50_us: float | None
    p99_us: float | None
    server_cpu_us: float
    idle_share: float | None = None
    preempted_share: float | None = None

    def server_cpu_s_per_gib(self, block_bytes: int) -> float:
        """CPU seconds of the server for each GiB, of requests with `block_bytes`."""
        return self.server_cpu_us / 1e6 * (GIB / block_bytes)


class Metric(StrEnum):
    """What a ratio is taken of."""

    IOPS = "iops"
    P50 = "p50_us"
    SERVER_CPU = "server_cpu_us"

    @property
    def is_gain(self) -> bool:
        """Whether more of it is better."""
        return self is Metric.IOPS

    def of(self, sample: Sample) -> float | None:
        """The figure of one sample; None where it was not measured."""
        match self:
            case Metric.IOPS:
                return sample.measurement.iops
            case Metric.P50:
                return sample.measurement.p50_us
            case Metric.SERVER_CPU:
                return sample.server_cpu_us

    def best(self, figures: Sequence[float]) -> float:
        """The best of several figures."""
        return max(figures) if self.is_gain else min(figures)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of one server over that of its peer: median, lowest and highest of the rounds."""

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

    def failure(self, server: str, cell: AnyCell) -> Failure | None:
        """What kept a server from being measured in a cell: there, or as a whole."""
        here = ((cell.name, cell.is_tls), (None, cell.is_tls))
        return next(
            (
                one
                for one in self.failures
                if one.server == server and (one.cell, one.is_tls) in here
            ),
            None,
        )

    def figures(self, server: str, cell: str) -> Figures | None:
        """Medians of one server in one cell; None without samples."""
        samples = self.of(server, cell)
        if not samples:
            return None
        measured = [one.measurement for one in samples]
        return Figures(
            rounds=len(samples),
            iops=median(one.iops for one in measured),
            bytes_per_s=median(one.bytes_per_s for one in measured),
            p50_us=_middle([one.p50_us for one in measured]),
            p99_us=_middle([one.p99_us for one in measured]),
            server_cpu_us=median(one.server_cpu_us for one in samples),
            idle_share=_middle([one.idle_share for one in measured]),
            preempted_share=_middle([one.preempted_share for one in measured]),
        )

    def ratio(
        self, server: str, peers: Sequence[str], cell: str, metric: Metric = Metric.IOPS
    ) -> Ratio | None:
        """How many times the figure of the peers' best, round by round.

        None when no round has samples of the server and of a peer.
        """
        rivals: dict[int, list[float]] = {}
        for peer in peers:
            for index, figure in self._rounds(peer, cell, metric).items():
                rivals.setdefault(index, []).append(figure)
        ratios = [
            figure / metric.best(rivals[index])
            for index, figure in self._rounds(server, cell, metric).items()
            if index in rivals
        ]
        if not ratios:
            return None
        return Ratio(len(ratios), median(ratios), min(ratios), max(ratios))

    def _rounds(self, server: str, cell: str, metric: Metric) -> dict[int, float]:
        """One figure by round; a CPU time too short for the kernel's clock is none."""
        figures = ((one.round_index, metric.of(one)) for one in self.of(server, cell))
        return {index: figure for index, figure in figures if figure}


def _middle(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return median(known) if known else None
