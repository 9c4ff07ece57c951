# SPDX-License-Identifier: GPL-2.0-or-later
"""Edits of a configuration: the access states of target groups."""

from __future__ import annotations

from pydantic import Field

from bridges.config_alua import STATES
from bridges.config_edit_tree import (
    Arguments,
    Statements,
    Writable,
    change,
    sections,
    unknown,
    with_attribute,
)


class TargetGroupPlace(Arguments):
    """Leads to a target group."""

    device_group: Writable = Field(description="a device group")
    target_group: Writable = Field(description="one of its target groups")


class TargetGroupState(TargetGroupPlace):
    """What ``set-target-group-state`` needs."""

    state: Writable = Field(description=f"the new state: {', '.join(STATES)}")


class TargetGroupPreferred(TargetGroupPlace):
    """What ``set-target-group-preferred`` needs."""

    preferred: bool = Field(description="whether initiators should use its targets if they can")


def set_target_group_state(tree: Statements, wish: TargetGroupState) -> Statements:
    """Give a target group another access state; raises EditError."""
    if wish.state not in STATES:
        raise unknown("state", wish.state, STATES, "")
    return _with_attribute(tree, wish, "state", wish.state)


def set_target_group_preferred(tree: Statements, wish: TargetGroupPreferred) -> Statements:
    """Say whether a target group is preferred; raises EditError."""
    return _with_attribute(tree, wish, "preferred", str(int(wish.preferred)))


def _with_attribute(tree: Statements, place: TargetGroupPlace, name: str, value: str) -> Statements:
    groups = sections(tree, "DEVICE_GROUP")
    if place.device_group not in groups:
        raise unknown("device group", place.device_group, groups, "a DEVICE_GROUP section")
    group = groups[place.device_group]
    parts = sections(group.block or (), "TARGET_GROUP")
    if place.target_group not in parts:
        raise unknown("target group", place.target_group, parts, "")
    path = (group, parts[place.target_group])
    return change(tree, path, lambda block: with_attribute(block, name, value))
