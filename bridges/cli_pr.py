# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's ``pr``: persistent reservations of a named initiator at the local socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bridges.driver_attributes import DEFAULT_LOCAL_SOCKET
from bridges.local.client import LocalError
from bridges.local.pr_tool import Change, change, read
from bridges.local.unit_client import Place
from scsi_backend.t10.persistent_reservation import (
    TYPE_WORDS,
    PrInAction,
    PrOutAction,
    parse_key,
    parse_type,
)

app = typer.Typer(
    help="""Read and change persistent reservations, as an initiator of any name.

    The initiator is local:uid=N,NAME with --initiator NAME, else local:uid=N, where N is the user's
    number. One that has registered a key is known by it until it unregisters, whoever else comes
    and goes. Over a restart of the daemon this lasts if the last registration was with --aptpl.

    DEVICE is a target's or a device's name, or the path of a local socket; see scst-bridge cdb.
    Keys are hex digits, with or without 0x. 'scst-bridge reservations' shows who has registered.

    Exit status: 0 GOOD; 2 any other status; 1 the device could not be asked.

    Take a disk for one of two nodes, and hand it over by force:

    scst-bridge pr register disk0 --initiator node1 --action-key 0xa

    scst-bridge pr register disk0 --initiator node2 --action-key 0xb

    scst-bridge pr reserve disk0 --initiator node1 --key 0xa --type write-exclusive-regonly

    scst-bridge pr preempt disk0 --initiator node2 --key 0xb --action-key 0xa
    --type write-exclusive-regonly

    Let an NBD client in, which cannot register itself:

    scst-bridge pr register disk0 --action-key 0xc --initiator-port unix:uid=1000 --all-target-ports
    """,
    no_args_is_help=True,
)

_Device = Annotated[
    str, typer.Argument(help="a target's or device's name, or the path of a local socket")
]
_Lun = Annotated[
    int | None, typer.Argument(help="the LUN", show_default="the device's; of a target, 0")
]
_Initiator = Annotated[
    str, typer.Option(metavar="NAME", help="be the initiator local:uid=N,NAME, not local:uid=N")
]
_Socket = Annotated[Path, typer.Option(help="the daemon's local socket, where DEVICE is a name")]
_Key = Annotated[str, typer.Option(metavar="HEX", help="the key that the initiator has registered")]
_NewKey = Annotated[str, typer.Option(metavar="HEX", help="the key to register; 0 unregisters")]
_VictimKey = Annotated[str, typer.Option(metavar="HEX", help="the key whose registrants go")]
_TYPES = f"{', '.join(TYPE_WORDS)}; or its number"
_Type = Annotated[str, typer.Option("--type", metavar="TYPE", help=_TYPES)]
_TakenType = Annotated[
    str,
    typer.Option(
        "--type",
        metavar="TYPE",
        help=f"the type of a reservation that is taken over: {_TYPES}",
        show_default=False,
    ),
]
_Aptpl = Annotated[
    bool,
    typer.Option("--aptpl", help="from now on, keep the device's state over restarts (APTPL)"),
]
_AllTargetPorts = Annotated[
    bool, typer.Option("--all-target-ports", help="at every target of the device (ALL_TG_PT)")
]
_InitiatorPorts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="register this initiator, too, as 'status' names it, or by an iSCSI name (SPEC_I_PT);"
        " may be repeated",
    ),
]
_SOCKET = Path(DEFAULT_LOCAL_SOCKET)
_NO_KEY = "0"
_NO_TYPE = "0"
_MAX_PORT = 0xFFFF


@app.command()
def read_keys(
    device: _Device, lun: _Lun = None, initiator: _Initiator = "", socket: _Socket = _SOCKET
) -> None:
    """Show the registered keys, one for each registrant (READ KEYS)."""
    _read(PrInAction.READ_KEYS, device, lun, initiator, socket)


@app.command()
def read_reservation(
    device: _Device, lun: _Lun = None, initiator: _Initiator = "", socket: _Socket = _SOCKET
) -> None:
    """Show the reservation: its type, and its holder's key (READ RESERVATION)."""
    _read(PrInAction.READ_RESERVATION, device, lun, initiator, socket)


@app.command()
def capabilities(
    device: _Device, lun: _Lun = None, initiator: _Initiator = "", socket: _Socket = _SOCKET
) -> None:
    """Show what the device can do with reservations (REPORT CAPABILITIES)."""
    _read(PrInAction.REPORT_CAPABILITIES, device, lun, initiator, socket)


@app.command()
def full_status(
    device: _Device, lun: _Lun = None, initiator: _Initiator = "", socket: _Socket = _SOCKET
) -> None:
    """Show the registrants, their keys, and which of them hold what (READ FULL STATUS)."""
    _read(PrInAction.READ_FULL_STATUS, device, lun, initiator, socket)


@app.command()
def register(
    device: _Device,
    action_key: _NewKey,
    lun: _Lun = None,
    initiator: _Initiator = "",
    key: _Key = _NO_KEY,
    aptpl: _Aptpl = False,
    all_target_ports: _AllTargetPorts = False,
    initiator_port: _InitiatorPorts = None,
    socket: _Socket = _SOCKET,
) -> None:
    """Register a key; with --key, change it or unregister (REGISTER).

    Whoever has no key yet may register others along with itself.

    Example: scst-bridge pr register disk0 --initiator node1 --action-key 0xbeef --aptpl

    Example: scst-bridge pr register disk0 --initiator node1 --key 0xbeef --action-key 0
    """
    _change(
        *(device, lun, initiator, socket),
        lambda: Change(
            PrOutAction.REGISTER,
            parse_key(key),
            parse_key(action_key),
            persists=aptpl,
            all_target_ports=all_target_ports,
            initiators=tuple(initiator_port or ()),
        ),
    )


@app.command()
def register_ignore(
    device: _Device,
    action_key: _NewKey,
    lun: _Lun = None,
    initiator: _Initiator = "",
    aptpl: _Aptpl = False,
    all_target_ports: _AllTargetPorts = False,
    socket: _Socket = _SOCKET,
) -> None:
    """Register a key whatever was registered before (REGISTER AND IGNORE EXISTING KEY)."""
    _change(
        *(device, lun, initiator, socket),
        lambda: Change(
            PrOutAction.REGISTER_AND_IGNORE_EXISTING_KEY,
            action_key=parse_key(action_key),
            persists=aptpl,
            all_target_ports=all_target_ports,
        ),
    )


@app.command()
def reserve(
    device: _Device,
    key: _Key,
    kind: _Type,
    lun: _Lun = None,
    initiator: _Initiator = "",
    socket: _Socket = _SOCKET,
) -> None:
    """Reserve the device (RESERVE).

    Example: scst-bridge pr reserve disk0 --initiator node1 --key 0xbeef --type exclusive-access
    """
    _change(
        *(device, lun, initiator, socket),
        lambda: Change(PrOutAction.RESERVE, parse_key(key), type=parse_type(kind)),
    )


@app.command()
def release(
    device: _Device,
    key: _Key,
    kind: _Type,
    lun: _Lun = None,
    initiator: _Initiator = "",
    socket: _Socket = _SOCKET,
) -> None:
    """Give up one's reservation of that type, and stay registered (RELEASE)."""
    _change(
        *(device, lun, initiator, socket),
        lambda: Change(PrOutAction.RELEASE, parse_key(key), type=parse_type(kind)),
    )


@app.command()
def clear(
    device: _Device,
    key: _Key,
    lun: _Lun = None,
    initiator: _Initiator = "",
    socket: _Socket = _SOCKET,
) -> None:
    """End the reservation and every registration (CLEAR)."""
    _change(*(device, lun, initiator, socket), lambda: Change(PrOutAction.CLEAR, parse_key(key)))


@app.command()
def preempt(
    device: _Device,
    key: _Key,
    action_key: _VictimKey,
    kind: _TakenType = _NO_TYPE,
    lun: _Lun = None,
    initiator: _Initiator = "",
    socket: _Socket = _SOCKET,
) -> None:
    """Unregister others by their key, and take over a reservation that they hold (PREEMPT).

    Example: scst-bridge pr preempt disk0 --initiator node2 --key 0xb --action-key 0xa --type 5
    """
    _change(
        *(device, lun, initiator, socket),
        lambda: Change(
            PrOutAction.PREEMPT, parse_key(key), parse_key(action_key), parse_type(kind)
        ),
    )


@app.command()
def preempt_abort(
    device: _Device,
    key: _Key,
    action_key: _VictimKey,
    kind: _TakenType = _NO_TYPE,
    lun: _Lun = None,
    initiator: _Initiator = "",
    socket: _Socket = _SOCKET,
) -> None:
    """Do as preempt does, and abort the commands of those others (PREEMPT AND ABORT)."""
    _change(
        *(device, lun, initiator, socket),
        lambda: Change(
            PrOutAction.PREEMPT_AND_ABORT, parse_key(key), parse_key(action_key), parse_type(kind)
        ),
    )


@app.command()
def register_move(
    device: _Device,
    key: _Key,
    action_key: Annotated[
        str, typer.Option(metavar="HEX", help="the key to register for the new holder")
    ],
    initiator_port: Annotated[
        str, typer.Option(metavar="NAME", help="the new holder, named as for register")
    ],
    target_port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="the relative target port by which the new holder comes",
            show_default="that of this target",
        ),
    ] = None,
    unregister: Annotated[
        bool, typer.Option("--unregister", help="give up one's own registration (UNREG)")
    ] = False,
    aptpl: _Aptpl = False,
    lun: _Lun = None,
    initiator: _Initiator = "",
    socket: _Socket = _SOCKET,
) -> None:
    """Register another initiator, and give it one's reservation (REGISTER AND MOVE).

    Example: scst-bridge pr register-move disk0 --initiator node1 --key 0xa --action-key 0xb
    --initiator-port local:uid=0,node2 --unregister
    """
    _change(
        *(device, lun, initiator, socket),
        lambda: Change(
            PrOutAction.REGISTER_AND_MOVE,
            parse_key(key),
            parse_key(action_key),
            persists=aptpl,
            initiators=(initiator_port,),
            target_port=_checked_port(target_port),
            unregisters=unregister,
        ),
    )


def _checked_port(number: int | None) -> int | None:
    if number is not None and not 0 <= number <= _MAX_PORT:
        raise ValueError(f"target port {number}: expected 0 to {_MAX_PORT}")
    return number


def _read(action: PrInAction, device: str, lun: int | None, initiator: str, socket: Path) -> None:
    _tell(lambda: read(Place.of(device, str(socket), lun, initiator), action))


def _change(
    device: str, lun: int | None, initiator: str, socket: Path, wanted: Callable[[], Change]
) -> None:
    _tell(lambda: change(Place.of(device, str(socket), lun, initiator), wanted()))


def _tell(ask: Callable[[], tuple[str, int]]) -> NoReturn:
    """Print an outcome, and end with its exit status."""
    try:
        text, status = ask()
    except (ValueError, LocalError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(text)
    raise typer.Exit(status)
