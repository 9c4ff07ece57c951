# SPDX-License-Identifier: GPL-2.0-or-later
"""What a configuration means: devices, target drivers, targets and LUNs, checked as a whole.

The grammar is ``scst_conf``'s, the attributes of devices are the handlers'. Everything wrong is a
``ConfigError`` that names file, line, word and what was expected. Nothing is opened here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bridges.driver_attributes import DRIVERS, Driver, DriverAttributes, TargetAttributes, Terms
from bridges.scst_conf import ConfigError, Location, Statement, Word, parse
from scsi_backend.handlers.attributes import Flag, VdiskAttributes
from scsi_backend.handlers.registry import HANDLERS
from scsi_backend.target.lun_map import MAX_LUN

# SCST: 64 characters with the terminating NUL.
_MAX_NAME = 63
# Room for leading zeros; int() itself refuses thousands of digits.
_LUN_NUMBER = re.compile("[0-9]{1,20}")

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A DEVICE section."""

    name: str
    handler: str
    attributes: VdiskAttributes
    location: Location


@dataclass(frozen=True, slots=True)
class LunConfig:
    """A LUN line or section."""

    number: int
    device: str
    is_read_only: bool
    location: Location


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """A TARGET section."""

    name: str
    attributes: TargetAttributes
    luns: tuple[LunConfig, ...]
    location: Location


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """A TARGET_DRIVER section."""

    name: str
    attributes: DriverAttributes
    targets: tuple[TargetConfig, ...]
    location: Location


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration."""

    devices: tuple[DeviceConfig, ...]
    drivers: Mapping[str, DriverConfig]


def load(path: str) -> Config:
    """Read and check a file; raises OSError and ConfigError."""
    # Line ends are the grammar's business, which knows what is part of a line.
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return interpret(parse(file.read(), path))


def interpret(statements: Sequence[Statement]) -> Config:
    """Check parsed statements; raises ConfigError."""
    devices: list[DeviceConfig] = []
    drivers: dict[str, DriverConfig] = {}
    for statement in statements:
        section = _section(statement, {"HANDLER", "TARGET_DRIVER"}, 2)
        if section.keyword == "HANDLER":
            devices.extend(_handler(section))
        else:
            driver = _driver(section)
            drivers[driver.name] = driver
    _check_devices(devices)
    _check_luns(devices, drivers.values())
    return Config(tuple(devices), MappingProxyType(drivers))


def _section(statement: Statement, allowed: Iterable[str], words: int) -> Statement:
    """Check that a statement is one of the sections that may stand here."""
    if statement.keyword not in allowed:
        raise _unexpected(statement.words[0], allowed)
    if len(statement.words) != words:
        raise ConfigError(
            statement.location, f"{statement.keyword}: expected one name after the keyword"
        )
    if statement.block is None:
        raise ConfigError(
            statement.location, f"{statement.keyword} {statement.words[1].text}: expected a block"
        )
    return statement


def _unexpected(word: Word, allowed: Iterable[str]) -> ConfigError:
    expected = ", ".join(sorted(allowed))
    return ConfigError(word.location, f"unknown word '{word.text}': expected one of {expected}")


def _name(word: Word) -> str:
    if not 0 < len(word.text) <= _MAX_NAME:
        raise ConfigError(
            word.location, f"name '{word.text}': expected 1 to {_MAX_NAME} characters"
        )
    return word.text


def _handler(section: Statement) -> Iterable[DeviceConfig]:
    word = section.words[1]
    handler = HANDLERS.get(word.text)
    if handler is None:
        raise _unexpected(word, HANDLERS)
    for statement in section.block or ():
        if statement.keyword != "DEVICE" or len(statement.words) != 2:
            raise ConfigError(statement.location, f"'{statement.keyword}': expected DEVICE NAME")
        attributes = _attributes(handler.attributes, statement, f"device {statement.words[1].text}")
        yield DeviceConfig(_name(statement.words[1]), word.text, attributes, statement.location)


def _driver(section: Statement) -> DriverConfig:
    word = section.words[1]
    kind = DRIVERS.get(word.text)
    if kind is None:
        raise _unexpected(word, DRIVERS)
    plain = [item for item in section.block or () if item.keyword != "TARGET"]
    owner = f"driver {word.text}"
    attributes = _validated(kind.attributes, plain, section.location, owner, ("TARGET",))
    targets = tuple(
        _target(_section(item, {"TARGET"}, 2), kind)
        for item in section.block or ()
        if item.keyword == "TARGET"
    )
    return DriverConfig(word.text, attributes, targets, section.location)


def _target(section: Statement, driver: Driver) -> TargetConfig:
    name = section.words[1]
    try:
        driver.check_target_name(_name(name))
    except ValueError as error:
        raise ConfigError(name.location, f"target '{name.text}': {error}") from error
    plain = [item for item in section.block or () if item.keyword != "LUN"]
    owner = f"target {name.text}"
    attributes = _validated(driver.target_attributes, plain, section.location, owner, ("LUN",))
    luns: dict[int, LunConfig] = {}
    for item in section.block or ():
        if item.keyword != "LUN":
            continue
        lun = _lun(item)
        if lun.number in luns:
            first = luns[lun.number].location.line
            raise ConfigError(item.location, f"LUN {lun.number} is mapped already, at line {first}")
        luns[lun.number] = lun
    try:
        driver.check_luns(luns)
    except ValueError as error:
        raise ConfigError(section.location, f"{owner}: {error}") from error
    return TargetConfig(name.text, attributes, tuple(luns.values()), section.location)


class _LunAttributes(BaseModel):
    read_only: Flag = False


def _lun(statement: Statement) -> LunConfig:
    if len(statement.words) != 3:
        raise ConfigError(statement.location, "expected LUN NUMBER DEVICE")
    _, number, device = statement.words
    if not _LUN_NUMBER.fullmatch(number.text) or int(number.text) > MAX_LUN:
        raise ConfigError(
            number.location, f"LUN '{number.text}': expected a number from 0 to {MAX_LUN}"
        )
    attributes = _attributes(_LunAttributes, statement, f"LUN {number.text}")
    return LunConfig(int(number.text), device.text, attributes.read_only, statement.location)


def _attributes(model: type[ModelT], section: Statement, owner: str) -> ModelT:
    return _validated(model, section.block or (), section.location, owner)


def _validated(
    model: type[ModelT],
    statements: Sequence[Statement],
    location: Location,
    owner: str,
    sections: Iterable[str] = (),
) -> ModelT:
    """Check plain attribute lines against a model.

    For messages, ``owner`` names the section, and ``sections`` what else may stand in it.
    """
    values: dict[str, Any] = {}
    words: dict[str, list[Word]] = {}
    for statement in statements:
        name = statement.words[0]
        field = model.model_fields.get(name.text)
        if field is None:
            raise _unexpected(name, (*model.model_fields, *sections))
        terms = next((item for item in field.metadata if isinstance(item, Terms)), None)
        if statement.block is not None and terms is None:
            raise ConfigError(statement.location, f"{name.text}: expected a value, not a block")
        if len(statement.words) != 2:
            raise ConfigError(statement.location, f"{name.text}: expected one value")
        value = statement.words[1]
        given = words.setdefault(name.text, [])
        is_list = isinstance(field.get_default(call_default_factory=True), tuple)
        subject = str if terms is None else terms.subject
        for other in given:
            if not is_list or subject(other.text) == subject(value.text):
                what = f"{name.text} {value.text}" if is_list else name.text
                line = other.location.line
                raise ConfigError(
                    name.location, f"{owner}: {what} is given already, at line {line}"
                )
        given.append(value)
        found = _value(statement, terms)
        if is_list:
            values.setdefault(name.text, []).append(found)
        else:
            values[name.text] = found
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _located(error, words, location, owner) from error


def _value(statement: Statement, terms: Terms | None) -> str | tuple[str, BaseModel]:
    """The value of an attribute's line, with its terms if it has a block."""
    name, value = (word.text for word in statement.words)
    if terms is None or statement.block is None:
        return value
    return value, _attributes(terms.model, statement, f"{name} {value}")


def _located(
    error: ValidationError,
    words: Mapping[str, Sequence[Word]],
    location: Location,
    owner: str,
) -> ConfigError:
    """Turn the first thing that a model found wrong into an error at its line."""
    detail = error.errors()[0]
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return ConfigError(location, f"{owner}: {message}")
    name = str(detail["loc"][0])
    if detail["type"] == "missing":
        return ConfigError(location, f"{owner}: {name} is required")
    # The second part, if any, is the number of the wrong one in a list.
    word = words[name][int(detail["loc"][1]) if len(detail["loc"]) > 1 else 0]
    return ConfigError(word.location, f"{owner}: {name} '{word.text}': {message}")


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
            if target.attributes.enabled and not target.luns:
                raise ConfigError(target.location, f"target {target.name}: expected a LUN")
            for lun in target.luns:
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
