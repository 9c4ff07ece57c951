# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's ``aoe``: clients that ask AoE targets about themselves.

scapy, on which they are built, is loaded only when one of them runs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from bridges.aoe.address import Address, parse_address
from bridges.aoe.wire import ConfigCommand, MaskDirective, ReserveCommand
from bridges.aoe_tools.errors import ArgumentError, NoAnswerError, ToolError, printable
from bridges.aoe_tools.mac import parse_macs
from bridges.local.cdb_tool import hex_dump

if TYPE_CHECKING:
    from bridges.aoe_tools.exchange import Exchanger

_DISCOVER_TIMEOUT_S: Final = 1.0
_TIMEOUT_S: Final = 3.0
# select(2) takes no time that its struct timeval cannot hold.
_MAX_TIMEOUT_S: Final = 3600.0

app = typer.Typer(
    help="""Ask ATA over Ethernet targets about themselves, from another host than theirs.

    They send raw Ethernet frames, so they need root. A host does not hear its own frames: a target
    on the same interface of the same host does not answer.

    Frames get lost, so a request is sent up to four times within the time that --timeout allows.

    A target that lets nobody change it from the network (in_band_editing 0 in scst.conf) refuses
    with AoE error 2.

    Exit status: 0 the target did it; 1 it could not be asked, or did not answer; 2 it refused.
    Without an answer, a change may have been made all the same.

    Example: scst-bridge aoe discover eth0

    Example: scst-bridge aoe identify eth0 e1.1
    """,
    no_args_is_help=True,
)


class ConfigAction(Enum):
    """What to do with a config string."""

    GET = "get"
    TEST = "test"
    PREFIX = "prefix"
    SET = "set"
    FORCE = "force"


class ReserveAction(Enum):
    """What to do with a reserve list."""

    GET = "get"
    SET = "set"
    FORCE = "force"
    RELEASE = "release"


class MaskAction(Enum):
    """What to do with a MAC mask list."""

    GET = "get"
    ADD = "add"
    DELETE = "delete"


_CONFIG_COMMANDS: Final = MappingProxyType(
    {
        ConfigAction.GET: ConfigCommand.READ,
        ConfigAction.TEST: ConfigCommand.TEST,
        ConfigAction.PREFIX: ConfigCommand.TEST_PREFIX,
        ConfigAction.SET: ConfigCommand.SET_IF_EMPTY,
        ConfigAction.FORCE: ConfigCommand.FORCE_SET,
    }
)
_RESERVE_COMMANDS: Final = MappingProxyType(
    {
        ReserveAction.GET: ReserveCommand.READ,
        ReserveAction.SET: ReserveCommand.SET,
        ReserveAction.FORCE: ReserveCommand.FORCE_SET,
        ReserveAction.RELEASE: ReserveCommand.SET,
    }
)
_MASK_DIRECTIVES: Final = MappingProxyType(
    {
        MaskAction.GET: MaskDirective.NONE,
        MaskAction.ADD: MaskDirective.ADD,
        MaskAction.DELETE: MaskDirective.DELETE,
    }
)
_NO_MACS: Final = (ReserveAction.GET, ReserveAction.RELEASE, MaskAction.GET)

_Interface = Annotated[
    str, typer.Argument(metavar="IF", help="the network interface that leads to the target")
]
_Target = Annotated[
    str, typer.Argument(metavar="eX.Y", help="the target's shelf and slot, as in e1.1")
]
_Macs = Annotated[
    list[str] | None,
    typer.Argument(metavar="MAC...", help='like 02:00:00:00:00:01, or "self": that of IF'),
]
_Timeout = Annotated[
    float,
    typer.Option(
        min=0.01, max=_MAX_TIMEOUT_S, metavar="SECONDS", help="how long to wait for an answer"
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def discover(
    interface: _Interface,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.01, max=_MAX_TIMEOUT_S, metavar="SECONDS", help="how long to gather answers"
        ),
    ] = _DISCOVER_TIMEOUT_S,
    as_json: _Json = False,
) -> None:
    """List the targets that answer on a network: one line for each port of each.

    buffers: how many requests a target queues; sectors: of 512 bytes, how many fit one of its
    frames; firmware: its version in hex. Targets whose MAC mask list lacks this host are silent.

    Exit status: 0 some target answered; 1 none did, or the interface cannot be used.

    Example: scst-bridge aoe discover eth0

    Example: scst-bridge aoe discover eth0 --timeout 5 --json
    """
    with _asking(interface, timeout) as exchanger:
        from bridges.aoe_tools import operations, report

        ports = operations.discover(exchanger)
        if as_json:
            typer.echo(report.found_json(ports))
        elif ports:
            report.print_found(ports)
        if not ports:
            raise NoAnswerError(f"{interface}: no target answered within {timeout:g} s")


@app.command()
def identify(
    interface: _Interface,
    target: _Target,
    timeout: _Timeout = _TIMEOUT_S,
    as_json: _Json = False,
    raw: Annotated[bool, typer.Option("--raw", help="dump the 512 bytes in hex")] = False,
) -> None:
    """Show a target's IDENTIFY DEVICE data: model, serial number, firmware, capacity, features.

    A feature that is there but turned off is shown as "(off)".

    Exit status: 0 shown; 1 the target could not be asked, or did not answer; 2 it refused.

    Example: scst-bridge aoe identify eth0 e1.1

    Example: scst-bridge aoe identify eth0 e1.1 --raw
    """
    address = _address(target)
    with _asking(interface, timeout) as exchanger:
        from bridges.aoe_tools import operations, report
        from bridges.aoe_tools.identity import decode_identity

        port = operations.find(exchanger, address)
        data = operations.identify(exchanger, port)
        if raw:
            typer.echo("\n".join(hex_dump(memoryview(data))))
        elif as_json:
            typer.echo(report.identity_json(port, decode_identity(data)))
        else:
            typer.echo(report.identity_text(port, decode_identity(data)))


@app.command()
def config(
    interface: _Interface,
    target: _Target,
    action: Annotated[
        ConfigAction, typer.Argument(help="what to do with the string", show_default=True)
    ] = ConfigAction.GET,
    string: Annotated[
        str | None,
        typer.Argument(
            metavar="STRING", help="for all but get; up to 1024 bytes; put -- before -x"
        ),
    ] = None,
    timeout: _Timeout = _TIMEOUT_S,
    as_json: _Json = False,
) -> None:
    """Read, test or change a target's config string, and print what it then is.

    get: just print it. test, prefix: is it STRING, or does it begin with STRING? set: to STRING if
    it is empty. force: to STRING whatever it was; '' empties it.

    Exit status: 0 done, or the test holds; 1 the target could not be asked, or did not answer;
    2 it refused, or the test does not hold.

    Example: scst-bridge aoe config eth0 e1.1

    Example: scst-bridge aoe config eth0 e1.1 set 'boot disk of node7'

    Example: scst-bridge aoe config eth0 e1.1 force ''
    """
    if (string is None) is not (action is ConfigAction.GET):
        expected = "no STRING" if string is not None else "a STRING"
        _fail(ArgumentError(f"config {action.value}: expected {expected}"))
    address = _address(target)
    with _asking(interface, timeout) as exchanger:
        from bridges.aoe_tools import operations, report

        port = operations.find(exchanger, address)
        command = _CONFIG_COMMANDS[action]
        current = operations.config(exchanger, port, command, os.fsencode(string or ""))
        typer.echo(report.config_json(port, current) if as_json else printable(current))


@app.command()
def reserve(
    interface: _Interface,
    target: _Target,
    action: Annotated[
        ReserveAction, typer.Argument(help="what to do with the list", show_default=True)
    ] = ReserveAction.GET,
    macs: _Macs = None,
    timeout: _Timeout = _TIMEOUT_S,
    as_json: _Json = False,
) -> None:
    """Show or change the hosts that a target is reserved by, and print the list as it then is.

    While the list is not empty, other hosts can neither read nor write the disk. get: just print
    it. set: replace it, if it is empty or this host is in it. release: empty it, on the same terms.
    force: replace it whoever is in it, which takes the disk from a host that has failed.

    Exit status: 0 done; 1 the target could not be asked, or did not answer; 2 it refused, as it
    does while others have reserved it.

    Example: scst-bridge aoe reserve eth0 e1.1 set self 02:00:00:00:00:07

    Example: scst-bridge aoe reserve eth0 e1.1 force self

    Example: scst-bridge aoe reserve eth0 e1.1 release
    """
    _check_count(f"reserve {action.value}", macs, takes_none=action in _NO_MACS)
    address = _address(target)
    with _asking(interface, timeout) as exchanger:
        from bridges.aoe_tools import operations, report

        listed = parse_macs(macs or (), exchanger.mac)
        port = operations.find(exchanger, address)
        current = operations.reserve(exchanger, port, _RESERVE_COMMANDS[action], listed)
        if as_json:
            typer.echo(report.mac_list_json(port, "reserved_by", current))
        else:
            typer.echo(report.mac_list_lines(current, f"{port.address} is not reserved"))


@app.command()
def mask(
    interface: _Interface,
    target: _Target,
    action: Annotated[
        MaskAction, typer.Argument(help="what to do with the list", show_default=True)
    ] = MaskAction.GET,
    macs: _Macs = None,
    timeout: _Timeout = _TIMEOUT_S,
    as_json: _Json = False,
) -> None:
    """Show or change the hosts that a target answers, and print the list as it then is.

    A target with an empty list answers everybody; one with a list does not even let others discover
    it. So a list should have "self" first: who is not in it cannot change it any more.

    vblade up to version 25 crashes when an address that is in its list is deleted.

    Exit status: 0 done; 1 the target could not be asked, or did not answer; 2 it refused.

    Example: scst-bridge aoe mask eth0 e1.1

    Example: scst-bridge aoe mask eth0 e1.1 add self 02:00:00:00:00:07

    Example: scst-bridge aoe mask eth0 e1.1 delete 02:00:00:00:00:07
    """
    _check_count(f"mask {action.value}", macs, takes_none=action in _NO_MACS)
    address = _address(target)
    with _asking(interface, timeout) as exchanger:
        from bridges.aoe_tools import operations, report

        listed = parse_macs(macs or (), exchanger.mac)
        port = operations.find(exchanger, address)
        current = operations.mask(exchanger, port, _MASK_DIRECTIVES[action], listed)
        if as_json:
            typer.echo(report.mac_list_json(port, "mask", current))
        else:
            typer.echo(report.mac_list_lines(current, f"{port.address} answers every host"))
        if current and exchanger.mac not in current:
            typer.echo(f"from now on {port.address} does not answer this host", err=True)


@contextmanager
def _asking(interface: str, timeout_s: float) -> Iterator[Exchanger]:
    """Let a command ask on an interface; a failure ends the program with its message and status."""
    from bridges.aoe_tools.exchange import Exchanger
    from bridges.aoe_tools.packet_link import open_link

    try:
        with open_link(interface) as link:
            yield Exchanger(link, timeout_s, random.getrandbits(31))
    except ToolError as error:
        _fail(error)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        _fail(ArgumentError(f"'{text}': {error}"))


def _check_count(what: str, macs: Sequence[str] | None, *, takes_none: bool) -> None:
    if bool(macs) is takes_none:
        expected = "no MAC" if takes_none else "at least one MAC"
        _fail(ArgumentError(f"{what}: expected {expected}"))


def _fail(error: ToolError) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(error.exit_status)
