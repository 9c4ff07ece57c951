# SPDX-License-Identifier: GPL-2.0-or-later
"""The SCSI backend as a whole: devices and targets by name, over one I/O engine.

It is the one object that all front-ends of a process share; a device reached through several
targets is one logical unit.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Final

from scsi_backend.handlers.attributes import VdiskAttributes
from scsi_backend.io.engine import WholeEngine
from scsi_backend.io.sgv import SgvCache
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.task_abort import when_ended
from scsi_backend.target.device_group import DeviceGroup
from scsi_backend.target.device_slot import DeviceSlot
from scsi_backend.target.nexus import ItlNexus
from scsi_backend.target.target import Target, TargetError

# SCST's, in which each device has a file of its name once its reservations are to persist.
_PR_FOLDER: Final = Path("/var/lib/scst/pr")

_log = logging.getLogger(__name__)


class Backend:
    """SCST's core: owns devices, targets and the SGV cache.

    ``pr_folder`` is where devices without pr_file_name keep reservations that are to persist; with
    None theirs do not.
    """

    def __init__(self, engine: WholeEngine, pr_folder: Path | None = _PR_FOLDER) -> None:
        self.engine = engine
        self._pr_folder = pr_folder
        self.sgv = SgvCache()
        self._devices: dict[str, LogicalUnit] = {}
        self._targets: dict[tuple[str, str], Target] = {}
        # All that are open, with those that are about to be, or to be closed.
        self._slots: dict[str, DeviceSlot] = {}
        self._device_groups: dict[str, DeviceGroup] = {}

    @property
    def devices(self) -> Mapping[str, LogicalUnit]:
        """Devices by name."""
        return MappingProxyType(self._devices)

    @property
    def targets(self) -> tuple[Target, ...]:
        """All targets, in the order they were added."""
        return tuple(self._targets.values())

    def target(self, driver: str, name: str) -> Target:
        """The target of that name; raises KeyError."""
        return self._targets[driver, name]

    def targets_of(self, driver: str) -> tuple[Target, ...]:
        """The targets of one driver."""
        return tuple(target for target in self.targets if target.driver == driver)

    def add_device(self, handler: str, name: str, attributes: VdiskAttributes) -> LogicalUnit:
        """Open a device (SCST's add_device); raises OSError or TargetError."""
        slot = self.reserve_device(handler, name, attributes)
        try:
            slot.open()
        except BaseException:
            self.abandon_device(slot)
            raise
        return self.take_device(slot)

    def reserve_device(self, handler: str, name: str, attributes: VdiskAttributes) -> DeviceSlot:
        """Take what a new device needs but its storage, for whoever opens it on another thread.

        Then comes ``take_device`` or ``abandon_device``. Raises OSError or TargetError.
        """
        if name in self._slots:
            what = "exists already" if name in self._devices else "is being opened or closed"
            raise TargetError(f"device {name} {what}")
        modes_path, pr_path = self._state_paths(name, attributes)
        engine = self.engine.for_device()
        slot = DeviceSlot(handler, name, attributes, engine, modes_path, pr_path)
        self._slots[name] = slot
        return slot

    def take_device(self, slot: DeviceSlot) -> LogicalUnit:
        """Serve a device that is open."""
        assert slot.unit is not None, "it is open"
        self._devices[slot.name] = slot.unit
        return slot.unit

    def abandon_device(self, slot: DeviceSlot) -> None:
        """Close a device that was never served, and let others have what it had."""

        def close() -> None:
            slot.close()
            del self._slots[slot.name]

        self.engine.release(slot.engine, close)

    def remove_device(
        self, name: str, done: Callable[[bool], None] = lambda is_stable: None
    ) -> None:
        """Close a device to which no target leads; raises TargetError.

        It is gone at once. When what is under way on it has ended, it is flushed and closed;
        ``done`` then gets whether the flush succeeded.
        """
        unit = self._devices.get(name)
        if unit is None:
            raise TargetError(f"there is no device {name}")
        for target in self.targets:
            if unit in target.units:
                raise TargetError(f"device {name}: target {target.name} leads to it")
        if unit.port_groups is not None:
            raise TargetError(f"device {name} is in a device group")
        del self._devices[name]
        if unit.operation is not None:
            unit.operation.stop()
        slot = self._slots[name]

        def flush() -> None:
            # With nv_cache, too: what is left to write would keep whoever closes it waiting.
            unit.vdisk.sync_medium(release)

        def release(result: int) -> None:
            _report_flush(name, result)
            self.engine.release(slot.engine, partial(close, result))

        def close(result: int) -> None:
            slot.close()
            # Another may be in its place if the backend was closed meanwhile.
            if self._slots.get(name) is slot:
                del self._slots[name]
            done(result >= 0)

        when_ended(list(unit.under_way()), flush)

    def _state_paths(
        self, name: str, attributes: VdiskAttributes
    ) -> tuple[Path | None, Path | None]:
        """Where a device keeps mode parameters and reservations; raises OSError if others do."""
        modes, given = attributes.mode_pages_file, attributes.pr_file_name
        modes_path = None if modes is None else Path(modes).resolve()
        pr_path = None if given is None else Path(given).resolve()
        if pr_path is None and self._pr_folder is not None:
            # As in sysfs, whose names have no slash.
            pr_path = (self._pr_folder / name.replace("/", "!")).resolve()
        taken = {path: slot.name for slot in self._slots.values() for path in slot.state_paths}
        for path in filter(None, (modes_path, pr_path)):
            if path in taken:
                message = f"expected a file of its own, not that of device {taken[path]}"
                raise OSError(errno.EBUSY, message, str(path))
            taken[path] = name
        return modes_path, pr_path

    @property
    def device_groups(self) -> Mapping[str, DeviceGroup]:
        """Device groups by name."""
        return MappingProxyType(self._device_groups)

    def add_target(
        self,
        driver: str,
        name: str,
        relative_target_port: int | None = None,
        *,
        instead_of: Collection[Target] = (),
    ) -> Target:
        """Make a target, disabled and without LUNs; raises TargetError.

        Without a relative target port identifier it gets the first that is free. It may have that
        of those which it is there ``instead_of``, which are about to be removed.
        """
        if (driver, name) in self._targets:
            raise TargetError(f"target {name} of driver {driver} exists already")
        taken = {each.relative_target_port for each in self.targets if each not in instead_of}
        if relative_target_port in taken:
            raise TargetError(f"relative target port {relative_target_port} is taken already")
        if relative_target_port is None:
            relative_target_port = next(port for port in count(1) if port not in taken)
        target = Target(driver, name, relative_target_port)
        self._targets[driver, name] = target
        return target

    def remove_target(self, driver: str, name: str) -> list[ItlNexus]:
        """Forget a target; raises KeyError or TargetError.

        Its sessions have no LUNs any more, as their owners hear. Return the nexuses that this has
        ended, whose outstanding commands still complete.
        """
        target = self.target(driver, name)
        for group in self._device_groups.values():
            for part in group.target_groups.values():
                if target in part.ports:
                    raise TargetError(f"target {name} is in target group {group.name}/{part.name}")
        del self._targets[driver, name]
        return target.remove()

    def stop_operations(self) -> None:
        """Let FORMAT UNIT and SANITIZE that are under way fail soon."""
        for unit in self._devices.values():
            if unit.operation is not None:
                unit.operation.stop()

    def add_device_group(self, name: str) -> DeviceGroup:
        """Make a device group, empty; raises TargetError."""
        if name in self._device_groups:
            raise TargetError(f"device group {name} exists already")
        group = self._device_groups[name] = DeviceGroup(name)
        return group

    def remove_device_group(self, name: str) -> None:
        """Forget a device group; raises TargetError. Its devices are active through all ports."""
        group = self._device_groups.pop(name, None)
        if group is None:
            raise TargetError(f"there is no device group {name}")
        group.configure((), ())

    def close(self, timeout_s: float | None = None) -> bool:
        """Flush and close every device; tell whether all flushes succeeded.

        The engine is closed before the devices, finishing what is under way. Devices that do not
        end that within ``timeout_s`` are left as they are, and count as not flushed.
        """
        self.stop_operations()
        results: dict[str, int] = {}
        opened = {name: slot.unit for name, slot in self._slots.items() if slot.unit is not None}
        for name, unit in opened.items():
            unit.vdisk.sync(partial(_note_flush, name, results))
        if self.engine.close(timeout_s):
            # Those that were removed before may have been closed by now.
            for slot in tuple(self._slots.values()):
                slot.close()
        for name in opened.keys() - results.keys():
            _log.error("%s: hangs: given up without a last flush", name)
        is_flushed = len(results) == len(opened) and not any(results.values())
        self._devices.clear()
        self._targets.clear()
        self._slots.clear()
        self._device_groups.clear()
        return is_flushed


def _note_flush(name: str, results: dict[str, int], result: int) -> None:
    results[name] = result
    _report_flush(name, result)


def _report_flush(name: str, result: int) -> None:
    if result < 0:
        _log.error("%s: the last flush failed: %s", name, os.strerror(-result))
