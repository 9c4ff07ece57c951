# SPDX-License-Identifier: GPL-2.0-or-later
"""One LUN as a disk of this host, from its TCMU device to /dev/sdX, and back.

A device that another daemon has left is taken over where it is the same LUN: the disk, and what is
mounted on it, live on. Whatever waits for the kernel is done off the loop, which serves meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from bridges.local.tcmu.configfs import Configfs, DeviceSettings, FoundDevice, KernelError
from bridges.local.tcmu.device import RingDevice
from bridges.local.tcmu.naming import DeviceConfig, LunName, identity_of
from bridges.local.tcmu.off_loop import off_loop
from bridges.local.tcmu.sysfs import Disk, OpenUio, Sysfs, UioNode
from bridges.local.tcmu.task_management import carry_out
from bridges.local.tcmu.wire import RingError
from bridges.spin import Spinner
from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import MAX_TRANSFER_BYTES
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.session import Session

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


class Terms(Protocol):
    """The attributes of a target that concern its disks."""

    @property
    def session_name(self) -> str:
        """The initiator's name, from which its port is named."""

    @property
    def cmd_time_out_s(self) -> int:
        """How long the kernel waits for a command."""


class KernelDisk:
    """Owns what the kernel has of one LUN."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        configfs: Configfs,
        sysfs: Sysfs,
        spinner: Spinner,
        name: LunName,
        entry: LunEntry,
        session: Session,
        terms: Terms,
    ) -> None:
        self.name = name
        self._disk = Disk()
        self._loop = loop
        self._configfs = configfs
        self._sysfs = sysfs
        self._spinner = spinner
        self._entry = entry
        self._session = session
        self._terms = terms
        self.config = DeviceConfig(name, identity_of(entry))
        self._found: FoundDevice | None = None
        self._uio: OpenUio | None = None
        self._ring: RingDevice | None = None
        self._address = ""
        self._is_resizing = False

    @property
    def device_name(self) -> str:
        """The name of the device behind the LUN."""
        return self._entry.unit.name

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

    async def bring_up(self, left: FoundDevice | None) -> None:
        """Make the disk, or take over the device that a daemon has left; raises KernelError."""
        if left is None:
            found = await off_loop(partial(self._configfs.create_device, self._settings()))
        else:
            found = left
        try:
            await self._serve(found, is_left=left is not None)
            await self._map(found)
        except (KernelError, OSError, RingError) as error:
            await self._undo(found, is_left=left is not None)
            if isinstance(error, KernelError):
                raise
            raise KernelError(str(error)) from error
        self._found = found
        how = "taken over" if left else "made"
        _log.info("%s: device %s is %s (%s)", self.name, self.device_name, self.disk, how)
        if left is not None:
            self._check_time_out(found)
            self.look_at_size()

    def _settings(self) -> DeviceSettings:
        return DeviceSettings(
            config=self.config,
            size_bytes=self._size_bytes,
            block_size_bytes=self._entry.unit.vdisk.block_size_bytes,
            max_transfer_bytes=MAX_TRANSFER_BYTES,
            serial=self._entry.unit.vdisk.identity.usn,
            cmd_time_out_s=self._terms.cmd_time_out_s,
        )

    @property
    def _size_bytes(self) -> int:
        return self._entry.unit.block_count * self._entry.unit.vdisk.block_size_bytes

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
            partial(self._session.submit, self.name.lun),
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

    def _manage_tasks(self, function: int, commands: Sequence[Command]) -> None:
        if carry_out(function, commands, self._session, self.name.lun):
            _log.info("%s: task management function %d", self.name, function)
        else:
            _log.warning("%s: unknown task management function %d", self.name, function)

    async def _map(self, found: FoundDevice) -> None:
        """Let the LUN lead to the device, unless it does, and find the disk."""
        configfs = self._configfs
        if not configfs.is_mapped(self.name, found):
            target, session = self.name.target, self._terms.session_name
            await off_loop(partial(configfs.unmap_lun, self.name))
            await off_loop(partial(configfs.create_port, target, session))
            await off_loop(partial(configfs.map_lun, self.name, found))
        self._address = configfs.address(self.name)
        deadline_s = self._loop.time() + _PROBE_TIMEOUT_S
        while not self.disk.block and self._loop.time() <= deadline_s:
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
        if in_force != self._terms.cmd_time_out_s:
            _log.warning(
                "%s: cmd_time_out stays at %d s until the disk is made anew", self.name, in_force
            )

    def look_at_size(self) -> None:
        """Tell the kernel the device's size if it has another; the disk follows by itself."""
        if self._found is not None and not self._is_resizing:
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

    async def take_down(self) -> bool:
        """Remove the disk after the kernel has flushed it; tell whether it is gone.

        One that is in use stays, to be taken over by the next daemon. Raises KernelError.
        """
        found, self._found = self._found, None
        if found is None:
            return True
        try:
            if await self._is_in_use():
                _log.warning(
                    "%s: %s is in use, and stays: its commands wait for a daemon that serves it,"
                    " and fail after %d s",
                    self.name,
                    self.disk,
                    self._terms.cmd_time_out_s,
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
