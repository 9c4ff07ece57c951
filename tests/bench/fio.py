# SPDX-License-Identifier: GPL-2.0-or-later
"""Load by fio: the command line of a cell, and fio's JSON read back.

Knows nothing about servers: it is given a URI (libnbd, nbd_connect_uri(3)). The client is
fio's nbd engine. Latencies are fio's "lat" (submission to completion), because the
engine's "clat" leaves out the time that sending the request takes.
"""

from __future__ import annotations

import json
import os

from tests.bench.cells import Cell
from tests.bench.client import OVERHEAD_S, Load, LoadError, Measurement, run_to_end

GREETING = "fio: connected to NBD server"


def command(cell: Cell, uri: str, size_bytes: int, seconds: float) -> list[str]:
    """The fio command line that puts the load of `cell` on `uri` for `seconds`."""
    return [
        "fio",
        f"--name={cell.name}",
        # A job in a process of its own would call setsid() and escape the kill of fio's group.
        "--thread",
        "--ioengine=nbd",
        f"--uri={uri}",
        f"--rw={cell.rw}",
        f"--bs={cell.block_bytes}",
        f"--iodepth={cell.queue_depth}",
        *_extent(cell, size_bytes),
        "--time_based",
        f"--runtime={round(seconds * 1000)}ms",
        "--norandommap",
        "--lat_percentiles=1",
        "--group_reporting",
        "--output-format=json",
    ]


def _extent(cell: Cell, size_bytes: int) -> list[str]:
    """Jobs, and where on the disk they work: each job's connection is its own."""
    if cell.connections == 1:
        return [f"--size={size_bytes}"]
    jobs = f"--numjobs={cell.connections}"
    if not cell.is_sequential:
        return [jobs, f"--size={size_bytes}"]
    # All starting at the same place, they would hand the same pages to one another.
    share_bytes = size_bytes // cell.connections
    return [jobs, f"--size={share_bytes}", f"--offset_increment={share_bytes}"]


def parse(report: str, direction: str) -> Measurement:
    """Read fio's JSON; text lines may stand before it.

    Raises LoadError when there is no JSON, when the job failed or when no request completed.
    """
    start = report.find("{")
    if start < 0:
        raise LoadError(f"no JSON in fio's output: {report.strip()!r}")
    try:
        job = json.loads(report[start:])["jobs"][0]
        counters = job[direction]
        if job["error"]:
            raise LoadError(f"job error {job['error']}: {os.strerror(job['error'])}")
        if not counters["total_ios"]:
            raise LoadError("no request completed")
        percentiles = counters["lat_ns"]["percentile"]
        return Measurement(
            requests=int(counters["total_ios"]),
            iops=float(counters["iops"]),
            bytes_per_s=float(counters["bw_bytes"]),
            p50_us=percentiles["50.000000"] / 1000,
            p99_us=percentiles["99.000000"] / 1000,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise LoadError(f"unexpected fio report: {error!r}") from error


def complaints(stdout: str, stderr: str) -> str:
    """The lines in which fio says what went wrong: all of stderr, and stdout before the JSON."""
    lines = stderr.splitlines() + stdout.partition("{")[0].splitlines()
    return "; ".join(line.strip() for line in lines if line.strip() not in ("", GREETING))


def run(cell: Cell, uri: str, load: Load) -> Measurement:
    """Run fio to its end. Raises LoadError for any failure, with everything fio printed of it."""
    line = command(cell, uri, load.size_bytes, load.seconds)
    finished = run_to_end(line, load.seconds + OVERHEAD_S)
    said = complaints(finished.stdout, finished.stderr)
    if finished.status != 0:
        raise LoadError(f"fio exit status {finished.status}: {said or 'no message'}")
    try:
        return parse(finished.stdout, cell.direction)
    except LoadError as error:
        raise LoadError(f"{error}: {said}" if said else str(error)) from error
