# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's ``reservations``: who has registered at a daemon's devices, and holds what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from bridges.control import DEFAULT_CONTROL_SOCKET, ControlError, ask
from bridges.control_report import print_reservations
from bridges.control_reservations import AllReservations


def reservations(
    device: Annotated[
        str | None, typer.Argument(help="a device's name", show_default="all devices")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    control: Annotated[Path, typer.Option(help="the daemon's control socket", readable=False)] = (
        Path(DEFAULT_CONTROL_SOCKET)
    ),
) -> None:
    """Show what devices are reserved, by whom, and which initiators have registered.

    Initiators are named as they log in, those of other houses by their iSCSI names; whether a
    session of one is there now is told, too. To change reservations, see scst-bridge pr.

    The exit status is 1 if no daemon answers, or has no such device.

    Example: scst-bridge reservations disk0
    """
    arguments = {} if device is None else {"device": device}
    try:
        found = AllReservations.model_validate(ask(str(control), "reservations", arguments))
    except (ControlError, ValidationError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        print_reservations(found)
