# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that change the configuration of a running daemon, and the one that tells it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bridges.config import interpret
from bridges.config_edit_tree import EditError
from bridges.control import Command, ControlError
from bridges.daemon_check import reason
from bridges.daemon_running import ChangeRefusedError, Outcome, Running
from bridges.inherited import InheritedError
from bridges.scst_conf import ConfigError, parse, unparse


class _Arguments(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Apply(_Arguments):
    """``path`` is what errors name as the file that ``text`` is from."""

    text: str
    path: str
    dry_run: bool = False


class _Edit(_Arguments):
    verb: str
    arguments: dict[str, Any] = {}


class Changes(BaseModel):
    """The answer to ``config_apply`` and ``config_edit``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: tuple[str, ...]
    warnings: tuple[str, ...]


ArgumentsT = TypeVar("ArgumentsT", bound=_Arguments)


def config_commands(running: Running) -> Mapping[str, Command]:
    """The commands by name."""

    async def apply(arguments: Mapping[str, Any]) -> object:
        wanted = _read(_Apply, arguments)

        async def carry_out() -> Outcome:
            config = interpret(parse(wanted.text, wanted.path))
            return await running.apply(config, dry_run=wanted.dry_run)

        return await _answer(carry_out())

    async def edit(arguments: Mapping[str, Any]) -> object:
        wanted = _read(_Edit, arguments)
        return await _answer(running.edit(wanted.verb, wanted.arguments))

    async def write(arguments: Mapping[str, Any]) -> object:
        _read(_Arguments, arguments)
        return unparse(running.config.statements)

    return {"config_apply": apply, "config_edit": edit, "config_write": write}


def _read(model: type[ArgumentsT], arguments: Mapping[str, Any]) -> ArgumentsT:
    try:
        return model.model_validate(dict(arguments))
    except ValidationError as error:
        detail = error.errors()[0]
        raise ControlError(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}") from error


async def _answer(change: Awaitable[Outcome]) -> object:
    try:
        outcome = await change
    except ConfigError as error:
        raise ControlError(reason(error)) from error
    except (ChangeRefusedError, EditError, InheritedError) as error:
        raise ControlError(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ControlError(f"{where}{error.strerror or error}") from error
    return Changes(lines=outcome.lines, warnings=outcome.warnings).model_dump(mode="json")
