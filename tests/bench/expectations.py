# SPDX-License-Identifier: GPL-2.0-or-later
"""What the figures are hoped to be: one table of bounds on ratios, and how a ratio is judged.

Information for the reader, never an exit status: neighbours on the machine move any figure.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.cells import CELLS
from tests.bench.results import Metric, Ratio, Results
from tests.bench.servers import EXTRA_SERVERS, FILE_PEERS, SERVERS

BEST_PEER = "best C peer"
TITLES = {cell.name: cell.title for cell in CELLS}
NAMES = {server.key: server.name for server in (*SERVERS, *EXTRA_SERVERS)}
_WORDS = {Metric.IOPS: "", Metric.P50: " p50 latency", Metric.SERVER_CPU: " server CPU"}


@dataclass(frozen=True, slots=True)
class Expectation:
    """A bound on a ratio of `server` to the best of `peers`: a floor for gains, else a ceiling.

    `title` has the ratio in words, as "4k read QD32: ours / best C peer".
    """

    title: str
    server: str
    peers: tuple[str, ...]
    cell: str
    metric: Metric
    bound: float

    @property
    def expected(self) -> str:
        """The bound in words, as ">= 1.30"."""
        return f"{'>=' if self.metric.is_gain else '<='} {self.bound:.2f}"

    def found(self, results: Results) -> Ratio | None:
        """The ratio that was measured, if it was."""
        return results.ratio(self.server, self.peers, self.cell, self.metric)

    def is_met(self, ratio: Ratio) -> bool:
        """Whether the median keeps to the bound."""
        if self.metric.is_gain:
            return ratio.median >= self.bound
        return ratio.median <= self.bound


def title_of(cell_title: str, metric: Metric, server_name: str, against: str) -> str:
    """A ratio in words."""
    return f"{cell_title}{_WORDS[metric]}: {server_name} / {against}"


def _against_best(cell: str, metric: Metric, bound: float) -> Expectation:
    title = title_of(TITLES[cell], metric, NAMES["ours"], BEST_PEER)
    return Expectation(title, "ours", FILE_PEERS, cell, metric, bound)


def _against(server: str, peer: str, cell: str, metric: Metric, bound: float) -> Expectation:
    title = title_of(TITLES[cell], metric, NAMES[server], NAMES[peer])
    return Expectation(title, server, (peer,), cell, metric, bound)


_BASIC = tuple(cell.name for cell in CELLS if cell.is_basic)

EXPECTATIONS = (
    _against_best("randread-qd32", Metric.IOPS, 1.3),
    _against_best("randwrite-qd32", Metric.IOPS, 1.3),
    _against_best("read-qd8", Metric.IOPS, 1.5),
    _against_best("write-qd8", Metric.IOPS, 1.0),
    _against_best("randread-qd1", Metric.P50, 1.15),
    _against_best("randwrite-qd1", Metric.P50, 1.15),
    _against("ours", "nbdkit-file", "randread-qd32", Metric.SERVER_CPU, 1.0),
    _against("ours", "nbdkit-file", "randwrite-qd32", Metric.SERVER_CPU, 1.0),
    *(_against("ours-reserved", "ours", cell, Metric.IOPS, 0.9) for cell in _BASIC),
    *(_against("ours-nbdkit", "nbdkit-python", cell, Metric.IOPS, 0.8) for cell in _BASIC),
    *(_against("ours-nbdkit-daemon", "nbdkit-python", cell, Metric.IOPS, 0.4) for cell in _BASIC),
)
