# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs with which a configuration is edited while it is in force, after scstadmin's.

Each is a pure function of a tree of statements. What the control socket and the command line offer
is made of the table; how an edit takes effect must not live here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from bridges import config_edit_alua as alua
from bridges import config_edit_devices as devices
from bridges import config_edit_groups as groups
from bridges import config_edit_luns as luns
from bridges import config_edit_targets as targets
from bridges.config import Config, interpret
from bridges.config_edit_tree import (
    Arguments,
    EditError,
    GroupPlace,
    MapPlace,
    Statements,
    TargetPlace,
    is_written,
    unknown,
)
from bridges.scst_conf import ConfigError, Statement

ArgumentsT = TypeVar("ArgumentsT", bound=Arguments)


@dataclass(frozen=True, slots=True)
class Verb(Generic[ArgumentsT]):
    """An edit, the model of its arguments, and one line about it."""

    edit: Callable[[Statements, ArgumentsT], Statements]
    arguments: type[ArgumentsT]
    help: str

    def apply(self, tree: Statements, arguments: Mapping[str, object]) -> Statements:
        """Check the arguments and edit; raises EditError and ConfigError."""
        try:
            wish = self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise EditError(_first_problem(error, self.arguments)) from error
        return self.edit(tree, wish)


VERBS: Mapping[str, Verb[Any]] = MappingProxyType(
    {
        "open-dev": Verb(devices.open_dev, devices.OpenDev, "Open a device."),
        "close-dev": Verb(
            devices.close_dev, devices.CloseDev, "Close a device that no LUN leads to."
        ),
        "add-target": Verb(
            targets.add_target, targets.AddTarget, "Add a target, which is disabled at first."
        ),
        "rem-target": Verb(targets.rem_target, TargetPlace, "Remove a target; its sessions end."),
        "enable-target": Verb(
            targets.enable_target, TargetPlace, "Let initiators log in to a target."
        ),
        "disable-target": Verb(
            targets.disable_target,
            TargetPlace,
            "Disable a target; nobody has LUNs there until it is enabled.",
        ),
        "set-target-attribute": Verb(
            targets.set_target_attribute,
            targets.TargetAttribute,
            "Change an attribute of a target.",
        ),
        "add-target-attribute": Verb(
            targets.add_target_attribute,
            targets.TargetAttribute,
            "Add a value to an attribute of a target that may have several.",
        ),
        "rem-target-attribute": Verb(
            targets.rem_target_attribute,
            targets.TargetAttribute,
            "Remove a value from an attribute of a target that may have several.",
        ),
        "add-group": Verb(
            groups.add_group, GroupPlace, "Add a group of initiators to a target, as its last."
        ),
        "rem-group": Verb(
            groups.rem_group, GroupPlace, "Remove a group; its initiators get other LUNs or none."
        ),
        "add-initiator": Verb(
            groups.add_initiator, groups.InitiatorPlace, "Add a pattern of names to a group."
        ),
        "rem-initiator": Verb(
            groups.rem_initiator, groups.InitiatorPlace, "Remove a pattern from a group."
        ),
        "move-initiator": Verb(
            groups.move_initiator, groups.MoveInitiator, "Move a pattern to another group."
        ),
        "clear-initiators": Verb(
            groups.clear_initiators, GroupPlace, "Remove all patterns from a group."
        ),
        "add-lun": Verb(luns.add_lun, luns.MapLun, "Map a LUN of a target or group to a device."),
        "rem-lun": Verb(luns.rem_lun, luns.LunPlace, "Unmap a LUN of a target or group."),
        "replace-lun": Verb(
            luns.replace_lun, luns.MapLun, "Map a LUN to another device; add it if need be."
        ),
        "clear-luns": Verb(luns.clear_luns, MapPlace, "Unmap all LUNs of a target or group."),
        "set-target-group-state": Verb(
            alua.set_target_group_state,
            alua.TargetGroupState,
            "Set the access state of a target group.",
        ),
        "set-target-group-preferred": Verb(
            alua.set_target_group_preferred,
            alua.TargetGroupPreferred,
            "Say whether a target group is preferred.",
        ),
    }
)


def edit(statements: Sequence[Statement], verb: str, arguments: Mapping[str, object]) -> Config:
    """Carry out a verb; return the whole configuration as it shall be.

    Raises EditError, and ConfigError where the edit spoils what stands in the file.
    """
    found = VERBS.get(verb)
    if found is None:
        raise unknown("verb", verb, VERBS, "")
    try:
        return interpret(found.apply(tuple(statements), arguments))
    except ConfigError as error:
        if is_written(error.path):
            raise
        raise EditError(error.message) from error


def _first_problem(error: ValidationError, model: type[Arguments]) -> str:
    detail = error.errors()[0]
    name = str(detail["loc"][0])
    if detail["type"] == "missing":
        return f"{name} is required"
    if detail["type"] == "extra_forbidden":
        return str(unknown("argument", name, model.model_fields, ""))
    return f"{name}: {detail['msg'].removeprefix('Value error, ')}"
