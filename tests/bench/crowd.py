# SPDX-License-Identifier: GPL-2.0-or-later
"""Many NBD connections at once, and what a process has open and in memory for them.

The connections are sockets of this process, so the limit on descriptors has to allow for them here
and in the server, which inherits it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bridges.nbd.client import Client

# A socket's time limit, while hundreds of others want the server's attention, too.
TIMEOUT_S = 60.0
# What a server and a benchmark have open besides connections.
SPARE_DESCRIPTORS = 200
PROBE_BYTES = 512
KIB = 1024


class LimitError(Exception):
    """The system does not allow for so many descriptors."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A process's resident and proportional set size (proc(5), smaps_rollup) in bytes."""

    rss_bytes: int
    pss_bytes: int

    def per_connection(self, before: Memory, connections: int) -> Memory:
        """How much each connection has added since `before`."""
        return Memory(
            (self.rss_bytes - before.rss_bytes) // connections,
            (self.pss_bytes - before.pss_bytes) // connections,
        )


def parse_memory(rollup: str) -> Memory:
    """Read the text of /proc/PID/smaps_rollup. Raises KeyError where a size is missing."""
    sizes = {}
    for line in rollup.splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) * KIB
    return Memory(sizes["Rss"], sizes["Pss"])


def memory_of(pid: int) -> Memory:
    """What a process has in memory now."""
    return parse_memory(Path(f"/proc/{pid}/smaps_rollup").read_text())


def descriptors_of(pid: int) -> int:
    """How many descriptors a process has open now."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def allow_connections(connections: int) -> None:
    """Raise the limit on descriptors, of this process and of those it starts from now on.

    Raises LimitError where the hard limit is too low and not ours to raise.
    """
    needed = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        is_enough = hard == resource.RLIM_INFINITY or hard >= needed
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard if is_enough else needed))
        except (ValueError, OSError) as error:
            text = f"needs {needed} descriptors, but RLIMIT_NOFILE ends at {hard}"
            raise LimitError(text) from error


@dataclass(slots=True)
class Crowd:
    """Connections that have chosen an export, and what went wrong with the others."""

    clients: list[Client] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def probe(self) -> None:
        """Read with each connection; those that cannot are errors."""
        for index, client in enumerate(self.clients):
            with self._noting(f"idle connection {index}"):
                client.read(0, PROBE_BYTES)

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        # The test client says by assertion what it did not expect.
        except (OSError, EOFError, AssertionError) as error:
            self.errors.append(f"{what}: {error!r}")

    def open(self, path: Path, export: str, count: int, stack: contextlib.ExitStack) -> None:
        """Connect to a unix socket so many times, and only then shake hands on each."""
        connected = []
        for index in range(count):
            with self._noting(f"connecting {index}"):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.settimeout(TIMEOUT_S)
                sock.connect(str(path))
                connected.append(Client(sock))
        for index, client in enumerate(connected):
            with self._noting(f"handshake {index}"):
                self.clients.append(client.begin(export))


@contextlib.contextmanager
def crowd(path: Path, export: str, count: int) -> Iterator[Crowd]:
    """So many connections to a unix socket, which are hung up in the end."""
    with contextlib.ExitStack() as stack:
        gathered = Crowd()
        gathered.open(path, export, count, stack)
        yield gathered
