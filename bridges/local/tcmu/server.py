# SPDX-License-Identifier: GPL-2.0-or-later
"""The targets with ``kernel 1``: their LUNs as SCSI disks of this host while the daemon runs.

The disks come up and go down beside the other doors: the kernel's scan of a new disk is answered
by the same loop. What cannot be done is logged and leaves everything else as it is.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from bridges.local.tcmu import netlink
from bridges.local.tcmu.configfs import Configfs, FoundDevice, KernelError
from bridges.local.tcmu.disk import KernelDisk
from bridges.local.tcmu.kernel import prepare
from bridges.local.tcmu.leftover import remove_left
from bridges.local.tcmu.naming import LunName
from bridges.local.tcmu.netlink import NetlinkError
from bridges.local.tcmu.off_loop import off_loop
from bridges.local.tcmu.sysfs import Sysfs
from bridges.spin import Spinner
from scsi_backend.io.syscalls import become_io_flusher
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target

_log = logging.getLogger(__name__)

# How long a start waits for the kernel to make the disks, and a stop for it to let go of them.
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class KernelExport:
    """A target whose LUNs are to be disks, and its attributes."""

    target: Target
    session_name: str
    cmd_time_out_s: int


class KernelServer:
    """Owns the disks, and the kernel's session with each target."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        exports: Iterable[KernelExport],
        spinner: Spinner,
        *,
        configfs: Configfs | None = None,
        sysfs: Sysfs | None = None,
        check: Callable[[Sysfs], None] = prepare,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._loop = loop
        self._exports = tuple(exports)
        self._spinner = spinner
        self._configfs = configfs or Configfs()
        self._sysfs = sysfs or Sysfs()
        self._check = check
        self._timeout_s = timeout_s
        self._sessions: list[Session] = []
        self._disks: list[KernelDisk] = []
        self._events: socket.socket | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def disks(self) -> tuple[KernelDisk, ...]:
        """What is served."""
        return tuple(disk for disk in self._disks if disk.is_served)

    def start(self) -> None:
        """Begin to make the disks, or to take over what another daemon has left."""
        if self._exports:
            # Memory that this process needs must not wait for its own disks. Threads have it from
            # who starts them, so it is said before there is anything to do for them.
            become_io_flusher()
        self._starting = self._loop.create_task(self._start())
        self._starting.add_done_callback(_report)

    async def started(self) -> None:
        """Return when every disk is there, or the log says why not.

        A kernel that is stuck is not waited for: whoever starts the daemon could not stop it.
        """
        if self._starting is not None:
            _, late = await asyncio.wait((self._starting,), timeout=self._timeout_s)
            if late:
                _log.error("the kernel takes long to make its disks: not waited for")

    async def _start(self) -> None:
        try:
            await off_loop(partial(self._check, self._sysfs))
            await off_loop(self._configfs.claim)
        except KernelError as error:
            names = ", ".join(export.target.name for export in self._exports)
            _log.error("no kernel disks for target %s: %s", names, error)
            return
        self._listen()
        wanted = {disk.config: disk for export in self._exports for disk in self._make(export)}
        left: dict[LunName, FoundDevice] = {}
        taken: set[LunName] = set()
        for found in await off_loop(self._configfs.found):
            # One that no LUN leads to may have been left before its attributes were set.
            is_whole = found.is_enabled and self._configfs.is_mapped(found.config.name, found)
            if is_whole and found.config in wanted:
                left[found.config.name] = found
            elif not await self._remove(found):
                taken.add(found.config.name)
        for disk in wanted.values():
            if disk.name in taken:
                _log.error("%s: no kernel disk: another one is in its place", disk.name)
            else:
                await self._bring_up(disk, left.get(disk.name))

    def _listen(self) -> None:
        try:
            self._events = netlink.open_events()
        except (OSError, NetlinkError) as error:
            _log.warning("kernel disks will keep their sizes: %s", error)
        else:
            self._loop.add_reader(self._events, netlink.drain, self._events)

    def _make(self, export: KernelExport) -> Iterator[KernelDisk]:
        session = export.target.open_session(export.session_name)
        self._sessions.append(session)
        for lun, entry in sorted(export.target.luns.items()):
            disk = KernelDisk(
                self._loop,
                self._configfs,
                self._sysfs,
                self._spinner,
                LunName(export.target.name, lun),
                entry,
                session,
                export,
            )
            self._disks.append(disk)
            yield disk

    async def _remove(self, found: FoundDevice) -> bool:
        try:
            return await remove_left(self._loop, self._configfs, self._sysfs, self._spinner, found)
        except (KernelError, OSError) as error:
            _log.error("%s: what was left of it stays: %s", found.config.name, error)
            return False

    async def _bring_up(self, disk: KernelDisk, left: FoundDevice | None) -> None:
        try:
            await disk.bring_up(left)
        except KernelError as error:
            _log.error("%s: no kernel disk: %s", disk.name, error)

    def look_at_sizes(self) -> None:
        """Let the kernel know of devices that have another size now."""
        for disk in self._disks:
            disk.look_at_size()

    async def stop(self) -> None:
        """Remove the disks after the kernel has flushed them; those in use stay.

        It ends in time, whatever the kernel does.
        """
        try:
            await asyncio.wait_for(self._take_down(), self._timeout_s)
        except TimeoutError:
            _log.error("the kernel does not let go of its disks: left to the next start")
            if self._starting is not None:
                self._starting.cancel()
        for disk in self._disks:
            disk.abandon()
        if self._events is not None:
            self._loop.remove_reader(self._events)
            self._events.close()
            self._events = None
        for session in self._sessions:
            session.close()
        self._sessions.clear()
        self._disks.clear()

    async def _take_down(self) -> None:
        if self._starting is not None:
            await asyncio.wait((self._starting,))
        for disk in reversed(self._disks):
            try:
                if disk.is_served and await disk.take_down():
                    _log.info("%s: %s is removed", disk.name, disk.disk)
            except (KernelError, OSError) as error:
                _log.error("%s: %s", disk.name, error)
        for export in self._exports:
            try:
                await off_loop(partial(self._configfs.remove_port, export.target.name))
            except (KernelError, OSError) as error:
                _log.error("target %s: %s", export.target.name, error)
        await off_loop(self._configfs.release)


def _report(task: asyncio.Task[None]) -> None:
    """Log what should not have happened; the other doors are open in spite of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("kernel disks: the start failed", exc_info=error)
