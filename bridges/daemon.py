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

from bridges.config import Config
from bridges.control import DEFAULT_CONTROL_SOCKET, Command, ControlServer
from bridges.control_alua import alua_set_command
from bridges.control_config import config_commands
from bridges.control_reservations import reservations_command
from bridges.control_status import status_of
from bridges.daemon_doors import Doors
from bridges.daemon_populate import populate
from bridges.daemon_running import Running
from bridges.daemon_servers import Parts, starting_order
from bridges.inherited import NOTHING_INHERITED, Inherited, InheritedError
from bridges.nbd.exports import DRIVER as NBD
from bridges.spin import Spinner
from bridges.thin_watch import ThinWatch
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.target.backend import Backend

_log = logging.getLogger(__name__)

# How long a stop waits for devices that hang; the others are flushed meanwhile.
_CLOSE_TIMEOUT_S = 30.0


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
        self._inherited = inherited
        self._control = control
        self._engine = ThreadEngine(loop.call_soon)
        self._backend = Backend(self._engine)
        self._thin_watch = ThinWatch(loop)
        parts = Parts(
            loop,
            self._backend,
            Spinner(),
            inherited,
            client_left,
            lambda hook: None,
            self._engine.for_device(),
        )
        self._spinner = parts.spinner
        self._doors = Doors(parts)
        self._running = Running(
            loop,
            self._backend,
            self._doors,
            config,
            check=self._check_inherited,
            changed=self._devices_changed,
        )
        self._control_server: ControlServer | None = None

    async def start(self) -> None:
        """Open devices and doors.

        Raises ConfigError, InheritedError or OSError, with nothing left open.
        """
        self._loop.add_reader(self._engine.fileno(), self._reap)
        config = self._running.config
        try:
            self._check_inherited(config)
            populate(self._backend, config)
            self._devices_changed()
            for driver in starting_order(config.drivers.values()):
                self._doors.open(driver)
            self._open_control()
            await self._doors.settled()
        except BaseException:
            await self.stop()
            raise

    def _check_inherited(self, config: Config) -> None:
        has_sockets = self._inherited.listening or self._inherited.stdio is not None
        if has_sockets and NBD not in config.drivers:
            raise InheritedError("sockets were passed: expected a TARGET_DRIVER nbd to take them")

    def _devices_changed(self) -> None:
        self._thin_watch.watch(self._backend.devices.values())

    def _open_control(self) -> None:
        control = self._control
        if control is None:
            return
        commands: dict[str, Command] = {
            "status": self._status,
            "alua_set": alua_set_command(self._backend, self._running.note),
            **config_commands(self._running),
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
        handlers = {device.name: device.handler for device in self._running.config.devices}
        return status_of(self._backend, handlers, self._doors.servers).model_dump(mode="json")

    def reload(self) -> None:
        """Take over what has changed outside: sizes of devices, and what the hooks are for."""
        self.resync_sizes()
        self._doors.reload()

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
        # A command that formats or sanitizes would keep its door waiting.
        self._backend.stop_operations()
        await self._running.end()
        self._thin_watch.stop()
        stops = [self._doors.close_all()]
        if self._control_server is not None:
            stops.append(self._control_server.stop())
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if outcome is not None:
                # Whatever happened to a door, the devices are flushed.
                _log.error("a server did not stop in order", exc_info=outcome)
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
