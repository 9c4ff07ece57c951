# SPDX-License-Identifier: GPL-2.0-or-later
"""DEVICE_GROUP sections: devices that share access states, and the target groups that have them.

As SCST's, a section names targets without their drivers. A name that no driver has is a target of
another machine, with the rel_tgt_id that it has there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bridges.config_sections import check_name, read_attributes, read_lines, unexpected_word
from bridges.driver_attributes import Identifier
from bridges.scst_conf import ConfigError, Location, Statement
from scsi_backend.handlers.attributes import Flag
from scsi_backend.t10.alua import MAX_PORTS, AccessState

STATES = {state.name.lower(): state for state in AccessState}


def parse_state(word: Any) -> AccessState:
    """The access state that SCST calls so; raises ValueError."""
    if word not in STATES:
        raise ValueError(f"expected {', '.join(STATES)}")
    return STATES[word]


class TargetGroupAttributes(BaseModel):
    """What a TARGET_GROUP has beside its targets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group_id: Identifier = Field(description="target port group identifier; required")
    state: Annotated[AccessState, BeforeValidator(parse_state)] = Field(
        AccessState.ACTIVE, description=f"access state: {', '.join(STATES)}"
    )
    preferred: Flag = Field(False, description="initiators should use these targets if they can")


class GroupTargetAttributes(BaseModel):
    """What a TARGET of a TARGET_GROUP has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rel_tgt_id: Identifier | None = Field(
        None, description="of a remote target: its relative target port identifier"
    )


@dataclass(frozen=True, slots=True)
class GroupTarget:
    """A TARGET of a TARGET_GROUP; ``rel_tgt_id`` is None for a target of ours."""

    name: str
    rel_tgt_id: int | None
    location: Location = field(compare=False)


@dataclass(frozen=True, slots=True)
class TargetGroupConfig:
    """A TARGET_GROUP section."""

    name: str
    attributes: TargetGroupAttributes
    targets: tuple[GroupTarget, ...]
    location: Location = field(compare=False)


@dataclass(frozen=True, slots=True)
class DeviceGroupConfig:
    """A DEVICE_GROUP section; ``devices`` are names."""

    name: str
    devices: tuple[str, ...]
    target_groups: tuple[TargetGroupConfig, ...]
    location: Location = field(compare=False)
    device_locations: Mapping[str, Location] = field(compare=False)

    @property
    def targets(self) -> Iterator[GroupTarget]:
        """The targets of all target groups."""
        for group in self.target_groups:
            yield from group.targets


@dataclass(frozen=True, slots=True)
class KnownTarget:
    """A target of one of our drivers, as its section has it."""

    driver: str
    name: str
    rel_tgt_id: int | None
    location: Location = field(compare=False)


def read_device_group(section: Statement) -> DeviceGroupConfig:
    """Check what can be checked of the section alone; raises ConfigError."""
    name, block = check_name(section.words[1]), section.block or ()
    devices: dict[str, Location] = {}
    groups: list[TargetGroupConfig] = []
    for item in block:
        if item.keyword == "DEVICE":
            _add_device(devices, item)
        elif item.keyword == "TARGET_GROUP":
            groups.append(_target_group(item))
        else:
            raise unexpected_word(item.words[0], ("DEVICE", "TARGET_GROUP"))
    for found, wanted in ((devices, "DEVICE"), (groups, "TARGET_GROUP")):
        if not found:
            raise ConfigError(section.location, f"device group {name}: expected a {wanted}")
    result = DeviceGroupConfig(
        name, tuple(devices), tuple(groups), section.location, MappingProxyType(devices)
    )
    _check_group_ids(groups)
    _check_once(result.targets)
    return result


def _add_device(devices: dict[str, Location], line: Statement) -> None:
    if len(line.words) != 2 or line.block is not None:
        raise ConfigError(line.location, f"'{line.keyword}': expected DEVICE NAME")
    name = line.words[1].text
    if name in devices:
        first = devices[name].line
        raise ConfigError(line.location, f"device {name} is in the group already, at line {first}")
    devices[name] = line.location


def _target_group(section: Statement) -> TargetGroupConfig:
    if len(section.words) != 2 or section.block is None:
        raise ConfigError(
            section.location, "'TARGET_GROUP': expected TARGET_GROUP NAME and a block"
        )
    name = check_name(section.words[1])
    owner = f"target group {name}"
    plain = [item for item in section.block if item.keyword != "TARGET"]
    attributes = read_lines(TargetGroupAttributes, plain, section.location, owner, ("TARGET",))
    targets = tuple(_group_target(item) for item in section.block if item.keyword == "TARGET")
    if not 0 < len(targets) <= MAX_PORTS:
        raise ConfigError(section.location, f"{owner}: expected 1 to {MAX_PORTS} lines TARGET NAME")
    return TargetGroupConfig(name, attributes, targets, section.location)


def _group_target(line: Statement) -> GroupTarget:
    if len(line.words) != 2:
        raise ConfigError(line.location, "'TARGET': expected TARGET NAME")
    name = check_name(line.words[1])
    attributes = read_attributes(GroupTargetAttributes, line, f"target {name}")
    return GroupTarget(name, attributes.rel_tgt_id, line.location)


def _check_group_ids(groups: Iterable[TargetGroupConfig]) -> None:
    seen: dict[int, TargetGroupConfig] = {}
    for group in groups:
        number = group.attributes.group_id
        other = seen.setdefault(number, group)
        if other is not group:
            raise ConfigError(
                group.location,
                f"target group {group.name}: group_id {number} is that of"
                f" {other.name}, at line {other.location.line}",
            )


def _check_once(targets: Iterable[GroupTarget]) -> None:
    seen: dict[str, GroupTarget] = {}
    for target in targets:
        other = seen.setdefault(target.name, target)
        if other is not target:
            line = other.location.line
            raise ConfigError(
                target.location,
                f"target {target.name} is in a target group already, at line {line}",
            )


def check_device_groups(
    groups: Sequence[DeviceGroupConfig], devices: Collection[str], targets: Sequence[KnownTarget]
) -> None:
    """Check what the sections say of devices and targets elsewhere; raises ConfigError."""
    _check_devices(groups, devices)
    for group in groups:
        for target in group.targets:
            _check_target(target, [known for known in targets if known.name == target.name])
    _check_port_numbers(groups, targets)


def _check_devices(groups: Iterable[DeviceGroupConfig], devices: Collection[str]) -> None:
    seen: dict[str, DeviceGroupConfig] = {}
    for group in groups:
        for name, location in group.device_locations.items():
            if name not in devices:
                expected = ", ".join(sorted(devices)) or "a DEVICE section"
                raise ConfigError(location, f"unknown device '{name}': expected {expected}")
            other = seen.setdefault(name, group)
            if other is not group:
                line = other.device_locations[name].line
                raise ConfigError(
                    location, f"device {name} is in device group {other.name}, at line {line}"
                )


def _check_target(target: GroupTarget, known: Sequence[KnownTarget]) -> None:
    if len(known) > 1:
        drivers = " and ".join(sorted(each.driver for each in known))
        raise ConfigError(
            target.location,
            f"target {target.name}: drivers {drivers} each have one: expected a name of one target",
        )
    if known and target.rel_tgt_id is not None:
        raise ConfigError(
            target.location,
            f"target {target.name} is one of driver {known[0].driver}:"
            f" expected rel_tgt_id in its own section, at line {known[0].location.line}",
        )
    if not known and target.rel_tgt_id is None:
        raise ConfigError(
            target.location,
            f"unknown target '{target.name}': expected one of ours, or a block with rel_tgt_id",
        )


def _check_port_numbers(
    groups: Iterable[DeviceGroupConfig], targets: Iterable[KnownTarget]
) -> None:
    """Relative target port identifiers tell all ports apart, by whichever group they are named."""
    seen: dict[int, KnownTarget | GroupTarget] = {}
    ports: list[KnownTarget | GroupTarget] = list(targets)
    ports += [target for group in groups for target in group.targets]
    for target in ports:
        if target.rel_tgt_id is None:
            continue
        other = seen.setdefault(target.rel_tgt_id, target)
        is_same = isinstance(target, GroupTarget) and other.name == target.name
        if other is not target and not is_same:
            line = other.location.line
            raise ConfigError(
                target.location,
                f"target {target.name}: rel_tgt_id {target.rel_tgt_id} is that of"
                f" target {other.name}, at line {line}",
            )


def relative_target_ports(
    groups: Iterable[DeviceGroupConfig], targets: Sequence[KnownTarget]
) -> Mapping[tuple[str, str], int]:
    """The identifiers by driver and name: those given, and for the others the first free ones."""
    given = {target.rel_tgt_id for target in targets}
    given |= {target.rel_tgt_id for group in groups for target in group.targets}
    free = (number for number in count(1) if number not in given)
    return {
        (target.driver, target.name): next(free) if target.rel_tgt_id is None else target.rel_tgt_id
        for target in targets
    }
