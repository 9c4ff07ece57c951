# SPDX-License-Identifier: GPL-2.0-or-later
"""What is different between two configurations, by what they mean and not by how it is written.

Removals come first, then what is new or changes, from devices to device groups; targets are enabled
last. That is scstadmin's order. A target that comes or goes does so with all that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from bridges.config import Config, TargetConfig
from bridges.config_alua import DeviceGroupConfig, TargetGroupConfig
from bridges.config_luns import LunConfig
from bridges.listen import Listen

KeyT = TypeVar("KeyT")
ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True)
class DeviceAdded:
    """A device is new."""

    name: str


@dataclass(frozen=True, slots=True)
class DeviceRemoved:
    """A device is gone; one that has another handler is gone, and new."""

    name: str


@dataclass(frozen=True, slots=True)
class DeviceChanged:
    """A device has other attributes."""

    name: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DriverAdded:
    """A target driver is new; so are its targets, each of which is told as well."""

    name: str


@dataclass(frozen=True, slots=True)
class DriverRemoved:
    """A target driver is gone; so are its targets, each of which is told as well."""

    name: str


@dataclass(frozen=True, slots=True)
class DriverChanged:
    """A target driver has other attributes."""

    name: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetAdded:
    """A target is new."""

    driver: str
    name: str


@dataclass(frozen=True, slots=True)
class TargetRemoved:
    """A target is gone."""

    driver: str
    name: str


@dataclass(frozen=True, slots=True)
class TargetChanged:
    """A target has other attributes, leaving out ``enabled``.

    ``rel_tgt_id`` is the number that the port has, whether somebody gave it or not.
    """

    driver: str
    name: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnabledChanged:
    """A target is enabled, or disabled."""

    driver: str
    name: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class AccessChanged:
    """A target has other LUNs or groups, or its groups or their patterns another order."""

    driver: str
    name: str


@dataclass(frozen=True, slots=True)
class DeviceGroupAdded:
    """A device group is new."""

    name: str


@dataclass(frozen=True, slots=True)
class DeviceGroupRemoved:
    """A device group is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class DeviceGroupChanged:
    """A device group has other devices or target groups, or these other numbers or targets."""

    name: str


@dataclass(frozen=True, slots=True)
class TargetGroupChanged:
    """A target group that stays has another ``state``, or is ``preferred`` or no longer so."""

    device_group: str
    name: str
    attributes: tuple[str, ...]


Change = (
    DeviceAdded
    | DeviceRemoved
    | DeviceChanged
    | DriverAdded
    | DriverRemoved
    | DriverChanged
    | TargetAdded
    | TargetRemoved
    | TargetChanged
    | EnabledChanged
    | AccessChanged
    | DeviceGroupAdded
    | DeviceGroupRemoved
    | DeviceGroupChanged
    | TargetGroupChanged
)

# In which order changes are told.
_ORDER = (
    DeviceGroupRemoved,
    TargetRemoved,
    DriverRemoved,
    DeviceRemoved,
    DeviceAdded,
    DeviceChanged,
    DriverAdded,
    DriverChanged,
    TargetAdded,
    TargetChanged,
    AccessChanged,
    DeviceGroupAdded,
    DeviceGroupChanged,
    TargetGroupChanged,
)


def differences(before: Config, after: Config) -> tuple[Change, ...]:
    """The changes that make one configuration into the other; none if they mean the same."""
    found = [
        *_devices(before, after),
        *_drivers(before, after),
        *_targets(before, after),
        *_device_groups(before, after),
    ]
    # Sorting keeps what is of one kind in the order of the configurations.
    return tuple(sorted(found, key=_rank))


def _rank(change: Change) -> int:
    if isinstance(change, EnabledChanged):
        return len(_ORDER) if change.enabled else -1
    return _ORDER.index(type(change))


def _devices(before: Config, after: Config) -> Iterator[Change]:
    # A device with another handler is another device.
    old = {(device.handler, device.name): device for device in before.devices}
    new = {(device.handler, device.name): device for device in after.devices}
    yield from (DeviceRemoved(name) for _, name in _missing(old, new))
    yield from (DeviceAdded(name) for _, name in _missing(new, old))
    for one, other in _pairs(old, new):
        changed = changed_attributes(one.attributes, other.attributes)
        if changed:
            yield DeviceChanged(other.name, changed)


def _drivers(before: Config, after: Config) -> Iterator[Change]:
    yield from (DriverRemoved(name) for name in _missing(before.drivers, after.drivers))
    yield from (DriverAdded(name) for name in _missing(after.drivers, before.drivers))
    for one, other in _pairs(before.drivers, after.drivers):
        changed = changed_attributes(one.attributes, other.attributes)
        if changed:
            yield DriverChanged(other.name, changed)


def _targets(before: Config, after: Config) -> Iterator[Change]:
    old, new = targets_of(before), targets_of(after)
    ports = before.relative_target_ports(), after.relative_target_ports()
    yield from (TargetRemoved(*key) for key in _missing(old, new))
    yield from (TargetAdded(*key) for key in _missing(new, old))
    for key, other in new.items():
        one = old.get(key)
        if one is None:
            continue
        changed = set(changed_attributes(one.attributes, other.attributes))
        changed -= {"enabled", "rel_tgt_id"}
        if ports[0][key] != ports[1][key]:
            changed.add("rel_tgt_id")
        if changed:
            names = type(other.attributes).model_fields
            yield TargetChanged(*key, tuple(name for name in names if name in changed))
        if _access(one) != _access(other):
            yield AccessChanged(*key)
        if one.attributes.enabled is not other.attributes.enabled:
            yield EnabledChanged(*key, other.attributes.enabled)


def _device_groups(before: Config, after: Config) -> Iterator[Change]:
    old = {group.name: group for group in before.device_groups}
    new = {group.name: group for group in after.device_groups}
    yield from (DeviceGroupRemoved(name) for name in _missing(old, new))
    yield from (DeviceGroupAdded(name) for name in _missing(new, old))
    for one, other in _pairs(old, new):
        if _members(one) != _members(other):
            yield DeviceGroupChanged(other.name)
        for part, other_part in _pairs(target_groups_of(one), target_groups_of(other)):
            changed = changed_attributes(part.attributes, other_part.attributes)
            changed = tuple(name for name in changed if name != "group_id")
            if changed:
                yield TargetGroupChanged(other.name, other_part.name, changed)


def targets_of(config: Config) -> dict[tuple[str, str], TargetConfig]:
    """All targets by driver and name."""
    return {
        (driver.name, target.name): target
        for driver in config.drivers.values()
        for target in driver.targets
    }


def target_groups_of(group: DeviceGroupConfig) -> dict[str, TargetGroupConfig]:
    """The target groups of a device group by name."""
    return {part.name: part for part in group.target_groups}


def lun_map(luns: Iterable[LunConfig]) -> dict[int, LunConfig]:
    """LUNs by number; their order means nothing."""
    return {lun.number: lun for lun in luns}


def changed_attributes(one: BaseModel, other: BaseModel) -> tuple[str, ...]:
    """The names of attributes that have another meaning in another model of the same type."""
    return tuple(
        name
        for name in type(one).model_fields
        if _meaning(getattr(one, name)) != _meaning(getattr(other, name))
    )


def _meaning(value: Any) -> object:
    """The order of an attribute's lines means nothing."""
    if isinstance(value, Listen):
        # The memory of connections is another attribute of the driver.
        access = value.access
        rules = frozenset(access.allow), frozenset(access.deny)
        return value.address, value.tls, rules, value.max_connections
    return frozenset(map(_meaning, value)) if isinstance(value, tuple) else value


def _access(target: TargetConfig) -> object:
    groups = [(group.name, lun_map(group.luns), group.initiators) for group in target.groups]
    return lun_map(target.luns), groups


def _members(group: DeviceGroupConfig) -> object:
    parts = {
        (part.name, part.attributes.group_id, frozenset(part.targets))
        for part in group.target_groups
    }
    return frozenset(group.devices), parts


def _missing(these: Mapping[KeyT, object], those: Mapping[KeyT, object]) -> Iterator[KeyT]:
    return (key for key in these if key not in those)


def _pairs(
    old: Mapping[KeyT, ConfigT], new: Mapping[KeyT, ConfigT]
) -> Iterator[tuple[ConfigT, ConfigT]]:
    return ((old[key], item) for key, item in new.items() if key in old)
