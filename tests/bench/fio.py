# SPDX-License-Identifier: GPL-2.0-or-later
"""Load: the benchmark's cells, the fio command line of each, and fio's JSON read back.

Knows nothing about servers: it is given a URI (libnbd, nbd_connect_uri(3)). The client is
fio's nbd engine. Latencies are fio's "lat" (submission to completion), because the
engine's "clat" leaves out the time that sending the request takes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass

GREETING = "fio: connected to NBD server"
# fio's start, its connection and its report, on a machine that is busy with other things.
OVERHEAD_S = 30.0


class FioError(Exception):
    """fio failed, or measured nothing; the text is what fio said."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of the benchmark: a kind of load, `block_bytes` per request."""

    name: str
    title: str
    rw: str
    block_bytes: int
    queue_depth: int

    @property
    def direction(self) -> str:
        """The section of fio's report that counts this load: "read" or "write"."""
        return self.rw.removeprefix("rand")

    @property
    def is_sequential(self) -> bool:
        return not self.rw.startswith("rand")


CELLS = (
    Cell("randread-qd1", "4k randread QD1", "randread", 4 << 10, 1),
    Cell("randread-qd32", "4k randread QD32", "randread", 4 << 10, 32),
    Cell("randwrite-qd1", "4k randwrite QD1", "randwrite", 4 << 10, 1),
    Cell("randwrite-qd32", "4k randwrite QD32", "randwrite", 4 << 10, 32),
    Cell("read-qd8", "1M read QD8", "read", 1 << 20, 8),
    Cell("write-qd8", "1M write QD8", "write", 1 << 20, 8),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the client saw during one run; latencies in microseconds."""

    requests: int
    iops: float
    bytes_per_s: float
    p50_us: float
    p99_us: float


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
        f"--size={size_bytes}",
        "--time_based",
        f"--runtime={round(seconds * 1000)}ms",
        "--norandommap",
        "--lat_percentiles=1",
        "--output-format=json",
    ]


def parse(report: str, direction: str) -> Measurement:
    """Read fio's JSON; text lines may stand before it.

    Raises FioError when there is no JSON, when the job failed or when no request completed.
    """
    start = report.find("{")
    if start < 0:
        raise FioError(f"no JSON in fio's output: {report.strip()!r}")
    try:
        job = json.loads(report[start:])["jobs"][0]
        counters = job[direction]
        if job["error"]:
            raise FioError(f"job error {job['error']}: {os.strerror(job['error'])}")
        if not counters["total_ios"]:
            raise FioError("no request completed")
        percentiles = counters["lat_ns"]["percentile"]
        return Measurement(
            requests=int(counters["total_ios"]),
            iops=float(counters["iops"]),
            bytes_per_s=float(counters["bw_bytes"]),
            p50_us=percentiles["50.000000"] / 1000,
            p99_us=percentiles["99.000000"] / 1000,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise FioError(f"unexpected fio report: {error!r}") from error


def complaints(stdout: str, stderr: str) -> str:
    """The lines in which fio says what went wrong: all of stderr, and stdout before the JSON."""
    lines = stderr.splitlines() + stdout.partition("{")[0].splitlines()
    return "; ".join(line.strip() for line in lines if line.strip() not in ("", GREETING))


def run(cell: Cell, uri: str, size_bytes: int, seconds: float) -> Measurement:
    """Run fio to its end. Raises FioError for any failure, with everything fio printed about it."""
    process = subprocess.Popen(
        command(cell, uri, size_bytes, seconds),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        stdout, stderr = process.communicate(timeout=seconds + OVERHEAD_S)
    except subprocess.TimeoutExpired as error:
        raise FioError(f"fio still ran {OVERHEAD_S:g} s after its time") from error
    finally:
        # Not yet reaped, so the group id still is fio's.
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    said = complaints(stdout, stderr)
    if process.returncode != 0:
        raise FioError(f"fio exit status {process.returncode}: {said or 'no message'}")
    try:
        return parse(stdout, cell.direction)
    except FioError as error:
        raise FioError(f"{error}: {said}" if said else str(error)) from error
