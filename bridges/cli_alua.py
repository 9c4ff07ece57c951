# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's ``alua``: the access states of a daemon's target groups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from bridges.control import CHANGE_TIMEOUT_S, DEFAULT_CONTROL_SOCKET, ControlError, ask
from bridges.control_report import print_device_groups
from bridges.control_status import Status

app = typer.Typer(
    help="""Show and change through which targets initiators reach devices (ALUA).

    Exit status: 0 done; 1 not done, or no daemon answers.

    Example: scst-bridge alua show

    Example: scst-bridge alua set group1 controller_a state standby
    """,
    no_args_is_help=True,
)

_ControlOption = Annotated[Path, typer.Option(help="the daemon's control socket", readable=False)]
_CONTROL = Path(DEFAULT_CONTROL_SOCKET)


@app.command()
def show(control: _ControlOption = _CONTROL) -> None:
    """Show device groups, their target groups, and the states of those."""
    try:
        status = Status.model_validate(_ask(control, "status"))
    except ValidationError as error:
        _fail(str(error))
    print_device_groups(status)


@app.command("set")
def set_command(
    group: Annotated[str, typer.Argument(help="a device group")],
    target_group: Annotated[str, typer.Argument(help="one of its target groups")],
    attribute: Annotated[str, typer.Argument(help="state or preferred")],
    value: Annotated[
        str,
        typer.Argument(
            help="active, nonoptimized, standby, unavailable, offline or transitioning;"
            " of preferred, 0 or 1"
        ),
    ],
    control: _ControlOption = _CONTROL,
) -> None:
    """Set the state of a target group, or whether it is preferred.

    Initiators hear of it with their next command. Before a group loses access, the commands that
    are under way through its targets end; until then it is transitioning.

    The configuration file stays as it is; config write gives it the new state.
    """
    arguments = {
        "group": group,
        "target_group": target_group,
        "attribute": attribute,
        "value": value,
    }
    _ask(control, "alua_set", arguments)


def _ask(control: Path, command: str, arguments: dict[str, str] | None = None) -> Any:
    try:
        return ask(str(control), command, arguments, CHANGE_TIMEOUT_S)
    except ControlError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
