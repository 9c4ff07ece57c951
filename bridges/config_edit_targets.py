# SPDX-License-Identifier: GPL-2.0-or-later
"""Edits of a configuration: targets and their attributes.

Numbers of relative target ports that nobody gave go by the order of targets. Initiators know ports
by them, and reservations are kept by them: an edit writes down those that it would change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count

from pydantic import Field

from bridges.config import interpret
from bridges.config_edit_tree import (
    Arguments,
    EditError,
    Statements,
    TargetPlace,
    Writable,
    at,
    build,
    change,
    insert,
    sections,
    substitute,
    target_path,
    unknown,
    with_attribute,
)
from bridges.driver_attributes import DRIVERS
from bridges.scst_conf import Statement


class AddTarget(Arguments):
    """What ``add-target`` needs."""

    target: Writable = Field(description="the new target's name")
    driver: Writable = Field(description="its driver, which the configuration must have")


class TargetAttribute(TargetPlace):
    """What edits of one attribute need."""

    attribute: Writable = Field(description="the attribute's name")
    value: Writable = Field(description="its value, as scst.conf has it")


def add_target(tree: Statements, wish: AddTarget) -> Statements:
    """Add a target, disabled and without LUNs; raises EditError and ConfigError."""
    drivers = sections(tree, "TARGET_DRIVER")
    driver = drivers.get(wish.driver)
    if driver is None:
        raise unknown("driver", wish.driver, drivers, "a TARGET_DRIVER section")
    other = sections(driver.block or (), "TARGET").get(wish.target)
    if other is not None:
        raise EditError(f"target {wish.target} exists already{at(other.location)}")

    def add(*attributes: Statement) -> Statements:
        target = build.section(("TARGET", wish.target), *attributes)
        return change(tree, (driver,), lambda block: insert(block, target))

    before, after = _ports(tree), _ports(add())
    if all(after[port] == number for port, number in before.items()):
        return add()
    return add(build.line("rel_tgt_id", str(_first_free(tree))))


def rem_target(tree: Statements, wish: TargetPlace) -> Statements:
    """Remove a target with its LUNs and groups; raises EditError and ConfigError.

    As with scstadmin, it may be enabled: it is disabled first, and its sessions end.
    """
    driver, target = target_path(tree, wish)
    for user in _target_groups(tree, wish.target):
        raise EditError(f"target {wish.target}: {user}: expected that removed first")
    rest = change(tree, (driver,), lambda block: substitute(block, target))
    return keep_ports(_ports(tree), rest)


def enable_target(tree: Statements, wish: TargetPlace) -> Statements:
    """Let initiators log in; raises EditError."""
    path = target_path(tree, wish)
    return change(tree, path, lambda block: with_attribute(block, "enabled", "1"))


def disable_target(tree: Statements, wish: TargetPlace) -> Statements:
    """Let no initiator log in; raises EditError."""
    path = target_path(tree, wish)
    return change(tree, path, lambda block: with_attribute(block, "enabled", "0"))


def set_target_attribute(tree: Statements, wish: TargetAttribute) -> Statements:
    """Give an attribute that has one value another; raises EditError and ConfigError."""
    path = target_path(tree, wish)
    if _is_list(path, wish.attribute):
        raise EditError(
            f"attribute {wish.attribute} has a line for each value:"
            " expected add-target-attribute or rem-target-attribute"
        )
    after = change(tree, path, lambda block: with_attribute(block, wish.attribute, wish.value))
    if wish.attribute != "rel_tgt_id":
        return after
    ports = dict(_ports(tree))
    del ports[_names(path)]
    return keep_ports(ports, after)


def add_target_attribute(tree: Statements, wish: TargetAttribute) -> Statements:
    """Give an attribute that has a line for each value one more; raises EditError."""
    path = target_path(tree, wish)
    other = _values(path, wish.attribute).get(wish.value)
    if other is not None:
        raise EditError(f"{wish.attribute} {wish.value} is given already{at(other.location)}")
    line = build.line(wish.attribute, wish.value)
    return change(tree, path, lambda block: insert(block, line))


def rem_target_attribute(tree: Statements, wish: TargetAttribute) -> Statements:
    """Take a value from an attribute that has a line for each; raises EditError."""
    path = target_path(tree, wish)
    values = _values(path, wish.attribute)
    found = values.get(wish.value)
    if found is None:
        raise unknown(f"value of {wish.attribute}", wish.value, values, "one to be added first")
    return change(tree, path, lambda block: substitute(block, found))


def _is_list(path: Statements, attribute: str) -> bool:
    """Whether an attribute of a driver's targets has a line for each value; raises EditError."""
    driver, _ = _names(path)
    fields = DRIVERS[driver].target_attributes.model_fields
    if attribute not in fields:
        raise unknown("attribute", attribute, fields, "")
    return isinstance(fields[attribute].get_default(call_default_factory=True), tuple)


def _values(path: Statements, attribute: str) -> dict[str, Statement]:
    if not _is_list(path, attribute):
        raise EditError(f"attribute {attribute} has one value: expected set-target-attribute")
    return sections(path[-1].block or (), attribute)


def _target_groups(tree: Statements, target: str) -> Iterator[str]:
    """The target groups that have a target, in words."""
    for group_name, group in sections(tree, "DEVICE_GROUP").items():
        for name, part in sections(group.block or (), "TARGET_GROUP").items():
            line = sections(part.block or (), "TARGET").get(target)
            if line is not None:
                where = at(line.location)
                yield f"target group {name} of device group {group_name} has it{where}"


def _names(path: Statements) -> tuple[str, str]:
    driver, target = path
    return driver.words[1].text, target.words[1].text


def _ports(tree: Statements) -> Mapping[tuple[str, str], int]:
    return interpret(tree).relative_target_ports()


def _first_free(tree: Statements) -> int:
    config = interpret(tree)
    taken = {*config.relative_target_ports().values()}
    taken |= {
        target.rel_tgt_id
        for group in config.device_groups
        for target in group.targets
        if target.rel_tgt_id is not None
    }
    return next(number for number in count(1) if number not in taken)


def keep_ports(before: Mapping[tuple[str, str], int], tree: Statements) -> Statements:
    """Write down each number that is no longer the one that it was before; raises ConfigError."""
    while True:
        # What is written down may move others.
        config = interpret(tree)
        given = {
            (driver.name, target.name)
            for driver in config.drivers.values()
            for target in driver.targets
            if target.attributes.rel_tgt_id is not None
        }
        moved = {
            port: before[port]
            for port, number in config.relative_target_ports().items()
            if before.get(port, number) != number and port not in given
        }
        if not moved:
            return tree
        tree = _with_numbers(tree, moved)


def _with_numbers(tree: Statements, numbers: Mapping[tuple[str, str], int]) -> Statements:
    """Give targets numbers; in one go, since there may be thousands."""
    for name, driver in sections(tree, "TARGET_DRIVER").items():
        block = tuple(
            _with_number(item, numbers.get((name, item.words[1].text)))
            if item.keyword == "TARGET"
            else item
            for item in driver.block or ()
        )
        tree = substitute(tree, driver, replace(driver, block=block))
    return tree


def _with_number(target: Statement, number: int | None) -> Statement:
    if number is None:
        return target
    line = build.line("rel_tgt_id", str(number))
    return replace(target, block=insert(target.block or (), line))
