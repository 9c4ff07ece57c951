# SPDX-License-Identifier: GPL-2.0-or-later
"""What a configuration means: devices, drivers, targets, LUNs and groups, checked as a whole.

The grammar is ``scst_conf``'s, the attributes of devices are the handlers'. Everything wrong is a
``ConfigError`` that names file, line, word and what was expected. Nothing is opened here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType

from bridges.config_alua import (
    DeviceGroupConfig,
    KnownTarget,
    check_device_groups,
    read_device_group,
    relative_target_ports,
)
from bridges.config_luns import GroupConfig, LunConfig, read_groups, read_luns
from bridges.config_sections import (
    check_name,
    check_section,
    read_attributes,
    read_lines,
    unexpected_word,
)
from bridges.driver_attributes import DRIVERS, Driver, DriverAttributes, TargetAttributes
from bridges.scst_conf import ConfigError, Location, Statement, parse
from scsi_backend.handlers.attributes import VdiskAttributes
from scsi_backend.handlers.registry import HANDLERS

# What a target has beside attributes.
_TARGET_SECTIONS = ("GROUP", "LUN")


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A DEVICE section."""

    name: str
    handler: str
    attributes: VdiskAttributes
    location: Location = field(compare=False)


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """A TARGET section."""

    name: str
    attributes: TargetAttributes
    luns: tuple[LunConfig, ...]
    location: Location = field(compare=False)
    # In their order: the first that fits an initiator is its group.
    groups: tuple[GroupConfig, ...] = ()

    @property
    def lun_maps(self) -> Iterator[tuple[LunConfig, ...]]:
        """Its own LUNs, and those of each group."""
        yield self.luns
        for group in self.groups:
            yield group.luns


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """A TARGET_DRIVER section."""

    name: str
    attributes: DriverAttributes
    targets: tuple[TargetConfig, ...]
    location: Location = field(compare=False)


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration, and what it was interpreted from."""

    devices: tuple[DeviceConfig, ...]
    drivers: Mapping[str, DriverConfig]
    device_groups: tuple[DeviceGroupConfig, ...] = ()
    statements: tuple[Statement, ...] = field(default=(), compare=False)

    def cautions(self) -> list[str]:
        """What may be meant so, but seldom is; one line each."""
        return [
            f"{target.location.path}:{target.location.line}:"
            f" target {target.name} is enabled without a LUN: nobody can log in"
            for driver in self.drivers.values()
            for target in driver.targets
            if target.attributes.enabled and not any(target.lun_maps)
        ]

    def relative_target_ports(self) -> Mapping[tuple[str, str], int]:
        """Relative target port identifiers by driver and target."""
        return relative_target_ports(self.device_groups, _known_targets(self.drivers.values()))


def load(path: str) -> Config:
    """Read and check a file; raises OSError and ConfigError."""
    # Line ends are the grammar's business, which knows what is part of a line.
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return interpret(parse(file.read(), path))


def interpret(statements: Sequence[Statement]) -> Config:
    """Check parsed statements; raises ConfigError."""
    devices: list[DeviceConfig] = []
    drivers: dict[str, DriverConfig] = {}
    groups: list[DeviceGroupConfig] = []
    for statement in statements:
        section = check_section(statement, {"HANDLER", "TARGET_DRIVER", "DEVICE_GROUP"}, 2)
        if section.keyword == "HANDLER":
            devices.extend(_handler(section))
        elif section.keyword == "DEVICE_GROUP":
            groups.append(read_device_group(section))
        else:
            driver = _driver(section)
            drivers[driver.name] = driver
    _check_devices(devices)
    _check_luns(devices, drivers.values())
    names = [device.name for device in devices]
    check_device_groups(groups, names, _known_targets(drivers.values()))
    return Config(tuple(devices), MappingProxyType(drivers), tuple(groups), tuple(statements))


def _known_targets(drivers: Iterable[DriverConfig]) -> Sequence[KnownTarget]:
    return [
        KnownTarget(driver.name, target.name, target.attributes.rel_tgt_id, target.location)
        for driver in drivers
        for target in driver.targets
    ]


def _handler(section: Statement) -> Iterable[DeviceConfig]:
    word = section.words[1]
    handler = HANDLERS.get(word.text)
    if handler is None:
        raise unexpected_word(word, HANDLERS)
    for statement in section.block or ():
        if statement.keyword != "DEVICE" or len(statement.words) != 2:
            raise ConfigError(statement.location, f"'{statement.keyword}': expected DEVICE NAME")
        attributes = read_attributes(
            handler.attributes, statement, f"device {statement.words[1].text}"
        )
        yield DeviceConfig(
            check_name(statement.words[1]), word.text, attributes, statement.location
        )


def _driver(section: Statement) -> DriverConfig:
    word = section.words[1]
    kind = DRIVERS.get(word.text)
    if kind is None:
        raise unexpected_word(word, DRIVERS)
    plain = [item for item in section.block or () if item.keyword != "TARGET"]
    owner = f"driver {word.text}"
    attributes = read_lines(kind.attributes, plain, section.location, owner, ("TARGET",))
    targets = tuple(
        _target(check_section(item, {"TARGET"}, 2), kind)
        for item in section.block or ()
        if item.keyword == "TARGET"
    )
    return DriverConfig(word.text, attributes, targets, section.location)


def _target(section: Statement, driver: Driver) -> TargetConfig:
    name = section.words[1]
    try:
        driver.check_target_name(check_name(name))
    except ValueError as error:
        raise ConfigError(name.location, f"target '{name.text}': {error}") from error
    block = section.block or ()
    plain = [item for item in block if item.keyword not in _TARGET_SECTIONS]
    owner = f"target {name.text}"
    attributes = read_lines(
        driver.target_attributes, plain, section.location, owner, _TARGET_SECTIONS
    )
    try:
        driver.check_target(name.text, attributes)
    except ValueError as error:
        raise ConfigError(name.location, f"{owner}: {error}") from error
    luns, groups = read_luns(block), read_groups(block)
    _check_map(driver, luns, section.location, owner)
    for group in groups:
        _check_map(driver, group.luns, group.location, f"{owner}: group {group.name}")
    return TargetConfig(name.text, attributes, luns, section.location, groups)


def _check_map(driver: Driver, luns: Iterable[LunConfig], location: Location, owner: str) -> None:
    """Where there is no LUN there is no access, which suits every driver."""
    numbers = [lun.number for lun in luns]
    try:
        if numbers:
            driver.check_luns(numbers)
    except ValueError as error:
        raise ConfigError(location, f"{owner}: {error}") from error


def _check_devices(devices: Iterable[DeviceConfig]) -> None:
    seen: dict[str, DeviceConfig] = {}
    for device in devices:
        other = seen.setdefault(device.name, device)
        if other is not device:
            raise ConfigError(
                device.location,
                f"device {device.name} exists already, at line {other.location.line}",
            )


def _check_luns(devices: Iterable[DeviceConfig], drivers: Iterable[DriverConfig]) -> None:
    known = {device.name: device for device in devices}
    for driver in drivers:
        for target in driver.targets:
            for lun in chain.from_iterable(target.lun_maps):
                if lun.device not in known:
                    expected = ", ".join(sorted(known)) or "a DEVICE section"
                    raise ConfigError(
                        lun.location,
                        f"LUN {lun.number}: unknown device '{lun.device}': expected {expected}",
                    )
                _check_block_size(driver.name, lun, known[lun.device])


def _check_block_size(driver: str, lun: LunConfig, device: DeviceConfig) -> None:
    wanted = DRIVERS[driver].block_size_bytes
    found = device.attributes.blocksize
    if wanted not in (None, found):
        raise ConfigError(
            lun.location,
            f"LUN {lun.number}: device {device.name} has blocks of {found} bytes:"
            f" driver {driver} expected {wanted}",
        )
