# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs for the two sides of the benchmark, and precedence on them.

Two hosts have a CPU each. Left to itself, the scheduler puts two sides that both sleep on one, and
the figures would be of its context switches.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Neighbours on the machine disturb less; it is the same for generator and servers.
NICENESS = -10
# What niceness is worth nothing without where sessions share the CPU first (sched(7)).
AUTOGROUP = Path("/proc/self/autogroup")


@dataclass(frozen=True, slots=True)
class Cpus:
    """The CPU of the servers' hosts and that of the generator's."""

    server: int
    generator: int

    @classmethod
    def available(cls) -> Cpus:
        """Two different ones, if there are two."""
        cpus = sorted(os.sched_getaffinity(0))
        return cls(cpus[0], cpus[min(1, len(cpus) - 1)])

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Put this process on the generator's CPU, with precedence that servers inherit."""
        allowed = os.sched_getaffinity(0)
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        group = _autogroup_niceness()
        try:
            os.sched_setaffinity(0, {self.generator})
            _prefer(NICENESS, NICENESS if group is not None else None)
            yield
        finally:
            _prefer(niceness, group)
            os.sched_setaffinity(0, allowed)


def _autogroup_niceness() -> int | None:
    """The niceness of this process's session; None where there is no such thing."""
    try:
        return parse_autogroup(AUTOGROUP.read_text())
    except (OSError, ValueError):
        return None


def parse_autogroup(text: str) -> int:
    """Read "/autogroup-25 nice 0". Raises ValueError for anything else."""
    return int(text.rpartition(" nice ")[2])


def _prefer(niceness: int, group: int | None) -> None:
    """Set both, where that is allowed; it is a nicety."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        if group is not None:
            AUTOGROUP.write_text(str(group))
