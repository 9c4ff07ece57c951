# SPDX-License-Identifier: GPL-2.0-or-later
"""Edits of a configuration: opening and closing devices."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from bridges.config_edit_tree import (
    Arguments,
    EditError,
    Statements,
    Writable,
    at,
    build,
    change,
    insert,
    sections,
    substitute,
    unknown,
)
from bridges.scst_conf import Statement
from scsi_backend.handlers.registry import HANDLERS


class OpenDev(Arguments):
    """What ``open-dev`` needs."""

    device: Writable = Field(description="the new device's name")
    handler: Writable = Field(description=f"its handler: {', '.join(sorted(HANDLERS))}")
    attributes: dict[Writable, Writable] = Field(
        {}, description="the handler's attributes, as in filename=/srv/disk.img"
    )


class CloseDev(Arguments):
    """What ``close-dev`` needs."""

    device: Writable = Field(description="the device's name")


def open_dev(tree: Statements, wish: OpenDev) -> Statements:
    """Add a device; raises EditError."""
    handler = HANDLERS.get(wish.handler)
    if handler is None:
        raise unknown("handler", wish.handler, HANDLERS, "")
    known = handler.attributes.model_fields
    for name in wish.attributes:
        if name not in known:
            raise unknown("attribute", name, known, "")
    for section in sections(tree, "HANDLER").values():
        other = sections(section.block or (), "DEVICE").get(wish.device)
        if other is not None:
            raise EditError(f"device {wish.device} exists already{at(other.location)}")
    words = ("DEVICE", wish.device)
    lines = [build.line(name, value) for name, value in wish.attributes.items()]
    device = build.section(words, *lines) if lines else build.line(*words)
    found = sections(tree, "HANDLER").get(wish.handler)
    if found is None:
        return _with_handler(tree, build.section(("HANDLER", wish.handler), device))
    return change(tree, (found,), lambda block: (*block, device))


def close_dev(tree: Statements, wish: CloseDev) -> Statements:
    """Remove a device that nothing leads to; raises EditError."""
    handler, device = _device_path(tree, wish.device)
    for user in _users(tree, wish.device):
        raise EditError(f"device {wish.device}: {user}: expected that removed first")
    return change(tree, (handler,), lambda block: substitute(block, device))


def _device_path(tree: Statements, name: str) -> Statements:
    """The sections that lead to a device and end with it; raises EditError."""
    known: set[str] = set()
    for handler in sections(tree, "HANDLER").values():
        devices = sections(handler.block or (), "DEVICE")
        if name in devices:
            return handler, devices[name]
        known.update(devices)
    raise unknown("device", name, known, "one to be opened first")


def _with_handler(tree: Statements, handler: Statement) -> Statements:
    """Devices come before what leads to them, as people write it."""
    if any(item.keyword == "HANDLER" for item in tree):
        return insert(tree, handler)
    return (handler, *tree)


def _users(tree: Statements, device: str) -> Iterator[str]:
    """What leads to a device or has it, in words."""
    for driver_name, driver in sections(tree, "TARGET_DRIVER").items():
        for name, target in sections(driver.block or (), "TARGET").items():
            owner = f"target {name} of driver {driver_name}"
            yield from _luns(target, device, owner)
            for group_name, group in sections(target.block or (), "GROUP").items():
                yield from _luns(group, device, f"group {group_name} of {owner}")
    for name, section in sections(tree, "DEVICE_GROUP").items():
        line = sections(section.block or (), "DEVICE").get(device)
        if line is not None:
            yield f"device group {name} has it{at(line.location)}"


def _luns(section: Statement, device: str, owner: str) -> Iterator[str]:
    for item in section.block or ():
        if item.keyword == "LUN" and item.words[2].text == device:
            yield f"LUN {item.words[1].text} of {owner} leads to it{at(item.location)}"
