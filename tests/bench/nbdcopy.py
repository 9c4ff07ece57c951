# SPDX-License-Identifier: GPL-2.0-or-later
"""Load by nbdcopy, for the cells with TLS: whole copies, one after another.

fio's engine never calls nbd_set_uri_allow_local_file(3), without which libnbd refuses the
certificates that a URI names; nbdcopy does. A run is as many copies as begin within the time, each
with a connection and a TLS handshake of its own, and gives no latencies.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.cells import Cell
from tests.bench.client import OVERHEAD_S, Load, LoadError, Measurement, run_to_end


def command(cell: Cell, uri: str, source: Path) -> list[str]:
    """The command line of one copy: from `uri` to nowhere, or from the file `source` to `uri`."""
    ends = [uri, "null:"] if cell.direction == "read" else [str(source), uri]
    return [
        "nbdcopy",
        f"--connections={cell.connections}",
        f"--requests={cell.queue_depth}",
        f"--request-size={cell.block_bytes}",
        # Neither ask for holes nor look for zeroes: every byte is to be carried.
        "--no-extents",
        "--sparse=0",
        *ends,
    ]


def measurement(cell: Cell, copied_bytes: int, elapsed_s: float) -> Measurement:
    """The rates of so many bytes in so many seconds."""
    requests = copied_bytes // cell.block_bytes
    return Measurement(requests, requests / elapsed_s, copied_bytes / elapsed_s, None, None)


def run(cell: Cell, uri: str, load: Load) -> Measurement:
    """Copy until the time is over. Raises LoadError for any failure, with what nbdcopy said."""
    line = command(cell, uri, load.source)
    begin_s = time.monotonic()
    copied_bytes = 0
    while True:
        finished = run_to_end(line, load.seconds + OVERHEAD_S)
        if finished.status != 0:
            said = "; ".join(finished.stderr.split("\n")).strip("; ")
            raise LoadError(f"nbdcopy exit status {finished.status}: {said or 'no message'}")
        copied_bytes += load.size_bytes
        elapsed_s = time.monotonic() - begin_s
        if elapsed_s >= load.seconds:
            return measurement(cell, copied_bytes, elapsed_s)
