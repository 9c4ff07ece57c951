# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon's parts in this process, to be led from one configuration to another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridges.config import Config, interpret
from bridges.control_status import status_of
from bridges.daemon_change import Patience
from bridges.daemon_doors import Doors
from bridges.daemon_populate import populate
from bridges.daemon_running import Outcome, Running
from bridges.daemon_servers import Parts
from bridges.inherited import NOTHING_INHERITED
from bridges.scst_conf import parse, unparse
from bridges.spin import Spinner
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.target.backend import Backend
from tests.bridges.daemon_process import DEADLINE_S

DISK_BYTES = 1 << 20


class Site:
    """A folder with files of disks and sockets, and texts of configurations about them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nbd = folder / "nbd.sock"

    def image(self, name: str) -> Path:
        """A disk's file, which is made when it is asked for."""
        path = self.folder / f"{name}.img"
        if not path.exists():
            path.touch()
            os.truncate(path, DISK_BYTES)
        return path

    def disks(self, *names: str, attributes: str = "") -> str:
        """A handler with disks in files."""
        devices = "".join(
            f'DEVICE {name} {{\nfilename "{self.image(name)}"\n{attributes}}}\n' for name in names
        )
        return f"HANDLER vdisk_fileio {{\n{devices}}}\n"

    def driver(self, *targets: str) -> str:
        """An nbd driver on a unix socket."""
        return f"TARGET_DRIVER nbd {{\nlisten unix:{self.nbd}\n{''.join(targets)}}}\n"

    def is_open(self, name: str) -> bool:
        """Whether this process has a disk's file open."""
        links = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        path = str(self.image(name))
        return path in [os.readlink(link) for link in links if os.path.lexists(link)]


def target(name: str, *lines: str, is_enabled: bool = True) -> str:
    """A target with these lines."""
    text = "".join(f"{line}\n" for line in lines)
    return f"TARGET {name} {{\n{text}enabled {int(is_enabled)}\n}}\n"


def read(text: str, path: str = "new.conf") -> Config:
    """A configuration from its text."""
    return interpret(parse(text, path))


class Led:
    """The parts, running."""

    def __init__(self, backend: Backend, doors: Doors, running: Running) -> None:
        self.backend = backend
        self.doors = doors
        self.running = running

    async def apply(self, text: str, *, dry_run: bool = False) -> Outcome:
        """Take over a configuration."""
        return await self.running.apply(read(text), dry_run=dry_run)

    @property
    def text(self) -> str:
        """The configuration in force, as a file would have it."""
        return unparse(self.running.config.statements)

    def status(self) -> dict[str, Any]:
        """What is told of it all, but for memory that is kept for later."""
        handlers = {device.name: device.handler for device in self.running.config.devices}
        found = status_of(self.backend, handlers, self.doors.servers).model_dump()
        del found["sgv_idle_bytes"]
        return found


@asynccontextmanager
async def leading(text: str, patience: Patience | None = None) -> AsyncIterator[Led]:
    """Serve a configuration on the loop that is running."""
    loop = asyncio.get_running_loop()
    engine = ThreadEngine(loop.call_soon)
    loop.add_reader(engine.fileno(), engine.reap)
    backend = Backend(engine, None)
    part = engine.for_device()
    doors = Doors(
        Parts(loop, backend, Spinner(), NOTHING_INHERITED, lambda: None, lambda hook: None, part)
    )
    config = read(text, "old.conf")
    running = Running(loop, backend, doors, config, patience=patience or Patience())
    populate(backend, config)
    try:
        for driver in config.drivers.values():
            doors.open(driver)
        yield Led(backend, doors, running)
    finally:
        await running.end()
        await doors.close_all()
        loop.remove_reader(engine.fileno())
        backend.close(DEADLINE_S)


def lead(
    text: str, visit: Callable[[Led], Awaitable[None]], patience: Patience | None = None
) -> None:
    """Serve a configuration while ``visit`` does its work."""

    async def run() -> None:
        async with asyncio.timeout(DEADLINE_S), leading(text, patience) as led:
            await visit(led)

    asyncio.run(run())
