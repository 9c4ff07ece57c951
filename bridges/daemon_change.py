# SPDX-License-Identifier: GPL-2.0-or-later
"""One configuration takes the place of another, whole or not at all.

What may fail comes first, and is undone if anything does: opening devices, making targets, opening
doors. Then everything takes effect between two commands, and cannot fail. In the end commands that
were under way where nothing leads any more are waited for, and what is not needed is closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from bridges.config import Config, DriverConfig, TargetConfig
from bridges.config_alua import DeviceGroupConfig
from bridges.config_diff import changed_attributes
from bridges.daemon_doors import Doors
from bridges.daemon_exports import ExportChange, Exports
from bridges.daemon_pending import Pending
from bridges.daemon_populate import (
    check_size,
    groups_of,
    lun_map,
    not_opened,
    target_groups_of,
)
from bridges.daemon_servers import starting_order
from bridges.scst_conf import ConfigError
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.task_abort import when_ended
from scsi_backend.target.backend import Backend
from scsi_backend.target.device_group import TargetGroup
from scsi_backend.target.device_slot import DeviceSlot
from scsi_backend.target.nexus import ItlNexus
from scsi_backend.target.target import Target, TargetError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long storage may take to open a device, and what is to end in the end is waited for."""

    open_s: float = 8.0
    end_s: float = 8.0


class Change:
    """``prepare``, and after that ``commit`` and ``finish``; ``wanted`` has passed all checks."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        doors: Doors,
        running: Config,
        wanted: Config,
        patience: Patience,
    ) -> None:
        self._loop = loop
        self._backend = backend
        self._doors = doors
        self._running = running
        self._wanted = wanted
        self._patience = patience
        self._slots: list[DeviceSlot] = []
        self._made: list[Target] = []
        self._opened: list[str] = []
        self._exports: list[Exports] = []
        self._retired: dict[Target, list[ItlNexus]] = {}
        self._pending = Pending(loop)

    async def prepare(self) -> None:
        """Do all that may fail; raises ConfigError or OSError, with everything as it was."""
        try:
            await self._open_devices()
            self._make_targets()
            self._open_doors()
            self._prepare_exports()
        except BaseException:
            await self._undo()
            raise

    async def _open_devices(self) -> None:
        known = {device.name for device in self._running.devices}
        for device in self._wanted.devices:
            if device.name in known:
                continue
            try:
                slot = self._backend.reserve_device(device.handler, device.name, device.attributes)
                self._slots.append(slot)
                await self._open(slot)
            except TargetError as error:
                raise ConfigError(device.location, str(error)) from error
            except OSError as error:
                raise not_opened(device, error) from error
            assert slot.unit is not None, "it is open"
            check_size(device, slot.unit)

    async def _open(self, slot: DeviceSlot) -> None:
        """Open a device while everything else goes on; raises OSError."""
        opened: asyncio.Future[Exception | None] = self._loop.create_future()

        def done(failure: Exception | None) -> None:
            if not opened.done():
                opened.set_result(failure)

        slot.open_soon(done)
        try:
            failure = await asyncio.wait_for(opened, self._patience.open_s)
        except TimeoutError as error:
            message = f"not open after {self._patience.open_s:g} s: given up"
            raise OSError(errno.ETIMEDOUT, message) from error
        if failure is not None:
            raise failure

    @property
    def _units(self) -> dict[str, LogicalUnit]:
        """The devices, with those that are about to be."""
        new = {slot.name: slot.unit for slot in self._slots if slot.unit is not None}
        return {**self._backend.devices, **new}

    def _make_targets(self) -> None:
        numbers, units = self._wanted.relative_target_ports(), self._units
        leaving = [self._backend.target(*place) for place in self._removed_targets()]
        for driver in self._wanted.drivers.values():
            before = _targets(self._running, driver.name)
            for section in driver.targets:
                if section.name not in before:
                    number = numbers[driver.name, section.name]
                    target = self._backend.add_target(
                        driver.name, section.name, number, instead_of=leaving
                    )
                    self._made.append(target)
                    target.configure(
                        luns=lun_map(section.luns, units), groups=groups_of(section, units)
                    )

    def _removed_targets(self) -> Iterator[tuple[str, str]]:
        for driver in self._running.drivers:
            after = _targets(self._wanted, driver)
            for name in _targets(self._running, driver):
                if name not in after:
                    yield driver, name

    def _open_doors(self) -> None:
        for driver in starting_order(self._wanted.drivers.values()):
            if driver.name not in self._running.drivers:
                if driver.name not in self._doors.servers:
                    # Else it refuses, and goes on being closed by whoever closes it.
                    self._opened.append(driver.name)
                self._doors.open(driver)

    def _prepare_exports(self) -> None:
        for driver in self._wanted.drivers.values():
            old = self._running.drivers.get(driver.name)
            if old is not None:
                self._exports.append(self._doors.exports(_export_change(old, driver)))

    async def _undo(self) -> None:
        for exports in self._exports:
            exports.undo()
        for target in self._made:
            self._backend.remove_target(target.driver, target.name)
        for slot in self._slots:
            self._backend.abandon_device(slot)
        for name in self._opened:
            await self._doors.close(name)

    def commit(self) -> None:
        """Let everything take effect."""
        for step in self._steps():
            try:
                step()
            except Exception:
                # What else is to be done does not depend on whoever could not follow.
                _log.exception("a change of the configuration has not taken effect everywhere")
                self._pending.warn("internal error: see the daemon's log")

    def _steps(self) -> Iterator[Callable[[], object]]:
        for slot in self._slots:
            yield partial(self._backend.take_device, slot)
        yield from self._leave_device_groups()
        for exports in self._exports:
            yield partial(self._remove_exports, exports)
        for driver, name in self._removed_targets():
            yield partial(self._remove_target, driver, name)
        for driver_config in self._wanted.drivers.values():
            before = _targets(self._running, driver_config.name)
            for section in driver_config.targets:
                if before.get(section.name) != section:
                    yield partial(self._configure, driver_config.name, section)
        for exports in self._exports:
            yield exports.add
        for group in self._wanted.device_groups:
            yield partial(self._regroup, group)
        kept = {device.name for device in self._wanted.devices}
        for device in self._running.devices:
            if device.name not in kept:
                yield partial(self._remove_device, device.name)

    def _leave_device_groups(self) -> Iterator[Callable[[], object]]:
        """What groups have that is to go, or that others are to have, they give up first."""
        wanted = {group.name: group for group in self._wanted.device_groups}
        for group in self._running.device_groups:
            after = wanted.get(group.name)
            if after is None:
                yield partial(self._backend.remove_device_group, group.name)
            else:
                yield partial(self._shrink, after)

    def _remove_exports(self, exports: Exports) -> None:
        for end in exports.remove():
            text = "a target of driver aoe: commands that were under way have not ended yet"
            self._pending.expect_end(text, end)

    def _shrink(self, wanted: DeviceGroupConfig) -> None:
        group = self._backend.device_groups[wanted.name]
        units = [unit for unit in group.devices if unit.name in wanted.devices]
        leaving = {self._backend.target(*place) for place in self._removed_targets()}
        parts = [
            TargetGroup(each.name, each.group_id, [p for p in each.ports if p not in leaving])
            for each in group.target_groups.values()
        ]
        group.configure(units, parts)

    def _remove_target(self, driver: str, name: str) -> None:
        target = self._backend.target(driver, name)
        self._retired[target] = self._backend.remove_target(driver, name)

    def _configure(self, driver: str, section: TargetConfig) -> None:
        target, units = self._backend.target(driver, section.name), self._backend.devices
        self._retired[target] = target.configure(
            luns=lun_map(section.luns, units),
            groups=groups_of(section, units),
            is_enabled=section.attributes.enabled,
        )

    def _regroup(self, wanted: DeviceGroupConfig) -> None:
        running = {group.name: group for group in self._running.device_groups}
        before = running.get(wanted.name)
        if before is None:
            self._backend.add_device_group(wanted.name)
        group = self._backend.device_groups[wanted.name]
        units = [self._backend.devices[name] for name in wanted.devices]
        group.configure(units, target_groups_of(wanted, self._backend.targets))
        old = {} if before is None else {part.name: part for part in before.target_groups}
        for part in wanted.target_groups:
            # What initiators have set stays, unless the configuration says something new.
            attributes, target_group = part.attributes, group.target_groups[part.name]
            was = old[part.name].attributes if part.name in old else attributes
            if attributes.preferred != was.preferred:
                group.set_preferred(target_group, attributes.preferred)
            if attributes.state is not was.state:
                state = attributes.state.name.lower()
                what = f"target group {wanted.name}/{part.name}: transitioning, until the commands"
                text = f"{what} that are under way have ended; then {state}"
                group.set_state(target_group, attributes.state, self._pending.expect(text))

    def _remove_device(self, name: str) -> None:
        text = f"device {name}: not closed yet: commands that are under way have not ended"
        happened = self._pending.expect(text)

        def closed(is_stable: bool) -> None:
            _log.info("device %s: closed", name)
            if not is_stable:
                self._pending.warn(
                    f"device {name}: the last flush failed: what was written last may be lost"
                )
            happened()

        self._backend.remove_device(name, closed)

    async def finish(self) -> list[str]:
        """Wait for what was under way, and close what is not needed; return what is late."""
        pending = self._pending
        for target, nexuses in self._retired.items():
            commands = [command for nexus in nexuses for command in nexus.outstanding]
            text = f"target {target.name}: commands that were under way have not ended yet"
            when_ended(commands, pending.expect(text))
        for name in self._running.drivers:
            if name not in self._wanted.drivers:
                text = f"driver {name}: its connections are still being closed"
                pending.expect_end(text, self._doors.close(name))
        text = "the kernel has not made or removed all of its disks yet"
        pending.expect_end(text, self._doors.settled())
        return await pending.wait(self._patience.end_s)


def _targets(config: Config, driver: str) -> dict[str, TargetConfig]:
    found = config.drivers.get(driver)
    return {} if found is None else {target.name: target for target in found.targets}


def _export_change(old: DriverConfig, new: DriverConfig) -> ExportChange:
    before = {target.name: target for target in old.targets}
    after = {target.name: target for target in new.targets}
    removed = [
        target for target in old.targets if not _is_export_kept(target, after.get(target.name))
    ]
    added = [
        target for target in new.targets if not _is_export_kept(before.get(target.name), target)
    ]
    return ExportChange(new, removed, added)


def _is_export_kept(old: TargetConfig | None, new: TargetConfig | None) -> bool:
    """Whether attributes are the same that only another export can have."""
    if old is None or new is None:
        return False
    changed = changed_attributes(old.attributes, new.attributes)
    return set(changed) <= {"enabled", "rel_tgt_id"}
