# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's cells: one table of the kinds of load that every server is put under.

Data only. fio.py and nbdcopy.py know how to make the load, servers.py whom it goes to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

KIB = 1 << 10
MIB = 1 << 20


class AnyCell(Protocol):
    """What results, rounds and tables have to know of a cell, whichever benchmark it is of."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def block_bytes(self) -> int: ...

    @property
    def is_tls(self) -> bool: ...

    @property
    def is_sequential(self) -> bool: ...

    @property
    def is_serial(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of load: `connections`, each with `queue_depth` requests of `block_bytes`.

    A quick run measures the `is_basic` cells on every server, the others on the main ones.
    """

    name: str
    title: str
    rw: str
    block_bytes: int
    queue_depth: int
    connections: int = 1
    is_tls: bool = False
    is_basic: bool = False

    @property
    def direction(self) -> str:
        """The section of fio's report that counts this load: "read" or "write"."""
        return self.rw.removeprefix("rand")

    @property
    def is_sequential(self) -> bool:
        """Whether requests follow one another on the disk; their rate is given in bytes."""
        return not self.rw.startswith("rand")

    @property
    def is_serial(self) -> bool:
        """Whether the client waits for each reply, so that latency is the server's own."""
        return self.queue_depth == self.connections == 1


CELLS = (
    Cell("randread-qd1", "4k read QD1", "randread", 4 * KIB, 1, is_basic=True),
    Cell("randwrite-qd1", "4k write QD1", "randwrite", 4 * KIB, 1, is_basic=True),
    Cell("randread-qd32", "4k read QD32", "randread", 4 * KIB, 32, is_basic=True),
    Cell("randwrite-qd32", "4k write QD32", "randwrite", 4 * KIB, 32, is_basic=True),
    Cell("randread-x4", "4k read 4 x QD8", "randread", 4 * KIB, 8, connections=4),
    Cell("randwrite-x4", "4k write 4 x QD8", "randwrite", 4 * KIB, 8, connections=4),
    Cell("randread-64k", "64k read QD16", "randread", 64 * KIB, 16),
    Cell("randwrite-64k", "64k write QD16", "randwrite", 64 * KIB, 16),
    Cell("read-qd8", "1M read QD8", "read", MIB, 8, is_basic=True),
    Cell("write-qd8", "1M write QD8", "write", MIB, 8, is_basic=True),
    Cell("read-x4", "1M read 4 x QD2", "read", MIB, 2, connections=4),
    Cell("write-x4", "1M write 4 x QD2", "write", MIB, 2, connections=4),
    Cell("read-tls", "1M read QD8 TLS", "read", MIB, 8, is_tls=True),
    Cell("write-tls", "1M write QD8 TLS", "write", MIB, 8, is_tls=True),
)
