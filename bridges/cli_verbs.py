# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's verbs, one command for each of ``config_edit``, with scstadmin's words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer
from pydantic.fields import FieldInfo

from bridges.cli_config import CONTROL, ControlOption, change
from bridges.config_edit import VERBS

PANEL: Final = "Change a running daemon"
_EPILOG: Final = (
    "The running daemon is changed, not the file that it was started with: see config write."
)


@dataclass(frozen=True, slots=True)
class Usage:
    """The arguments of a verb that have no option, in their order, and an example."""

    positional: tuple[str, ...]
    example: str


_TARGET_GROUP: Final = ("device_group", "target_group")
USAGES: Mapping[str, Usage] = MappingProxyType(
    {
        "open-dev": Usage(
            ("handler", "device", "attributes"),
            "open-dev vdisk_fileio disk2 filename=/srv/disk2.img rotational=0",
        ),
        "close-dev": Usage(("device",), "close-dev disk2"),
        "add-target": Usage(("driver", "target"), "add-target nbd shared"),
        "rem-target": Usage(("target",), "rem-target shared"),
        "enable-target": Usage(("target",), "enable-target shared"),
        "disable-target": Usage(("target",), "disable-target shared --driver nbd"),
        "set-target-attribute": Usage(
            ("target", "attribute", "value"), "set-target-attribute e1.1 durable 0"
        ),
        "add-target-attribute": Usage(
            ("target", "attribute", "value"), "add-target-attribute e1.1 allow 02:00:00:00:00:01"
        ),
        "rem-target-attribute": Usage(
            ("target", "attribute", "value"), "rem-target-attribute e1.1 allow 02:00:00:00:00:01"
        ),
        "add-group": Usage(("target", "group"), "add-group shared db"),
        "rem-group": Usage(("target", "group"), "rem-group shared db"),
        "add-initiator": Usage(
            ("target", "group", "initiator"), "add-initiator shared db 10.1.0.0/16"
        ),
        "rem-initiator": Usage(
            ("target", "group", "initiator"), "rem-initiator shared db 10.1.0.0/16"
        ),
        "move-initiator": Usage(
            ("target", "initiator", "group", "to"), "move-initiator shared 10.1.0.0/16 db web"
        ),
        "clear-initiators": Usage(("target", "group"), "clear-initiators shared db"),
        "add-lun": Usage(("target", "lun", "device"), "add-lun shared 0 disk2 --group db"),
        "rem-lun": Usage(("target", "lun"), "rem-lun shared 0 --group db"),
        "replace-lun": Usage(("target", "lun", "device"), "replace-lun shared 0 disk3 --read-only"),
        "clear-luns": Usage(("target",), "clear-luns shared"),
        "set-target-group-state": Usage(
            (*_TARGET_GROUP, "state"), "set-target-group-state group1 controller_a standby"
        ),
        "set-target-group-preferred": Usage(
            (*_TARGET_GROUP, "preferred"), "set-target-group-preferred group1 controller_a 1"
        ),
    }
)


def add_verbs(app: typer.Typer) -> None:
    """Add the commands."""
    for name in VERBS:
        app.command(name, help=_help(name), rich_help_panel=PANEL)(_command(name))


def _help(name: str) -> str:
    return "\n\n".join((VERBS[name].help, _EPILOG, f"Example: scst-bridge {USAGES[name].example}"))


def _command(name: str) -> Callable[..., None]:
    """A function whose parameters are the verb's arguments."""
    fields = VERBS[name].arguments.model_fields

    def command(control: Path, **values: Any) -> None:
        arguments = {
            each: _pairs(value) if _is_mapping(fields[each]) else value
            for each, value in values.items()
            if value is not None
        }
        change(control, "config_edit", {"verb": name, "arguments": arguments})

    parameters = [_parameter(each, fields[each]) for each in USAGES[name].positional]
    parameters += [
        _option(each, field)
        for each, field in fields.items()
        if each not in USAGES[name].positional
    ]
    parameters.append(_keyword("control", ControlOption, CONTROL))
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__dict__["__signature__"] = inspect.Signature(parameters)
    return command


def _is_mapping(field: FieldInfo) -> bool:
    return not field.is_required() and isinstance(field.default, dict)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    if _is_mapping(field):
        argument = typer.Argument(help=field.description, metavar="ATTRIBUTE=VALUE...")
        return _keyword(name, Annotated[list[str] | None, argument], None)
    argument = typer.Argument(help=field.description, metavar=name.upper())
    return _keyword(name, Annotated[_type(field), argument], inspect.Parameter.empty)


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(flag, help=field.description)
    if _type(field) is bool:
        return _keyword(name, Annotated[bool, option], False)
    return _keyword(name, Annotated[str | None, option], None)


def _type(field: FieldInfo) -> type:
    kind = field.annotation
    return kind if kind in (bool, int) and isinstance(kind, type) else str


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, annotation=annotation, default=default)


def _pairs(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"'{word}': expected ATTRIBUTE=VALUE")
        if name in found:
            raise typer.BadParameter(f"'{word}': {name} is given already")
        found[name] = value
    return found
