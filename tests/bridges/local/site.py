# SPDX-License-Identifier: GPL-2.0-or-later
"""A local server that runs on an event loop in a thread of its own, for blocking clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from bridges.local.server import DRIVER, LocalServer
from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.servers.disk import disk
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.sgv import CountingSgv

ResultT = TypeVar("ResultT")

DEADLINE_S = 30.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition until it holds; fails the test where it does not in time."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"timed out: {what}"
        time.sleep(0.001)


class Site:
    """A backend with a threaded engine, and a server; everything of theirs runs on ``loop``."""

    def __init__(
        self,
        folder: Path,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        *,
        hello_timeout_s: float = 10.0,
        stop_timeout_s: float = 10.0,
    ) -> None:
        self._folder = folder
        self.path = str(folder / "local.sock")
        self.loop = new_loop()
        self.engine = ThreadEngine(self.loop.call_soon)
        self.backend = Backend(self.engine)
        self.sgv = CountingSgv()
        self.backend.sgv = self.sgv
        self.server = LocalServer(
            self.loop,
            self.backend,
            self.path,
            hello_timeout_s=hello_timeout_s,
            stop_timeout_s=stop_timeout_s,
        )
        self._thread = threading.Thread(target=self._run, name="site")

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.add_reader(self.engine.fileno(), self.engine.reap)
        self.loop.run_forever()
        self.loop.remove_reader(self.engine.fileno())
        self.backend.close()
        self.loop.close()

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()
        self.call(self.server.start)

    def call(self, function: Callable[[], ResultT]) -> ResultT:
        """Call a function on the loop's thread and return what it returns or raises."""
        future: Future[ResultT] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return future.result(DEADLINE_S)

    def begin_stop(self) -> Future[None]:
        """Begin to stop the server; the future ends when it has."""
        return asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop)

    def close(self) -> None:
        """Stop the server and the loop."""
        self.begin_stop().result(DEADLINE_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def add_target(self, name: str, *vdisks: Vdisk, is_enabled: bool = True) -> Target:
        """Add a target whose LUNs are these disks; to be called before ``start``."""
        target = self.backend.add_target(DRIVER, name)
        for lun, vdisk in enumerate(vdisks):
            target.add_lun(lun, LunEntry(disk(vdisk)))
        target.is_enabled = is_enabled
        return target

    def add_file_target(self, name: str, size_bytes: int) -> Target:
        """Add a target whose LUN 0 is a file, as device ``NAME-disk``; before ``start``."""
        file = self._folder / f"{name}.img"
        with file.open("wb") as image:
            image.truncate(size_bytes)
        unit = self.backend.add_device(
            "vdisk_fileio", f"{name}-disk", FileioAttributes(filename=str(file))
        )
        target = self.backend.add_target(DRIVER, name)
        target.add_lun(0, LunEntry(unit))
        target.is_enabled = True
        return target

    def wait_for_no_sessions(self) -> None:
        """Wait until every connection has ended and every buffer is back."""
        wait_until(
            lambda: (
                self.server.connections == 0
                and not any(target.sessions for target in self.backend.targets)
                and not self.sgv.in_use
            ),
            "sessions and buffers are let go of",
        )
