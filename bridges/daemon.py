# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: a configuration brought to life, served until a signal, and taken down in order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from bridges.aoe.address import parse_address
from bridges.aoe.server import AoeServer
from bridges.aoe.sessions import AoeTargetError
from bridges.aoe.target import AoeTarget
from bridges.config import Config, DriverConfig, TargetConfig
from bridges.driver_attributes import (
    AoeAttributes,
    AoeTargetAttributes,
    LocalAttributes,
    NbdAttributes,
)
from bridges.local.server import LocalServer
from bridges.nbd.server import NbdServer
from bridges.scst_conf import ConfigError
from bridges.spin import Spinner
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target

_log = logging.getLogger(__name__)

# How long a stop waits for devices that hang; the others are flushed meanwhile.
_CLOSE_TIMEOUT_S = 30.0


class Server(Protocol):
    """A front-end with its sockets."""

    def start(self) -> None:
        """Open the doors; raises OSError."""

    async def stop(self) -> None:
        """Close them once everything under way is answered."""


def populate(backend: Backend, config: Config) -> None:
    """Open the devices and make the targets; raises ConfigError."""
    for device in config.devices:
        try:
            unit = backend.add_device(device.handler, device.name, device.attributes)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            message = f"device {device.name}: {where}{error.strerror}"
            raise ConfigError(device.location, message) from error
        if unit.block_count == 0:
            size = unit.vdisk.block_size_bytes
            message = f"device {device.name}: empty: expected at least one block of {size} bytes"
            raise ConfigError(device.location, message)
        _log.info(
            "device %s: %s, %d blocks of %d bytes",
            device.name,
            device.handler,
            unit.block_count,
            unit.vdisk.block_size_bytes,
        )
    for driver in config.drivers.values():
        for section in driver.targets:
            target = backend.add_target(driver.name, section.name)
            for lun in section.luns:
                unit = backend.devices[lun.device]
                target.add_lun(lun.number, LunEntry(unit, lun.is_read_only))
            target.is_enabled = section.attributes.enabled


@dataclass(frozen=True, slots=True)
class _Parts:
    """What servers are made from."""

    loop: asyncio.AbstractEventLoop
    backend: Backend
    spinner: Spinner


def _nbd(parts: _Parts, driver: DriverConfig) -> Iterable[Server]:
    assert isinstance(driver.attributes, NbdAttributes)
    server = NbdServer(parts.loop, parts.backend, driver.attributes.listen, parts.spinner)
    server.max_connections = driver.attributes.max_connections
    yield server


def _local(parts: _Parts, driver: DriverConfig) -> Iterable[Server]:
    assert isinstance(driver.attributes, LocalAttributes)
    yield LocalServer(parts.loop, parts.backend, driver.attributes.socket, parts.spinner)


def _aoe(parts: _Parts, driver: DriverConfig) -> Iterable[Server]:
    """One server for each interface; all of them lead to the same AoE targets."""
    assert isinstance(driver.attributes, AoeAttributes)
    targets: dict[tuple[int, int], Target | AoeTarget] = {
        parse_address(section.name): _aoe_target(parts, driver, section)
        for section in driver.targets
    }
    for interface in driver.attributes.interface:
        yield AoeServer(parts.loop, interface, targets)


def _aoe_target(parts: _Parts, driver: DriverConfig, section: TargetConfig) -> AoeTarget:
    assert isinstance(section.attributes, AoeTargetAttributes)
    backend_target = parts.backend.target(driver.name, section.name)
    try:
        target = AoeTarget(parse_address(section.name), backend_target, parts.loop)
    except AoeTargetError as error:
        raise ConfigError(section.location, f"target {error}") from error
    target.durable = section.attributes.durable
    if not target.durable:
        _log.warning(
            "target %s: durable 0: a power failure loses writes that were acknowledged,"
            " and Linux's aoe driver never asks for a flush",
            section.name,
        )
    return target


_SERVERS: Mapping[str, Callable[[_Parts, DriverConfig], Iterable[Server]]] = MappingProxyType(
    {"nbd": _nbd, "scst_local": _local, "aoe": _aoe}
)


class Daemon:
    """Owns the backend, the I/O engine and the servers, from start to stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: Config) -> None:
        self._loop = loop
        self._config = config
        self._engine = ThreadEngine(loop.call_soon)
        self._backend = Backend(self._engine)
        self._spinner = Spinner()
        self._servers: list[Server] = []

    async def start(self) -> None:
        """Open devices and doors; raises ConfigError or OSError, with nothing left open."""
        self._loop.add_reader(self._engine.fileno(), self._reap)
        try:
            populate(self._backend, self._config)
            parts = _Parts(self._loop, self._backend, self._spinner)
            for driver in self._config.drivers.values():
                for server in _SERVERS[driver.name](parts, driver):
                    server.start()
                    self._servers.append(server)
        except BaseException:
            await self.stop()
            raise

    def resync_sizes(self) -> None:
        """Take over the sizes of the devices' backing files and block devices."""
        for unit in self._backend.devices.values():
            try:
                if unit.resync_size():
                    _log.info("device %s: now %d blocks", unit.name, unit.block_count)
            except OSError as error:
                _log.error("device %s: size: %s", unit.name, error.strerror)

    def _reap(self) -> None:
        self._spinner.woke(self._engine)
        self._engine.reap()

    async def stop(self) -> bool:
        """Close the doors, finish what is under way, flush and close the devices.

        Tell whether everything written is on stable storage.
        """
        stops = (server.stop() for server in self._servers)
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if outcome is not None:
                # Whatever happened to a door, the devices are flushed.
                _log.error("a server did not stop in order", exc_info=outcome)
        self._servers.clear()
        self._loop.remove_reader(self._engine.fileno())
        return self._backend.close(_CLOSE_TIMEOUT_S)


async def serve(config: Config, on_ready: Callable[[], None]) -> bool:
    """Serve until SIGTERM or SIGINT; raises ConfigError or OSError if it cannot begin.

    SIGHUP makes it look at the sizes of the devices again.

    Tell whether everything written is on stable storage in the end.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, number, stopping)
    daemon = Daemon(loop, config)
    loop.add_signal_handler(signal.SIGHUP, daemon.resync_sizes)
    await daemon.start()
    on_ready()
    await stopping.wait()
    is_stable = await daemon.stop()
    _log.info("stopped")
    return is_stable


def _on_signal(number: signal.Signals, stopping: asyncio.Event) -> None:
    _log.info("%s: stopping", number.name)
    stopping.set()
