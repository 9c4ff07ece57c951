# SPDX-License-Identifier: GPL-2.0-or-later
"""LUN lines, and the GROUP sections that give some initiators LUNs of their own.

As in SCST, the first group with a pattern that fits an initiator's name is its group. Who is in no
group has the LUNs of the target itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import BaseModel

from bridges.config_sections import check_name, check_section, read_attributes, unexpected_word
from bridges.scst_conf import ConfigError, Location, Statement, Word
from scsi_backend.handlers.attributes import Flag
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import MAX_LUN

# Room for leading zeros; int() itself refuses thousands of digits.
_LUN_NUMBER = re.compile("[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class LunConfig:
    """A LUN line or section."""

    number: int
    device: str
    is_read_only: bool
    location: Location = field(compare=False)


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """A GROUP section; ``initiators`` are patterns, as they are written."""

    name: str
    luns: tuple[LunConfig, ...]
    initiators: tuple[str, ...]
    location: Location = field(compare=False)


class LunAttributes(BaseModel):
    """What a LUN has."""

    read_only: Flag = False


def read_luns(block: Iterable[Statement]) -> tuple[LunConfig, ...]:
    """Read the LUN lines of a target's or group's block; raises ConfigError."""
    luns: dict[int, LunConfig] = {}
    for item in block:
        if item.keyword == "LUN":
            lun = _lun(item)
            other = luns.setdefault(lun.number, lun)
            if other is not lun:
                line = other.location.line
                raise ConfigError(
                    item.location, f"LUN {lun.number} is mapped already, at line {line}"
                )
    return tuple(luns.values())


def read_groups(block: Iterable[Statement]) -> tuple[GroupConfig, ...]:
    """Read the GROUP sections of a target's block, in their order; raises ConfigError."""
    groups: dict[str, GroupConfig] = {}
    for item in block:
        if item.keyword == "GROUP":
            group = _group(check_section(item, {"GROUP"}, 2))
            other = groups.setdefault(group.name, group)
            if other is not group:
                line = other.location.line
                raise ConfigError(
                    item.location, f"group {group.name} exists already, at line {line}"
                )
    return tuple(groups.values())


def lun_number(word: Word) -> int:
    """Read the number of a LUN; raises ConfigError."""
    if not _LUN_NUMBER.fullmatch(word.text) or int(word.text) > MAX_LUN:
        raise ConfigError(
            word.location, f"LUN '{word.text}': expected a number from 0 to {MAX_LUN}"
        )
    return int(word.text)


def _lun(statement: Statement) -> LunConfig:
    if len(statement.words) != 3:
        raise ConfigError(statement.location, "expected LUN NUMBER DEVICE")
    _, number, device = statement.words
    found = lun_number(number)
    attributes = read_attributes(LunAttributes, statement, f"LUN {number.text}")
    return LunConfig(found, device.text, attributes.read_only, statement.location)


def _group(section: Statement) -> GroupConfig:
    name, block = check_name(section.words[1]), section.block or ()
    for item in block:
        if item.keyword not in ("INITIATOR", "LUN"):
            raise unexpected_word(item.words[0], ("INITIATOR", "LUN"))
    initiators = _initiators(name, [item for item in block if item.keyword == "INITIATOR"])
    return GroupConfig(name, read_luns(block), initiators, section.location)


def _initiators(group: str, lines: Iterable[Statement]) -> tuple[str, ...]:
    seen: dict[str, Location] = {}
    for line in lines:
        if len(line.words) != 2 or line.block is not None:
            raise ConfigError(line.location, "expected INITIATOR PATTERN")
        pattern = line.words[1]
        if pattern.text in seen:
            first = seen[pattern.text].line
            raise ConfigError(
                line.location,
                f"initiator {pattern.text} is in group {group} already, at line {first}",
            )
        try:
            InitiatorPattern.parse(pattern.text)
        except ValueError as error:
            raise ConfigError(
                pattern.location, f"group {group}: initiator '{pattern.text}': {error}"
            ) from error
        seen[pattern.text] = line.location
    return tuple(seen)
