# SPDX-License-Identifier: GPL-2.0-or-later
"""A server on its own host, and the generator's end of the link: started, checked and measured.

Owns hosts and processes; all are gone when its contexts end.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.aoe.cells import SECTOR_BYTES, AoeCell
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
from tests.interop.netns import Host, Network, veth_network

SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 4 << 20
# pidfd_getfd(2), which has this number on every architecture but alpha.
SYS_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back, so that nothing is left half made or half removed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def link(mtu: int) -> Iterator[Network]:
    """Two hosts with a link between them, which go even if the program is interrupted.

    Raises ServerError where that is not allowed.
    """
    with ExitStack() as stack:
        with undisturbed():
            try:
                network = stack.enter_context(veth_network(mtu))
            except pytest.skip.Exception as error:
                raise ServerError(str(error)) from error
        try:
            yield network
        finally:
            with undisturbed():
                stack.close()


def enlarge_receive_buffers(pid: int) -> int:
    """Give a process's packet sockets room for a window of large frames; returns how many.

    vblade's README has net.core.rmem_max raised for that; this leaves the rest of the host alone.
    """
    enlarged = 0
    process = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            descriptor = _libc.syscall(SYS_PIDFD_GETFD, process, int(name), 0)
            if descriptor < 0:
                code = ctypes.get_errno()
                if code == errno.EBADF:
                    continue
                raise OSError(code, os.strerror(code))
            enlarged += _enlarge(descriptor)
    finally:
        os.close(process)
    return enlarged


def _enlarge(descriptor: int) -> int:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return 0
    with sock:
        room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        if sock.family != socket.AF_PACKET or room >= RECEIVE_BYTES:
            return 0
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    return 1


@dataclass(frozen=True, slots=True)
class Station:
    """One running server, and the host that the load comes from."""

    server: AoeServer
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
    command = network.target.command(*server.command(place))
    with ExitStack() as stack:
        try:
            group = spawn(("taskset", "-c", str(cpu), *command), log)
            stack.callback(group.stop)
            running = RunningServer("", (group,), log)
            route, sectors = _check(server, place, network, group, disk_sectors)
        except (LoadError, OSError, ValueError) as error:
            raise ServerError(f"{error}: {last_line(log)}") from error
        yield Station(server, network.client, running, route, sectors, disk_sectors, place.mtu)


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
            for count in sorted({2, 16 if sectors >= 16 else 2}):
                verify(sock, route, count, disk_sectors, place.image)
    return route, sectors
