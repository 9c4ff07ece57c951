# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a configuration cannot be changed while a daemon has it in force.

Initiators know a device by its attributes, and a port by its number. Where a driver listens, and on
which terms, is settled when its doors are opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from bridges.config import Config
from bridges.config_diff import changed_attributes
from bridges.config_edit_tree import RUN_TIME, sections
from bridges.scst_conf import ConfigError, Location, Statement

_RESTART = "restart the daemon"
_RENAME = "give the device another name, or restart the daemon"
_ADD_ANEW = "remove the target and add it again, or restart the daemon"

Block = tuple[Statement, ...]


def refusals(running: Config, wanted: Config) -> list[ConfigError]:
    """Everything that keeps ``wanted`` from taking the place of ``running``, by its lines."""
    found = [
        *_devices(running, wanted),
        *_drivers(running, wanted),
        *_port_numbers(running, wanted),
    ]
    return sorted(found, key=lambda error: error.line)


def reason(error: ConfigError) -> str:
    """The text of an error; what was added at run time stands in no file."""
    return error.message if error.path == RUN_TIME else str(error)


def _devices(running: Config, wanted: Config) -> Iterator[ConfigError]:
    before = {device.name: device for device in running.devices}
    blocks, wanted_blocks = _device_blocks(running), _device_blocks(wanted)
    for device in wanted.devices:
        old = before.get(device.name)
        if old is None:
            continue
        owner = f"device {device.name}"
        if old.handler != device.handler:
            what = f"handler {device.handler}, which was {old.handler}"
            yield _refusal(device.location, owner, what, _RENAME)
            continue
        lines = blocks[device.name], wanted_blocks[device.name]
        for location, what in _differences(
            old.attributes, device.attributes, *lines, device.location
        ):
            yield _refusal(location, owner, what, _RENAME)


def _drivers(running: Config, wanted: Config) -> Iterator[ConfigError]:
    blocks, wanted_blocks = _driver_blocks(running), _driver_blocks(wanted)
    for driver in wanted.drivers.values():
        old = running.drivers.get(driver.name)
        if old is None:
            continue
        lines = blocks[driver.name], wanted_blocks[driver.name]
        for location, what in _differences(
            old.attributes, driver.attributes, *lines, driver.location
        ):
            yield _refusal(location, f"driver {driver.name}", what, _RESTART)


def _port_numbers(running: Config, wanted: Config) -> Iterator[ConfigError]:
    before, after = running.relative_target_ports(), wanted.relative_target_ports()
    for driver in wanted.drivers.values():
        for target in driver.targets:
            place = (driver.name, target.name)
            if before.get(place, after[place]) != after[place]:
                what = f"rel_tgt_id {after[place]}, which was {before[place]}"
                yield _refusal(target.location, f"target {target.name}", what, _ADD_ANEW)


def _device_blocks(config: Config) -> Mapping[str, Block]:
    """The statements in the sections of devices by name."""
    return {
        name: device.block or ()
        for handler in sections(config.statements, "HANDLER").values()
        for name, device in sections(handler.block or (), "DEVICE").items()
    }


def _driver_blocks(config: Config) -> Mapping[str, Block]:
    """The statements in the sections of drivers by name."""
    found = sections(config.statements, "TARGET_DRIVER")
    return {name: driver.block or () for name, driver in found.items()}


def _differences(
    old: BaseModel, new: BaseModel, before: Block, after: Block, section: Location
) -> Iterator[tuple[Location, str]]:
    """What differs in attributes: the lines that are new, or else those that are missing."""
    for name in changed_attributes(old, new):
        lines = [[line for line in block if line.keyword == name] for block in (before, after)]
        added = [line for line in lines[1] if line not in lines[0]]
        for line in added:
            yield line.location, _text(line)
        if not added:
            for line in lines[0]:
                if line not in lines[1]:
                    yield section, f"without {_text(line)}"


def _text(line: Statement) -> str:
    return " ".join(word.text for word in line.words)


def _refusal(location: Location, owner: str, what: str, remedy: str) -> ConfigError:
    message = f"{owner}: {what}: cannot be changed while the daemon runs: {remedy}"
    return ConfigError(location, message)
