# SPDX-License-Identifier: GPL-2.0-or-later
"""Edits of a configuration: the groups of targets, and the initiators that are in them.

A new group comes last, and a new pattern too: what was there before goes first, as in SCST.
"""

from __future__ import annotations

from pydantic import Field

from bridges.config_edit_tree import (
    EditError,
    GroupPlace,
    Statements,
    Writable,
    at,
    build,
    change,
    group_path,
    insert,
    sections,
    substitute,
    target_path,
    unknown,
    without,
)
from bridges.scst_conf import Statement


class InitiatorPlace(GroupPlace):
    """What ``add-initiator`` and ``rem-initiator`` need."""

    initiator: Writable = Field(description="the pattern, as an INITIATOR line has it")


class MoveInitiator(InitiatorPlace):
    """What ``move-initiator`` needs."""

    to: Writable = Field(description="the group that shall have it")


def add_group(tree: Statements, wish: GroupPlace) -> Statements:
    """Add a group without LUNs and initiators; raises EditError."""
    path = target_path(tree, wish)
    other = sections(path[-1].block or (), "GROUP").get(wish.group)
    if other is not None:
        raise EditError(f"group {wish.group} exists already{at(other.location)}")
    return change(tree, path, lambda block: insert(block, build.section(("GROUP", wish.group))))


def rem_group(tree: Statements, wish: GroupPlace) -> Statements:
    """Remove a group with all that it has; raises EditError."""
    *path, group = group_path(tree, wish, wish.group)
    return change(tree, tuple(path), lambda block: substitute(block, group))


def add_initiator(tree: Statements, wish: InitiatorPlace) -> Statements:
    """Add a pattern to a group; raises EditError."""
    return _add(tree, wish, wish.group)


def rem_initiator(tree: Statements, wish: InitiatorPlace) -> Statements:
    """Remove a pattern from a group; raises EditError."""
    path = group_path(tree, wish, wish.group)
    initiators = _initiators(path)
    found = initiators.get(wish.initiator)
    if found is None:
        raise unknown(
            f"initiator of group {wish.group}", wish.initiator, initiators, "one to be added first"
        )
    return change(tree, path, lambda block: substitute(block, found))


def move_initiator(tree: Statements, wish: MoveInitiator) -> Statements:
    """Move a pattern from one group of a target to another; raises EditError."""
    if wish.to == wish.group:
        raise EditError(f"group {wish.to}: expected another than the one to move from")
    return _add(rem_initiator(tree, wish), wish, wish.to)


def clear_initiators(tree: Statements, wish: GroupPlace) -> Statements:
    """Remove all patterns from a group, which then matches nobody; raises EditError."""
    path = group_path(tree, wish, wish.group)
    return change(tree, path, lambda block: without(block, "INITIATOR"))


def _add(tree: Statements, wish: InitiatorPlace, group: str) -> Statements:
    path = group_path(tree, wish, group)
    other = _initiators(path).get(wish.initiator)
    if other is not None:
        where = at(other.location)
        raise EditError(f"initiator {wish.initiator} is in group {group} already{where}")
    line = build.line("INITIATOR", wish.initiator)
    return change(tree, path, lambda block: insert(block, line))


def _initiators(path: Statements) -> dict[str, Statement]:
    """The patterns of the group that a path leads to."""
    return sections(path[-1].block or (), "INITIATOR")
