# SPDX-License-Identifier: GPL-2.0-or-later
"""The SCSI backend as a whole: devices and targets by name, over one I/O engine.

It is the one object that all front-ends of a process share; a device reached through several
targets is one logical unit.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Final

from scsi_backend.handlers.attributes import VdiskAttributes
from scsi_backend.handlers.registry import HANDLERS
from scsi_backend.io.engine import WholeEngine
from scsi_backend.io.sgv import SgvCache
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.mode_pages_file import ModePagesFile
from scsi_backend.servers.reservation_file import ReservationFile
from scsi_backend.target.device_group import DeviceGroup
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
        # Whose device each file of saved state is.
        self._state_files: dict[Path, str] = {}
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
        if name in self._devices:
            raise TargetError(f"device {name} exists already")
        engine = self.engine.for_device()
        modes_path, pr_path = self._state_paths(name, attributes)
        mode_store = None if modes_path is None else ModePagesFile(modes_path, engine)
        vdisk = HANDLERS[handler].open(name, attributes, engine)
        try:
            pr_store = None if pr_path is None else ReservationFile(pr_path, engine)
            unit = disk(vdisk, mode_store, pr_store)
        except BaseException:
            vdisk.close()
            raise
        self._devices[name] = unit
        for path in (modes_path, pr_path):
            if path is not None:
                self._state_files[path] = name
        return unit

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
        taken = dict(self._state_files)
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

    def add_target(self, driver: str, name: str, relative_target_port: int | None = None) -> Target:
        """Make a target, disabled and without LUNs; raises TargetError.

        Without a relative target port identifier it gets the first that is free.
        """
        if (driver, name) in self._targets:
            raise TargetError(f"target {name} of driver {driver} exists already")
        taken = {target.relative_target_port for target in self.targets}
        if relative_target_port in taken:
            raise TargetError(f"relative target port {relative_target_port} is taken already")
        if relative_target_port is None:
            relative_target_port = next(port for port in count(1) if port not in taken)
        target = Target(driver, name, relative_target_port)
        self._targets[driver, name] = target
        return target

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

    def close(self, timeout_s: float | None = None) -> bool:
        """Flush and close every device; tell whether all flushes succeeded.

        The engine is closed before the devices, finishing what is under way. Devices that do not
        end that within ``timeout_s`` are left as they are, and count as not flushed.
        """
        self.stop_operations()
        results: dict[str, int] = {}
        for unit in self._devices.values():
            unit.vdisk.sync(partial(_note_flush, unit.name, results))
        if self.engine.close(timeout_s):
            for unit in self._devices.values():
                unit.vdisk.close()
        for name in self._devices.keys() - results.keys():
            _log.error("%s: hangs: given up without a last flush", name)
        is_flushed = len(results) == len(self._devices) and not any(results.values())
        self._devices.clear()
        self._targets.clear()
        self._state_files.clear()
        self._device_groups.clear()
        return is_flushed


def _note_flush(name: str, results: dict[str, int], result: int) -> None:
    results[name] = result
    if result < 0:
        _log.error("%s: the last flush failed: %s", name, os.strerror(-result))
