# SPDX-License-Identifier: GPL-2.0-or-later
"""A server on its own host, and the generator's end of the link: started, checked and measured.

Owns the server's process, which is gone when the context ends.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.aoe.buffers import RECEIVE_BYTES, SO_RCVBUFFORCE, enlarge_receive_buffers
from tests.bench.aoe.cells import MTU_OF, SECTOR_BYTES, AoeCell
from tests.bench.aoe.checks import find_target, packet_socket, verify
from tests.bench.aoe.frames import ETHERTYPE, Route
from tests.bench.aoe.generator import Generator
from tests.bench.aoe.rings import open_ring
from tests.bench.aoe.servers import AoeServer, Place, scst_config
from tests.bench.client import LoadError
from tests.bench.processes import (
    START_DEADLINE_S,
    ProcessGroup,
    RunningServer,
    ServerError,
    last_line,
    spawn,
)
from tests.bench.rounds import Measured
from tests.interop.netns import Host, Network


@dataclass(frozen=True, slots=True)
class Station:
    """One running server, and the host that the load comes from.

    `sectors` is what the server takes in one frame.
    """

    client: Host
    process: RunningServer
    route: Route
    sectors: int
    disk_sectors: int
    mtu: int

    def measure(self, cell: AoeCell, seconds: float) -> Measured:
        """One run. Raises LoadError where it failed, ServerError where the server has ended."""
        if self.sectors < cell.sectors:
            raise LoadError(f"takes {self.sectors} sectors in a frame, not {cell.sectors}")
        self.process.check()
        with (
            self.client.entered(),
            open_ring(self.client.interface, ETHERTYPE, self.mtu) as ring,
        ):
            generator = Generator(ring, self.route, cell, self.disk_sectors)
            before_s = self.process.cpu_s()
            try:
                measurement = generator.run(seconds)
            except LoadError:
                # A server that died is the cause; frames without a reply only the effect.
                self.process.check()
                raise
        cpu_s = self.process.cpu_s() - before_s
        return measurement, cpu_s * 1e6 / measurement.requests


@contextmanager
def station(
    server: AoeServer, place: Place, network: Network, log: Path, cpu: int
) -> Iterator[Station]:
    """Start a server on a CPU and check what it stores. Raises ServerError where that fails."""
    disk_sectors = place.image.stat().st_size // SECTOR_BYTES
    place.config.write_text(scst_config(place))
    command = ("taskset", "-c", str(cpu), *network.target.command(*server.command(place)))
    with ExitStack() as stack:
        try:
            group = spawn(command, log)
            stack.callback(group.stop)
            route, sectors = _check(server, place, network, group, disk_sectors)
        except (LoadError, OSError, ValueError) as error:
            raise ServerError(f"{error}: {last_line(log)}") from error
        process = RunningServer("", (group,), log)
        yield Station(network.client, process, route, sectors, disk_sectors, place.mtu)


def _check(
    server: AoeServer, place: Place, network: Network, group: ProcessGroup, disk_sectors: int
) -> tuple[Route, int]:
    """Wait for the server, and try it out; returns the way to it, and its sector count."""
    client = network.client
    with client.entered(), packet_socket(client.interface) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
        route, sectors = find_target(sock, group.has_exited, START_DEADLINE_S)
        enlarge_receive_buffers(group.pid)
        if server.stores:
            for count, mtu in MTU_OF.items():
                if mtu <= place.mtu and count <= sectors:
                    verify(sock, route, count, disk_sectors, place.image)
    return route, sectors
