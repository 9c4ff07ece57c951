# SPDX-License-Identifier: GPL-2.0-or-later
"""One LUN as a disk of this host, from its TCMU device to /dev/sdX, and back.

A device that another daemon has left is taken over where it is the same LUN: the disk, and what is
mounted on it, live on. Whatever waits for the kernel is done off the loop, which serves meanwhile.

A disk serves the nexus that it was made for. Once that has no LUN any more, the kernel's commands
fail at once, until the disk is removed, or follows the same LUN when it comes back.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from bridges.local.tcmu.configfs import Configfs, DeviceSettings, FoundDevice, KernelError
from bridges.local.tcmu.device import RingDevice
from bridges.local.tcmu.lead import Lead
from bridges.local.tcmu.naming import LunName
from bridges.local.tcmu.off_loop import off_loop
from bridges.local.tcmu.sysfs import Disk, OpenUio, Sysfs, UioNode
from bridges.local.tcmu.task_management import carry_out
from bridges.local.tcmu.wire import RingError
from bridges.spin import Spinner
from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import MAX_TRANSFER_BYTES

_log = logging.getLogger(__name__)

# A daemon that was killed a moment ago may still hold its device.
_OPEN_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.1
# The kernel looks for disks behind a new SCSI device in the background.
_PROBE_TIMEOUT_S: Final = 10.0
# Who has just unmounted a disk may not have let go of it.
_IN_USE_TIMEOUT_S: Final = 2.0
# Commands under way at a time. The kernel's own limit is 1024, and large writes so many deep would
# run into its time limits on a slow backing store.
_QUEUE_DEPTH: Final = 64


class KernelDisk:
    """Owns what the kernel has of one LUN."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        configfs: Configfs,
        sysfs: Sysfs,
        spinner: Spinner,
        lead: Lead,
    ) -> None:
        self._disk = Disk()
        self._loop = loop
        self._configfs = configfs
        self._sysfs = sysfs
        self._spinner = spinner
        self._lead = lead
        # What it is made with; what it leads to later may have been given others.
        self._cmd_time_out_s = lead.cmd_time_out_s
        self._found: FoundDevice | None = None
        self._uio: OpenUio | None = None
        self._ring: RingDevice | None = None
        self._address = ""
        self._is_resizing = False
        # Whether the kernel saw the LUN when it looked for a disk, and not that there is none.
        self._was_seen = False
        self._told = ""

    @property
    def name(self) -> LunName:
        """The LUN."""
        return self._lead.name

    @property
    def lead(self) -> Lead:
        """Where the kernel's commands go."""
        return self._lead

    @property
    def device_name(self) -> str:
        """The name of the device behind the LUN; empty when that is gone."""
        return self._lead.unit.name if self._lead.is_current else ""

    @property
    def disk(self) -> Disk:
        """What the kernel has made of the LUN, which may have come late."""
        if self._address and not self._disk.block:
            self._disk = self._sysfs.disk(self._address)
        return self._disk

    @property
    def is_served(self) -> bool:
        """Whether the kernel's commands are answered."""
        return self._ring is not None

    def follow(self, lead: Lead) -> None:
        """Lead on to where the same LUN has come back, or been given other terms."""
        self._lead = lead
        self._told = ""

    def is_as(self, lead: Lead | None) -> bool:
        """Whether the disk is what a LUN asks for, if there is one: nothing is to be made anew."""
        return (
            lead is not None
            and lead.nexus is self._lead.nexus
            and lead.cmd_time_out_s == self._cmd_time_out_s
            and self._was_seen
        )

    async def bring_up(self, left: FoundDevice | None) -> None:
        """Make the disk, or take over the device that a daemon has left; raises KernelError."""
        lead = self._lead
        if left is None:
            found = await off_loop(partial(self._configfs.create_device, self._settings()))
        else:
            found = left
        try:
            await self._serve(found, is_left=left is not None)
            await self._map(found, lead)
        except (KernelError, OSError, RingError) as error:
            await self._undo(found, is_left=left is not None)
            if isinstance(error, KernelError):
                raise
            raise KernelError(str(error)) from error
        self._found = found
        self._was_seen = left is not None or lead.is_current
        how = "taken over" if left else "made"
        _log.info("%s: device %s is %s (%s)", self.name, lead.unit.name, self.disk, how)
        if left is not None:
            self._check_time_out(found)
        self.look_at_size()

    def _settings(self) -> DeviceSettings:
        return DeviceSettings(
            config=self._lead.config,
            size_bytes=self._size_bytes,
            block_size_bytes=self._lead.unit.vdisk.block_size_bytes,
            max_transfer_bytes=MAX_TRANSFER_BYTES,
            serial=self._lead.unit.vdisk.identity.usn,
            cmd_time_out_s=self._cmd_time_out_s,
        )

    @property
    def _size_bytes(self) -> int:
        return self._lead.unit.block_count * self._lead.unit.vdisk.block_size_bytes

    async def _serve(self, found: FoundDevice, *, is_left: bool) -> None:
        """Begin to answer commands."""
        node = self._sysfs.find_uio(found.uio_name)
        if node is None:
            raise KernelError(f"{found.folder}: there is no uio device {found.uio_name}")
        self._uio = await self._open_when_free(node)
        if is_left:
            await off_loop(partial(self._configfs.reset_ring, found))
        self._ring = RingDevice(
            self._loop,
            str(self.name),
            self._uio,
            self._submit,
            self._manage_tasks,
            self._spinner,
        )

    async def _open_when_free(self, node: UioNode) -> OpenUio:
        deadline_s = self._loop.time() + _OPEN_TIMEOUT_S
        while True:
            try:
                return self._sysfs.open_uio(node)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                if self._loop.time() > deadline_s:
                    raise KernelError(f"{node.path}: another process serves it") from error
            await asyncio.sleep(_POLL_S)

    def _submit(self, command: Command) -> None:
        self._lead.nexus.receive(command)

    def _manage_tasks(self, function: int, commands: Sequence[Command]) -> None:
        if carry_out(function, commands, self._lead):
            _log.info("%s: task management function %d", self.name, function)
        else:
            _log.warning("%s: unknown task management function %d", self.name, function)

    async def _map(self, found: FoundDevice, lead: Lead) -> None:
        """Let the LUN lead to the device, unless it does, and find the disk.

        There may be none where the LUN went meanwhile, even if it has come back.
        """
        configfs = self._configfs
        if not configfs.is_mapped(self.name, found):
            target, session = self.name.target, lead.session.initiator_name
            await off_loop(partial(configfs.unmap_lun, self.name))
            await off_loop(partial(configfs.create_port, target, session))
            await off_loop(partial(configfs.map_lun, self.name, found))
        self._address = configfs.address(self.name)
        deadline_s = self._loop.time() + _PROBE_TIMEOUT_S
        while not self.disk.block and lead.is_current and self._loop.time() <= deadline_s:
            await asyncio.sleep(_POLL_S)
        with suppress(OSError):
            self._sysfs.set_queue_depth(self._address, _QUEUE_DEPTH)

    async def _undo(self, found: FoundDevice, *, is_left: bool) -> None:
        """Leave nothing of a new disk; somebody else's is not touched."""
        if not is_left:
            with suppress(KernelError):
                await off_loop(partial(self._configfs.unmap_lun, self.name))
        self._close_ring()
        if not is_left:
            with suppress(KernelError):
                await off_loop(partial(self._configfs.remove_device, found))

    def _check_time_out(self, found: FoundDevice) -> None:
        # The kernel does not change it while a LUN leads to the device.
        in_force = self._configfs.cmd_time_out_s(found)
        if in_force != self._cmd_time_out_s:
            self._tell_time_out(in_force)

    def _tell_time_out(self, in_force_s: int) -> None:
        self._tell(f"cmd_time_out stays at {in_force_s} s until the disk is made anew")

    def _tell(self, text: str) -> None:
        """Log what is so until something changes, once."""
        if text != self._told:
            self._told = text
            _log.warning("%s: %s", self.name, text)

    def look_at_size(self) -> None:
        """Tell the kernel the device's size if it has another; the disk follows by itself."""
        if self._found is not None and self._lead.is_current and not self._is_resizing:
            self._is_resizing = True
            task = self._loop.create_task(self._resize(self._found))
            # A loop keeps only weak references to tasks.
            self._resizing = task

    async def _resize(self, found: FoundDevice) -> None:
        try:
            while self._configfs.size_bytes(found) != (wanted := self._size_bytes):
                await off_loop(partial(self._configfs.resize, found, wanted))
                await off_loop(partial(self._sysfs.rescan, self._address))
                _log.info("%s: %s now has %d bytes", self.name, self.disk, wanted)
        except (KernelError, OSError) as error:
            _log.error("%s: size: %s", self.name, error)
        finally:
            self._is_resizing = False

    async def remove(self) -> bool:
        """Remove a disk that is not what its LUN asks for; tell whether it is gone.

        One that is in use stays and is served, as does one whose LUN comes back in time. Raises
        KernelError where it is not served any more.
        """
        found, lead = self._found, self._lead
        if found is None:
            self._close_ring()
            return True
        try:
            if await off_loop(partial(self._sysfs.is_in_use, self.disk)):
                self._tell_in_use(found)
                return False
            if self._lead is not lead:
                return False
            await off_loop(partial(self._configfs.unmap_lun, self.name))
        except (KernelError, OSError) as error:
            self._tell(f"{self.disk} stays: {error}")
            return False
        self._found = None
        self._close_ring()
        await off_loop(partial(self._configfs.remove_device, found))
        return True

    def _tell_in_use(self, found: FoundDevice) -> None:
        if self._lead.is_current:
            self._tell_time_out(self._configfs.cmd_time_out_s(found))
        else:
            self._tell(f"{self.disk} is in use, and stays: its commands fail until it is let go")

    async def take_down(self) -> bool:
        """Remove the disk after the kernel has flushed it; tell whether it is gone.

        One that is in use stays, to be taken over by the next daemon. Raises KernelError.
        """
        found, self._found = self._found, None
        if found is None:
            self._close_ring()
            return True
        try:
            if await self._is_in_use():
                _log.warning(
                    "%s: %s is in use, and stays: its commands wait for a daemon that serves it,"
                    " and fail after %d s",
                    self.name,
                    self.disk,
                    self._cmd_time_out_s,
                )
                await self._drain()
                return False
            await off_loop(partial(self._configfs.unmap_lun, self.name))
        finally:
            self._close_ring()
        await off_loop(partial(self._configfs.remove_device, found))
        return True

    async def _is_in_use(self) -> bool:
        deadline_s = self._loop.time() + _IN_USE_TIMEOUT_S
        while await off_loop(partial(self._sysfs.is_in_use, self.disk)):
            if self._loop.time() > deadline_s:
                return True
            await asyncio.sleep(_POLL_S)
        return False

    async def _drain(self) -> None:
        """Take no more commands, and wait until those under way have ended."""
        assert self._ring is not None
        self._ring.stop_reading()
        while self._ring.outstanding:
            await asyncio.sleep(_POLL_S)

    def abandon(self) -> None:
        """Answer no more commands, whatever is under way."""
        self._close_ring()

    def _close_ring(self) -> None:
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()
        uio, self._uio = self._uio, None
        if uio is not None:
            uio.close()
