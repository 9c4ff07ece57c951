# SPDX-License-Identifier: GPL-2.0-or-later
"""Edits of a configuration: the LUNs of targets and of their groups."""

from __future__ import annotations

from pydantic import Field

from bridges.config_edit_tree import (
    EditError,
    MapPlace,
    Statements,
    Writable,
    at,
    build,
    change,
    group_path,
    insert,
    substitute,
    unknown,
    without,
)
from bridges.config_luns import lun_number
from bridges.scst_conf import Statement


class LunPlace(MapPlace):
    """Leads to a LUN."""

    lun: int = Field(ge=0, description="the LUN's number")


class MapLun(LunPlace):
    """What ``add-lun`` and ``replace-lun`` need."""

    device: Writable = Field(description="the device that it leads to")
    read_only: bool = Field(False, description="refuse writes through this LUN")


def add_lun(tree: Statements, wish: MapLun) -> Statements:
    """Map a LUN that is not mapped yet; raises EditError."""
    path = group_path(tree, wish, wish.group)
    other = _luns(path).get(wish.lun)
    if other is not None:
        raise EditError(f"LUN {wish.lun} is mapped already{at(other.location)}")
    return change(tree, path, lambda block: insert(block, _line(wish)))


def replace_lun(tree: Statements, wish: MapLun) -> Statements:
    """Map a LUN, whatever it led to; raises EditError."""
    path = group_path(tree, wish, wish.group)
    other = _luns(path).get(wish.lun)
    if other is None:
        return add_lun(tree, wish)
    return change(tree, path, lambda block: substitute(block, other, _line(wish)))


def rem_lun(tree: Statements, wish: LunPlace) -> Statements:
    """Unmap a LUN; raises EditError."""
    path = group_path(tree, wish, wish.group)
    luns = _luns(path)
    found = luns.get(wish.lun)
    if found is None:
        raise unknown("LUN", str(wish.lun), map(str, luns), "one to be added first")
    return change(tree, path, lambda block: substitute(block, found))


def clear_luns(tree: Statements, wish: MapPlace) -> Statements:
    """Unmap all LUNs of a target or group; raises EditError."""
    path = group_path(tree, wish, wish.group)
    return change(tree, path, lambda block: without(block, "LUN"))


def _luns(path: Statements) -> dict[int, Statement]:
    """The LUNs of the section that a path leads to."""
    return {
        lun_number(item.words[1]): item for item in path[-1].block or () if item.keyword == "LUN"
    }


def _line(wish: MapLun) -> Statement:
    words = ("LUN", str(wish.lun), wish.device)
    if wish.read_only:
        return build.section(words, build.line("read_only", "1"))
    return build.line(*words)
