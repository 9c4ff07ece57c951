# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``alua_set`` command: a new access state, or PREF, of a target group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from bridges.config_alua import parse_state
from bridges.config_edit_tree import EditError
from bridges.control import Command, ControlError
from scsi_backend.handlers.attributes import Flag
from scsi_backend.target.backend import Backend
from scsi_backend.target.device_group import DeviceGroup, TargetGroup

# Less than clients of the control socket wait for their answer.
WAIT_S = 8.0

_FLAG: TypeAdapter[bool] = TypeAdapter(Flag)


class AluaSet(BaseModel):
    """The arguments, all of them words as scst.conf has them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    group: str
    target_group: str
    attribute: str
    value: str


# Has the configuration say the same, by a verb of config_edit and its arguments.
Note = Callable[[str, Mapping[str, object]], Awaitable[object]]


async def _note_nowhere(verb: str, arguments: Mapping[str, object]) -> None:
    pass


def alua_set_command(
    backend: Backend, note: Note = _note_nowhere, wait_s: float = WAIT_S
) -> Command:
    """Return the command; it waits so long for what is under way to end."""

    async def execute(arguments: Mapping[str, Any]) -> object:
        try:
            wanted = AluaSet.model_validate(dict(arguments))
        except ValidationError as error:
            detail = error.errors()[0]
            raise ControlError(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}") from error
        found = _find(backend, wanted)
        setter = _SETTERS.get(wanted.attribute)
        if setter is None:
            expected = " or ".join(_SETTERS)
            raise ControlError(f"unknown attribute '{wanted.attribute}': expected {expected}")
        try:
            setter(*found, wanted.value)
        except ValueError as error:
            message = _message(error)
            raise ControlError(f"{wanted.attribute} '{wanted.value}': {message}") from error
        try:
            await note(*_edit(wanted))
        except EditError as error:
            raise ControlError(str(error)) from error
        # The configuration may have changed before it was this one's turn.
        begin = setter(*_find(backend, wanted), wanted.value)
        try:
            await asyncio.wait_for(begin(), wait_s)
        except TimeoutError as error:
            raise ControlError(
                f"{wanted.group}/{wanted.target_group}: transitioning, until the commands"
                f" that are under way have ended; then {wanted.value}"
            ) from error
        return None

    return execute


def _edit(wanted: AluaSet) -> tuple[str, Mapping[str, object]]:
    """The verb that says the same of a configuration, and its arguments."""
    is_flag = wanted.attribute == "preferred"
    value = _FLAG.validate_python(wanted.value) if is_flag else wanted.value
    place = {"device_group": wanted.group, "target_group": wanted.target_group}
    return f"set-target-group-{wanted.attribute}", {**place, wanted.attribute: value}


def _find(backend: Backend, wanted: AluaSet) -> tuple[DeviceGroup, TargetGroup]:
    group = backend.device_groups.get(wanted.group)
    if group is None:
        raise _unknown("device group", wanted.group, backend.device_groups)
    target_group = group.target_groups.get(wanted.target_group)
    if target_group is None:
        raise _unknown("target group", wanted.target_group, group.target_groups)
    return group, target_group


def _unknown(what: str, name: str, known: Mapping[str, object]) -> ControlError:
    expected = ", ".join(known) or "DEVICE_GROUP sections in the configuration"
    return ControlError(f"unknown {what} '{name}': expected {expected}")


def _message(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return str(error)


# Begins to do what was checked; what it returns ends when that is in force.
_Begin = Callable[[], Awaitable[object]]


def _state(group: DeviceGroup, target_group: TargetGroup, value: str) -> _Begin:
    state = parse_state(value)

    def begin() -> Awaitable[object]:
        in_force = asyncio.Event()
        group.set_state(target_group, state, in_force.set)
        return in_force.wait()

    return begin


def _preferred(group: DeviceGroup, target_group: TargetGroup, value: str) -> _Begin:
    is_preferred = _FLAG.validate_python(value)

    async def begin() -> None:
        group.set_preferred(target_group, is_preferred)

    return begin


_SETTERS: Mapping[str, Callable[[DeviceGroup, TargetGroup, str], _Begin]] = MappingProxyType(
    {"state": _state, "preferred": _preferred}
)
