# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers of a daemon by target driver: opened, closed, and led after the configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from bridges.aoe.state import KeptState
from bridges.config import DriverConfig
from bridges.daemon_exports import ExportChange, Exports, exports_of
from bridges.daemon_servers import Parts, Server, servers_of
from bridges.local.tcmu.server import KernelServer
from bridges.scst_conf import ConfigError

_log = logging.getLogger(__name__)

_LAST: Final = "aoe"


@dataclass(slots=True)
class _Door:
    """A driver's servers, and what is to be read again for them when the daemon is asked to."""

    servers: list[Server] = field(default_factory=list)
    reload_hooks: list[Callable[[], object]] = field(default_factory=list)
    aoe_states: dict[str, KeptState] = field(default_factory=dict)
    closing: asyncio.Task[None] | None = None


class Doors:
    """Owns the servers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._doors: dict[str, _Door] = {}

    @property
    def servers(self) -> Mapping[str, Sequence[Server]]:
        """The servers by driver."""
        return MappingProxyType({name: door.servers for name, door in self._doors.items()})

    def open(self, driver: DriverConfig) -> None:
        """Start the servers of a driver; raises ConfigError or OSError.

        After a failure, ``close`` stops those that have been started.
        """
        if driver.name in self._doors:
            message = f"driver {driver.name}: its connections are still being closed: try again"
            raise ConfigError(driver.location, message)
        door = self._doors[driver.name] = _Door()
        for server in servers_of(self._parts_of(door), driver):
            door.servers.append(server)

    def _parts_of(self, door: _Door) -> Parts:
        return replace(self._parts, on_reload=door.reload_hooks.append, aoe_states=door.aoe_states)

    def exports(self, change: ExportChange) -> Exports:
        """Prepare the servers of a driver for other targets; raises ConfigError."""
        door = self._doors[change.driver.name]
        return exports_of(self._parts_of(door), door.servers, change)

    async def close(self, name: str) -> None:
        """Stop the servers of a driver, if there are any, once what is under way is answered."""
        door = self._doors.get(name)
        if door is None:
            return
        if door.closing is None:
            door.closing = self._parts.loop.create_task(self._close(name, door))
        await asyncio.wait((door.closing,))

    async def close_all(self) -> None:
        """Stop all servers."""
        # Those last that have devices reserved against what the others may still have to do.
        for is_last in (False, True):
            names = [name for name in self._doors if (name == _LAST) is is_last]
            await asyncio.gather(*map(self.close, names))

    async def _close(self, name: str, door: _Door) -> None:
        door.reload_hooks.clear()
        stops = (server.stop() for server in door.servers)
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if outcome is not None:
                # Whatever happened to a door, the devices are flushed.
                _log.error("a server did not stop in order", exc_info=outcome)
        del self._doors[name]

    async def settled(self) -> None:
        """Return when the kernel has its disks, or the log says why not."""
        for server in self._all():
            if isinstance(server, KernelServer):
                await server.settled()

    def reload(self) -> None:
        """Have read again what there is to be read again; each reports its own failure."""
        for door in self._doors.values():
            for hook in tuple(door.reload_hooks):
                hook()

    def _all(self) -> Iterator[Server]:
        for door in tuple(self._doors.values()):
            yield from door.servers
