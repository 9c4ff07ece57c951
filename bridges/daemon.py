# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: a configuration brought to life, served until a signal, and taken down in order."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bridges.aoe.server import AoeServer
from bridges.config import Config
from bridges.config_alua import DeviceGroupConfig
from bridges.control import DEFAULT_CONTROL_SOCKET, Command, ControlServer
from bridges.control_alua import alua_set_command
from bridges.control_reservations import reservations_command
from bridges.control_status import status_of
from bridges.daemon_servers import Parts, Server, servers_of, starting_order
from bridges.inherited import NOTHING_INHERITED, Inherited, InheritedError
from bridges.local.tcmu.server import KernelServer
from bridges.nbd.exports import DRIVER as NBD
from bridges.scst_conf import ConfigError
from bridges.spin import Spinner
from bridges.thin_watch import ThinWatch
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.target.backend import Backend
from scsi_backend.target.device_group import RemotePort, TargetGroup
from scsi_backend.target.lun_map import LunEntry

_log = logging.getLogger(__name__)

# How long a stop waits for devices that hang; the others are flushed meanwhile.
_CLOSE_TIMEOUT_S = 30.0


def populate(backend: Backend, config: Config) -> None:
    """Open the devices and make the targets; raises ConfigError."""
    for caution in config.cautions():
        _log.warning("%s", caution)
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
    numbers = config.relative_target_ports()
    for driver in config.drivers.values():
        for section in driver.targets:
            number = numbers[driver.name, section.name]
            target = backend.add_target(driver.name, section.name, number)
            for lun in section.luns:
                unit = backend.devices[lun.device]
                target.add_lun(lun.number, LunEntry(unit, lun.is_read_only))
            target.is_enabled = section.attributes.enabled
    for device_group in config.device_groups:
        _populate_group(backend, device_group)


def _populate_group(backend: Backend, section: DeviceGroupConfig) -> None:
    group = backend.add_device_group(section.name)
    targets = {target.name: target for target in backend.targets}
    for part in section.target_groups:
        ports = (
            targets[port.name]
            if port.rel_tgt_id is None
            else RemotePort(port.name, port.rel_tgt_id)
            for port in part.targets
        )
        attributes = part.attributes
        group.add_target_group(
            TargetGroup(
                part.name,
                attributes.group_id,
                ports,
                state=attributes.state,
                is_preferred=attributes.preferred,
            )
        )
    for name in section.devices:
        group.add_device(backend.devices[name])


@dataclass(frozen=True, slots=True)
class ControlSocket:
    """Where the control socket is to be; one that nobody asked for may be missing."""

    path: str = DEFAULT_CONTROL_SOCKET
    is_required: bool = False


class Daemon:
    """Owns the backend, the I/O engine and the servers, from start to stop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        *,
        inherited: Inherited = NOTHING_INHERITED,
        control: ControlSocket | None = None,
        client_left: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._config = config
        self._inherited = inherited
        self._control = control
        self._client_left = client_left
        self._engine = ThreadEngine(loop.call_soon)
        self._backend = Backend(self._engine)
        self._spinner = Spinner()
        self._servers: dict[str, list[Server]] = {}
        self._control_server: ControlServer | None = None
        self._thin_watch: ThinWatch | None = None
        # What else is to be read again at SIGHUP; each reports its own failure.
        self._reload_hooks: list[Callable[[], object]] = []

    async def start(self) -> None:
        """Open devices and doors.

        Raises ConfigError, InheritedError or OSError, with nothing left open.
        """
        self._loop.add_reader(self._engine.fileno(), self._reap)
        try:
            self._check_inherited()
            populate(self._backend, self._config)
            self._thin_watch = ThinWatch(self._loop, self._backend.devices.values())
            self._thin_watch.start()
            parts = Parts(
                self._loop,
                self._backend,
                self._spinner,
                self._inherited,
                self._client_left,
                self._reload_hooks.append,
            )
            for driver in starting_order(self._config.drivers.values()):
                started = self._servers.setdefault(driver.name, [])
                for server in servers_of(parts, driver):
                    started.append(server)
            self._open_control()
            for server in self._all_servers():
                if isinstance(server, KernelServer):
                    await server.settled()
        except BaseException:
            await self.stop()
            raise

    def _check_inherited(self) -> None:
        has_sockets = self._inherited.listening or self._inherited.stdio is not None
        if has_sockets and NBD not in self._config.drivers:
            raise InheritedError("sockets were passed: expected a TARGET_DRIVER nbd to take them")

    def _open_control(self) -> None:
        control = self._control
        if control is None:
            return
        commands: dict[str, Command] = {
            "status": self._status,
            "alua_set": alua_set_command(self._backend),
            "reservations": reservations_command(self._backend),
        }
        server = ControlServer(self._loop, self._backend.sgv, control.path, commands)
        try:
            server.start()
        except OSError as error:
            if control.is_required:
                raise
            _log.warning("no control socket: %s", error.strerror)
            return
        self._control_server = server

    async def _status(self, arguments: Mapping[str, Any]) -> object:
        handlers = {device.name: device.handler for device in self._config.devices}
        return status_of(self._backend, handlers, self._servers).model_dump(mode="json")

    def reload(self) -> None:
        """Take over what has changed outside: sizes of devices, and what the hooks are for."""
        self.resync_sizes()
        for hook in self._reload_hooks:
            hook()

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

    def _all_servers(self) -> list[Server]:
        return [server for each in self._servers.values() for server in each]

    async def stop(self) -> bool:
        """Close the doors, finish what is under way, flush and close the devices.

        Tell whether everything written is on stable storage.
        """
        # A command that formats or sanitizes would keep its door waiting.
        self._backend.stop_operations()
        if self._thin_watch is not None:
            self._thin_watch.stop()
        servers = self._all_servers()
        if self._control_server is not None:
            servers.append(self._control_server)
        # Those last that have devices reserved against what the others may still have to do.
        for is_last in (False, True):
            stops = (
                server.stop() for server in servers if isinstance(server, AoeServer) is is_last
            )
            for outcome in await asyncio.gather(*stops, return_exceptions=True):
                if outcome is not None:
                    # Whatever happened to a door, the devices are flushed.
                    _log.error("a server did not stop in order", exc_info=outcome)
        self._servers.clear()
        self._loop.remove_reader(self._engine.fileno())
        return self._backend.close(_CLOSE_TIMEOUT_S)


async def serve(
    config: Config,
    on_ready: Callable[[], None],
    *,
    inherited: Inherited = NOTHING_INHERITED,
    control: ControlSocket | None = None,
) -> bool:
    """Serve until SIGTERM or SIGINT, or until the client on stdio has left.

    SIGHUP makes it look at the sizes of the devices again, and at whatever else can be reloaded.
    Raises ConfigError, InheritedError or OSError if it cannot begin.

    Tell whether everything written is on stable storage in the end.
    """
    _allow_many_connections()
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, number, stopping)
    daemon = Daemon(loop, config, inherited=inherited, control=control, client_left=stopping.set)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    await daemon.start()
    on_ready()
    await stopping.wait()
    is_stable = await daemon.stop()
    _log.info("stopped")
    return is_stable


def _on_signal(number: signal.Signals, stopping: asyncio.Event) -> None:
    _log.info("%s: stopping", number.name)
    stopping.set()


def _allow_many_connections() -> None:
    """Take all the descriptors that are to be had: the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Refused where fs.nr_open has become smaller than the hard limit; then there are fewer.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
