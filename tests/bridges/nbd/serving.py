# SPDX-License-Identifier: GPL-2.0-or-later
"""A live NBD server: asyncio's own loop in a thread, worker threads, real sockets.

The loop's clock can be put forward, so that no test waits for a time limit. Everything that
belongs to the loop's thread is reached through ``call``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from bridges.listen import Listen, TlsMode
from bridges.listeners import Address
from bridges.nbd.server import NbdServer
from bridges.tls import TlsCredentials
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.nbd.fakes import SpoilingSgv

ResultT = TypeVar("ResultT")

DEADLINE_S = 10.0


class SteppingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock runs ``skipped_s`` ahead."""

    skipped_s = 0.0

    def time(self) -> float:
        """See ``AbstractEventLoop.time``."""
        return super().time() + self.skipped_s


class Serving:
    """A server with one target per unit, in a thread of its own."""

    def __init__(
        self,
        units: dict[str, Callable[[Backend], LogicalUnit]],
        path: Path,
        tls: TlsMode = TlsMode.OFF,
        credentials: TlsCredentials | None = None,
    ) -> None:
        self.loop = SteppingLoop()
        self._thread = threading.Thread(target=self._run, name="nbd-server")
        self._thread.start()
        self.path = path
        self.sgv = SpoilingSgv()
        self.engine = self.call(self._start_engine)
        self.backend = Backend(self.engine)
        self.backend.sgv = self.sgv
        self.targets = [self._add_target(name, open_unit) for name, open_unit in units.items()]
        self._tls = tls
        self._credentials = credentials
        self.server = self.call(self._start_server)
        self.is_stopped = False

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _start_engine(self) -> ThreadEngine:
        engine = ThreadEngine(self.loop.call_soon)
        self.loop.add_reader(engine.fileno(), engine.reap)
        return engine

    def _add_target(self, name: str, open_unit: Callable[[Backend], LogicalUnit]) -> Target:
        target = self.backend.add_target("nbd", name)
        target.add_lun(0, LunEntry(open_unit(self.backend)))
        target.is_enabled = True
        return target

    def _start_server(self) -> NbdServer:
        addresses = (Address(host="127.0.0.1"), Address(path=str(self.path)))
        listens = [Listen(address, self._tls) for address in addresses]
        server = NbdServer(self.loop, self.backend, listens, credentials=self._credentials)
        server.start()
        return server

    def call(self, function: Callable[[], ResultT]) -> ResultT:
        """Call a function on the loop's thread; return or raise what it does."""
        future: Future[ResultT] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return future.result(DEADLINE_S)

    def skip(self, seconds: float) -> None:
        """Put the loop's clock forward."""

        def forward() -> None:
            self.loop.skipped_s += seconds

        self.call(forward)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition, looked at on the loop's thread, holds."""
        end_s = time.monotonic() + DEADLINE_S
        while not self.call(condition):
            assert time.monotonic() < end_s, "the condition did not come true in time"
            time.sleep(0.001)

    @property
    def sessions(self) -> int:
        """How many sessions all targets have."""
        return sum(len(target.sessions) for target in self.targets)

    def is_idle(self) -> bool:
        """Whether there is no connection, no session and no memory in use."""
        return not (self.server.connections or self.sessions or self.sgv.in_use)

    def tcp(self) -> socket.socket:
        """Connect over TCP."""
        address = self.server.addresses[0]
        return socket.create_connection((address.host, address.port), DEADLINE_S)

    def unix(self) -> socket.socket:
        """Connect to the unix socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(DEADLINE_S)
        sock.connect(str(self.path))
        return sock

    def begin_stop(self) -> Future[None]:
        """Begin to stop; the future ends when the server has."""
        self.is_stopped = True
        return asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop)

    def close(self) -> None:
        """Stop, and take the thread down."""
        try:
            if not self.is_stopped:
                self.begin_stop().result(DEADLINE_S)
            self.until(self.is_idle)
            self.call(lambda: self.loop.remove_reader(self.engine.fileno()))
            self.call(self.backend.close)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(DEADLINE_S)
            assert not self._thread.is_alive()
            self.loop.close()


def open_descriptors() -> Sequence[str]:
    """What this process has open, for comparison.

    Earlier tests leave objects in cycles; collecting first keeps theirs from going in between.
    """
    gc.collect()
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            # The descriptor with which the folder was read.
            continue
    return sorted(found)
