# SPDX-License-Identifier: GPL-2.0-or-later
"""From a configuration to devices, LUN maps, targets and groups of the backend."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from bridges.config import Config, DeviceConfig, TargetConfig
from bridges.config_alua import DeviceGroupConfig, TargetGroupConfig
from bridges.config_luns import LunConfig
from bridges.scst_conf import ConfigError
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.backend import Backend
from scsi_backend.target.device_group import RemotePort, TargetGroup
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target

_log = logging.getLogger(__name__)

Units = Mapping[str, LogicalUnit]


def populate(backend: Backend, config: Config) -> None:
    """Open the devices and make the targets; raises ConfigError."""
    for caution in config.cautions():
        _log.warning("%s", caution)
    for device in config.devices:
        try:
            unit = backend.add_device(device.handler, device.name, device.attributes)
        except OSError as error:
            raise not_opened(device, error) from error
        check_size(device, unit)
    numbers = config.relative_target_ports()
    for driver in config.drivers.values():
        for section in driver.targets:
            number = numbers[driver.name, section.name]
            target = backend.add_target(driver.name, section.name, number)
            target.configure(
                luns=lun_map(section.luns, backend.devices),
                groups=groups_of(section, backend.devices),
                is_enabled=section.attributes.enabled,
            )
    for device_group in config.device_groups:
        group = backend.add_device_group(device_group.name)
        units = [backend.devices[name] for name in device_group.devices]
        group.configure(units, target_groups_of(device_group, backend.targets))


def not_opened(device: DeviceConfig, error: OSError) -> ConfigError:
    """Why a device could not be opened, at its line."""
    where = f"{error.filename}: " if error.filename else ""
    return ConfigError(device.location, f"device {device.name}: {where}{error.strerror}")


def check_size(device: DeviceConfig, unit: LogicalUnit) -> None:
    """Check that there is something to serve, and log it; raises ConfigError."""
    size = unit.vdisk.block_size_bytes
    if unit.block_count == 0:
        message = f"device {device.name}: empty: expected at least one block of {size} bytes"
        raise ConfigError(device.location, message)
    _log.info(
        "device %s: %s, %d blocks of %d bytes", device.name, device.handler, unit.block_count, size
    )


def lun_map(luns: Iterable[LunConfig], units: Units) -> Mapping[int, LunEntry]:
    """The LUN map that LUN lines make."""
    return {lun.number: LunEntry(units[lun.device], lun.is_read_only) for lun in luns}


def groups_of(section: TargetConfig, units: Units) -> list[InitiatorGroup]:
    """The groups of a target."""
    return [
        InitiatorGroup(
            group.name,
            tuple(InitiatorPattern.parse(pattern) for pattern in group.initiators),
            lun_map(group.luns, units),
        )
        for group in section.groups
    ]


def target_groups_of(section: DeviceGroupConfig, targets: Iterable[Target]) -> list[TargetGroup]:
    """The target groups of a device group."""
    by_name = {target.name: target for target in targets}
    return [_target_group(part, by_name) for part in section.target_groups]


def _target_group(section: TargetGroupConfig, targets: Mapping[str, Target]) -> TargetGroup:
    attributes = section.attributes
    return TargetGroup(
        section.name,
        attributes.group_id,
        [
            targets[port.name]
            if port.rel_tgt_id is None
            else RemotePort(port.name, port.rel_tgt_id)
            for port in section.targets
        ],
        state=attributes.state,
        is_preferred=attributes.preferred,
    )
