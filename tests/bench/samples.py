# SPDX-License-Identifier: GPL-2.0-or-later
"""Made-up samples for the tests of results.py, rounds.py and report.py.

Only `iops` varies: the other figures of a sample follow from it, so that a test can tell
which sample a figure came from.
"""

from __future__ import annotations

from tests.bench.client import Measurement
from tests.bench.results import Sample


def measurement(iops: float) -> Measurement:
    """A second of 4 KiB requests at `iops`."""
    return Measurement(int(iops), iops, iops * 4096, p50_us=1e6 / iops, p99_us=2e6 / iops)


def sample(server: str, cell: str, round_index: int, iops: float) -> Sample:
    """One run; the server spent a tenth of the time of each request on the CPU."""
    return Sample(server, cell, round_index, measurement(iops), server_cpu_us=1e5 / iops)
