# SPDX-License-Identifier: GPL-2.0-or-later
"""What the clients that make load have in common: how one is run, and what it measured.

Knows neither servers nor any client's options (fio.py, nbdcopy.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# A client's start, its connections and its report, on a machine that is busy with other things.
OVERHEAD_S = 30.0


class LoadError(Exception):
    """A client failed, or measured nothing; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Load:
    """What all cells of one benchmark share: the disk's size, how long to run, data to write."""

    size_bytes: int
    seconds: float
    source: Path


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the client saw during one run; latencies in microseconds, None where not measured.

    `idle_share` is the part of its CPU time in which the client did nothing but wait for replies,
    `preempted_share` the part of the run in which others had its CPU.
    """

    requests: int
    iops: float
    bytes_per_s: float
    p50_us: float | None
    p99_us: float | None
    idle_share: float | None = None
    preempted_share: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A client that ran to its end."""

    status: int
    stdout: str
    stderr: str


def run_to_end(command: Sequence[str], timeout_s: float) -> Finished:
    """Run a client in a process group of its own, of which nothing is left in the end.

    Raises LoadError when it is not installed, or does not end within `timeout_s`.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
    except FileNotFoundError as error:
        raise LoadError(f"{command[0]} is not installed") from error
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{command[0]} still ran after {timeout_s:g} s") from error
    finally:
        # Not yet reaped, so the group id still is the client's.
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Finished(process.returncode, stdout, stderr)
