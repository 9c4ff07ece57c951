# SPDX-License-Identifier: GPL-2.0-or-later
"""The targets with ``kernel 1``: their LUNs as SCSI disks of this host while the daemon runs.

The disks come up and go down beside the other doors: the kernel's scan of a new disk is answered
by the same loop. What cannot be done is logged and leaves everything else as it is.

They follow every change of the LUN maps. A LUN is gone when the map says so, and only then is the
kernel told: commands fail at once, and so do the writes of what the kernel has not written yet,
which it only has of a disk that is open. One that is mounted stays, failing, until it is let go,
and goes on if the same LUN comes back. One that nobody uses is removed, and made anew where another
device or access is in its place.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

from bridges.local.tcmu import netlink
from bridges.local.tcmu.configfs import Configfs, FoundDevice, KernelError
from bridges.local.tcmu.disk import KernelDisk
from bridges.local.tcmu.kernel import prepare
from bridges.local.tcmu.lead import Lead
from bridges.local.tcmu.leftover import remove_left
from bridges.local.tcmu.naming import LunName
from bridges.local.tcmu.netlink import NetlinkError
from bridges.local.tcmu.off_loop import off_loop
from bridges.local.tcmu.port import KernelExport, KernelPort
from bridges.local.tcmu.sysfs import Sysfs
from bridges.spin import Spinner
from scsi_backend.io.syscalls import become_io_flusher
from scsi_backend.target.target import Target

_log = logging.getLogger(__name__)

# How long the kernel is waited for when disks are to be made, and when it is to let go of them.
_TIMEOUT_S: Final = 60.0
# How often a disk that is to go, but in use, is looked at.
_LOOK_AGAIN_S: Final = 2.0


class KernelServer:
    """Owns the disks, and the kernel's session with each target.

    One task at a time brings the disks to what the LUN maps say; what changes meanwhile is done
    after that, whatever came between.
    """

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
        look_again_s: float = _LOOK_AGAIN_S,
    ) -> None:
        self._loop = loop
        self._spinner = spinner
        self._configfs = configfs or Configfs()
        self._sysfs = sysfs or Sysfs()
        self._check = check
        self._timeout_s = timeout_s
        self._look_again_s = look_again_s
        self._ports: dict[Target, KernelPort] = {}
        # What the LUN maps say, and what there is of it.
        self._leads: Mapping[LunName, Lead] = {}
        self._disks: dict[LunName, KernelDisk] = {}
        # Targets that have been given a port of tcm_loop.
        self._port_names: set[str] = set()
        self._events: socket.socket | None = None
        self._is_running = False
        # Whether the kernel can be asked for disks, and what was left has been looked through.
        self._is_claimed = False
        self._is_swept = False
        self._is_settled = True
        self._settling: asyncio.Task[None] | None = None
        self._look_again: asyncio.TimerHandle | None = None
        for export in exports:
            self.add_export(export)

    @property
    def disks(self) -> tuple[KernelDisk, ...]:
        """What is served, by target and LUN."""
        served = (disk for disk in self._disks.values() if disk.is_served)
        return tuple(sorted(served, key=lambda disk: (disk.name.target, disk.name.lun)))

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets whose LUNs are to be disks."""
        return tuple(self._ports)

    def start(self) -> None:
        """Begin to make the disks, or to take over what another daemon has left."""
        # Memory that this process needs must not wait for its own disks. Threads have it from who
        # starts them, so it is said before there is anything to do for them: there may be no disk
        # before those have begun.
        become_io_flusher()
        self._is_running = True
        self._changed()

    def add_export(self, export: KernelExport) -> None:
        """Have a target's LUNs as disks, from now on; raises ValueError if it is so."""
        if export.target in self._ports:
            raise ValueError(f"target {export.target.name} is exported already")
        self._ports[export.target] = KernelPort(export, self._changed)
        self._changed()

    def remove_export(self, target: Target) -> None:
        """Have a target's LUNs as disks no more; raises KeyError if they are not.

        A target that is added again at once keeps its disks, also those that are in use.
        """
        self._ports.pop(target).close()
        self._changed()

    async def settled(self) -> bool:
        """Tell that the disks are what the LUN maps say, or that the log says why not.

        A kernel that is stuck is not waited for (False): whoever starts the daemon could not stop
        it.
        """
        if self._settling is None:
            return True
        _, late = await asyncio.wait((self._settling,), timeout=self._timeout_s)
        if late:
            _log.error("the kernel takes long to make or remove its disks: not waited for")
        return not late

    def _changed(self) -> None:
        """Let the disks follow: where the same LUN is back at once, else in the background."""
        if not self._is_running:
            return
        leads: dict[LunName, Lead] = {}
        for port in self._ports.values():
            leads |= port.leads()
        self._leads = leads
        for name, disk in self._disks.items():
            lead = leads.get(name)
            if lead is not None and not disk.lead.is_current and disk.lead.has_successor(lead):
                disk.follow(lead)
        self._settle_soon()

    def _settle_soon(self) -> None:
        self._is_settled = False
        if self._settling is None or self._settling.done():
            self._settling = self._loop.create_task(self._settle())
            self._settling.add_done_callback(_report)

    async def _settle(self) -> None:
        while self._is_running and not self._is_settled:
            self._is_settled = True
            if await self._claim():
                await self._let_go()
                await self._make()
                await self._remove_ports()
        self._watch_those_in_use()

    async def _claim(self) -> bool:
        """Prepare the kernel, once there is something to do with it; tell whether it is."""
        if self._is_claimed:
            return True
        if not self._leads and not await off_loop(self._configfs.found):
            return False
        try:
            await off_loop(partial(self._check, self._sysfs))
            await off_loop(self._configfs.claim)
        except KernelError as error:
            names = ", ".join(dict.fromkeys(name.target for name in self._leads))
            what = f"no kernel disks for target {names}" if names else "kernel disks that were left"
            _log.error("%s: %s", what, error)
            return False
        self._listen()
        self._is_claimed = True
        return True

    def _listen(self) -> None:
        try:
            self._events = netlink.open_events()
        except (OSError, NetlinkError) as error:
            _log.warning("kernel disks will keep their sizes: %s", error)
        else:
            self._loop.add_reader(self._events, netlink.drain, self._events)

    async def _let_go(self) -> None:
        """Remove the disks that are not what the maps say, unless they are in use."""
        for name, disk in reversed(tuple(self._disks.items())):
            if not disk.is_as(self._leads.get(name)) and await self._is_gone(disk, disk.remove()):
                del self._disks[name]

    @staticmethod
    async def _is_gone(disk: KernelDisk, removal: Awaitable[bool]) -> bool:
        """Await a removal; what is not served any more is gone, too, whatever is left of it."""
        try:
            is_gone = await removal
        except (KernelError, OSError) as error:
            _log.error("%s: %s", disk.name, error)
            return not disk.is_served
        if is_gone:
            _log.info("%s: %s is removed", disk.name, disk.disk)
        return is_gone

    async def _make(self) -> None:
        """Make what is missing, or take it over."""
        wanted = {name: lead for name, lead in self._leads.items() if name not in self._disks}
        if not wanted and self._is_swept:
            return
        left: dict[LunName, FoundDevice] = {}
        taken: set[LunName] = set()
        for found in await off_loop(self._configfs.found):
            name = found.config.name
            lead = wanted.get(name)
            if name in self._disks or (lead is None and self._is_swept):
                continue
            # One that no LUN leads to may have been left before its attributes were set.
            is_whole = found.is_enabled and self._configfs.is_mapped(name, found)
            if is_whole and lead is not None and lead.config == found.config:
                left[name] = found
            elif not await self._remove_left(found):
                taken.add(name)
        self._is_swept = True
        for name, lead in wanted.items():
            if not self._is_running or not lead.is_current:
                continue
            if name in taken:
                _log.error("%s: no kernel disk: another one is in its place", name)
            else:
                await self._bring_up(lead, left.get(name))

    async def _remove_left(self, found: FoundDevice) -> bool:
        try:
            return await remove_left(self._loop, self._configfs, self._sysfs, self._spinner, found)
        except (KernelError, OSError) as error:
            _log.error("%s: what was left of it stays: %s", found.config.name, error)
            return False

    async def _bring_up(self, lead: Lead, left: FoundDevice | None) -> None:
        self._port_names.add(lead.name.target)
        disk = KernelDisk(self._loop, self._configfs, self._sysfs, self._spinner, lead)
        self._disks[lead.name] = disk
        try:
            await disk.bring_up(left)
        except KernelError as error:
            del self._disks[lead.name]
            _log.error("%s: no kernel disk: %s", lead.name, error)

    async def _remove_ports(self) -> None:
        """Remove the ports of targets that have no disks any more."""
        for target in sorted(self._port_names - {name.target for name in self._disks}):
            try:
                await off_loop(partial(self._configfs.remove_port, target))
            except (KernelError, OSError) as error:
                _log.error("target %s: %s", target, error)
            self._port_names.discard(target)

    def _watch_those_in_use(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        if self._is_running and not all(disk.lead.is_current for disk in self._disks.values()):
            self._look_again = self._loop.call_later(self._look_again_s, self._settle_soon)

    def look_at_sizes(self) -> None:
        """Let the kernel know of devices that have another size now."""
        for disk in self._disks.values():
            disk.look_at_size()

    async def stop(self) -> None:
        """Remove the disks after the kernel has flushed them; those in use stay.

        It ends in time, whatever the kernel does.
        """
        self._is_running = False
        try:
            await asyncio.wait_for(self._take_down(), self._timeout_s)
        except TimeoutError:
            _log.error("the kernel does not let go of its disks: left to the next start")
            if self._settling is not None:
                self._settling.cancel()
        for disk in self._disks.values():
            disk.abandon()
        self._disks.clear()
        if self._look_again is not None:
            self._look_again.cancel()
        if self._events is not None:
            self._loop.remove_reader(self._events)
            self._events.close()
            self._events = None
        for port in self._ports.values():
            port.close()
        self._ports.clear()

    async def _take_down(self) -> None:
        if self._settling is not None:
            await asyncio.wait((self._settling,))
        for name, disk in reversed(tuple(self._disks.items())):
            if await self._is_gone(disk, disk.take_down()):
                del self._disks[name]
        if self._is_claimed:
            await self._remove_ports()
            await off_loop(self._configfs.release)


def _report(task: asyncio.Task[None]) -> None:
    """Log what should not have happened; the other doors are open in spite of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("kernel disks: an error of this program's own", exc_info=error)
