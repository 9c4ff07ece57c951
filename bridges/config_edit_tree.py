# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding and changing statements of a configuration that is in force.

The trees are ones that ``config.interpret`` accepts. What an edit does not mean keeps its order and
its location; what it adds stands at ``RUN_TIME``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bridges.config_one_disk import COMMAND_LINE
from bridges.scst_conf import ConfigError, Location, Statement, unparse
from bridges.statements import Builder

# What errors name as the file of what was added; it has no line worth telling.
RUN_TIME = "run time"

build = Builder(Location(RUN_TIME, 1))

Statements = tuple[Statement, ...]


class EditError(Exception):
    """An edit cannot be made; its text is one line: what is wrong, and what was expected."""


def _writable(word: str) -> str:
    try:
        unparse((build.line("word", word),))
    except ConfigError as error:
        raise ValueError(error.message) from error
    return word


# Can stand in a file.
Writable = Annotated[str, AfterValidator(_writable)]


class Arguments(BaseModel):
    """Base of every verb's arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TargetPlace(Arguments):
    """Leads to a target."""

    target: Writable = Field(description="the target's name")
    driver: Writable | None = Field(
        None, description="its driver; needed where several have a target of that name"
    )


class GroupPlace(TargetPlace):
    """Leads to a group of a target."""

    group: Writable = Field(description="the group's name")


class MapPlace(TargetPlace):
    """Leads to the LUNs of a target, or to those of one of its groups."""

    group: Writable | None = Field(
        None, description="the group whose LUNs are meant; else those of the target itself"
    )


def unknown(what: str, name: str, known: Iterable[str], none: str) -> EditError:
    """The error of a name that is none of those known; ``none`` is expected if there are none."""
    expected = ", ".join(sorted(known)) or none
    return EditError(f"unknown {what} '{name}': expected {expected}")


def at(location: Location) -> str:
    """Where a statement stands, as the end of a message."""
    return f", at line {location.line}" if is_written(location.path) else ""


def is_written(path: str) -> bool:
    """Whether what stands there is in a file, with a line worth telling."""
    return path not in (RUN_TIME, COMMAND_LINE)


def sections(block: Iterable[Statement], keyword: str) -> dict[str, Statement]:
    """The statements of a keyword by name, in their order."""
    return {item.words[1].text: item for item in block if item.keyword == keyword}


def target_path(tree: Statements, place: TargetPlace) -> Statements:
    """The sections that lead to a target and end with it; raises EditError."""
    drivers = sections(tree, "TARGET_DRIVER")
    if place.driver is not None and place.driver not in drivers:
        raise unknown("driver", place.driver, drivers, "a TARGET_DRIVER section")
    known: set[str] = set()
    found: list[Statements] = []
    for name, driver in drivers.items():
        if place.driver in (None, name):
            targets = sections(driver.block or (), "TARGET")
            known.update(targets)
            if place.target in targets:
                found.append((driver, targets[place.target]))
    if not found:
        raise unknown("target", place.target, known, "a target to be added first")
    if len(found) > 1:
        names = " and ".join(driver.words[1].text for driver, _ in found)
        raise EditError(
            f"target {place.target}: drivers {names} each have one: expected a driver as well"
        )
    return found[0]


def group_path(tree: Statements, place: TargetPlace, group: str | None) -> Statements:
    """The sections that lead to a group, or to the target if it is None; raises EditError."""
    path = target_path(tree, place)
    if group is None:
        return path
    groups = sections(path[-1].block or (), "GROUP")
    if group not in groups:
        raise unknown("group", group, groups, f"a group of target {place.target}")
    return (*path, groups[group])


def change(
    tree: Statements, path: Statements, edit: Callable[[Statements], Statements]
) -> Statements:
    """Change the block of the last section of a path; that of the whole tree if it is empty."""
    if not path:
        return edit(tree)
    section, *rest = path
    return substitute(
        tree, section, replace(section, block=change(section.block or (), tuple(rest), edit))
    )


def substitute(block: Statements, old: Statement, *new: Statement) -> Statements:
    """Put statements in the place of one."""
    # Equality ignores locations, and that of a statement is part of what it is here.
    index = next(number for number, item in enumerate(block) if item is old)
    return (*block[:index], *new, *block[index + 1 :])


def insert(block: Statements, new: Statement) -> Statements:
    """Put a statement behind the last of its keyword, or at the end."""
    indices = [number for number, item in enumerate(block) if item.keyword == new.keyword]
    index = indices[-1] + 1 if indices else len(block)
    return (*block[:index], new, *block[index:])


def without(block: Statements, keyword: str) -> Statements:
    """Leave out all statements of a keyword."""
    return tuple(item for item in block if item.keyword != keyword)


def with_attribute(block: Statements, name: str, value: str) -> Statements:
    """Give an attribute its only value."""
    line = build.line(name, value)
    old = next((item for item in block if item.keyword == name), None)
    if old is None:
        return (*block, line)
    return block if old == line else substitute(block, old, line)
