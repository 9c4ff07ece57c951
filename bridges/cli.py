# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line, ``scst-bridge``: each command is a thin front to a module."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvloop
from pydantic import ValidationError

from bridges import (
    cli_alua,
    cli_aoe,
    cli_config,
    cli_pr,
    cli_reservations,
    cli_verbs,
    config_one_disk,
    daemon,
    demo,
)
from bridges.config import Config, load
from bridges.config_one_disk import NbdOptions, one_disk
from bridges.control import DEFAULT_CONTROL_SOCKET, ControlError, ask
from bridges.control_report import print_report
from bridges.control_status import Status
from bridges.daemon import ControlSocket
from bridges.driver_attributes import DEFAULT_LOCAL_SOCKET
from bridges.inherited import (
    NOTHING_INHERITED,
    Inherited,
    InheritedError,
    occupy_standard_descriptors,
    take_passed_sockets,
    take_stdio,
)
from bridges.listen import TlsMode
from bridges.local.cdb_tool import run_cdb
from bridges.local.client import LocalError
from bridges.local.unit_client import Place
from bridges.nbd import nbdkit_launcher
from bridges.scst_conf import ConfigError

app = typer.Typer(
    help="Emulated SCSI disks over NBD, ATA over Ethernet and a local socket.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_aoe.app, name="aoe")
app.add_typer(cli_alua.app, name="alua")
app.add_typer(cli_pr.app, name="pr")
app.command()(cli_reservations.reservations)
app.add_typer(cli_config.app, name="config")
cli_verbs.add_verbs(app)

_ConfArgument = Annotated[Path, typer.Argument(help="a configuration in scst.conf's grammar")]
_VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="log debug messages")]
_StdioOption = Annotated[
    bool,
    typer.Option(
        "--stdio", help="serve the one NBD client whose socket is stdin, until it leaves (inetd)"
    ),
]


def main() -> None:
    """Entry point of the console script."""
    occupy_standard_descriptors()
    app()


@app.command()
def serve(
    conf: _ConfArgument,
    stdio: _StdioOption = False,
    control: Annotated[
        Path | None,
        typer.Option(
            help="path of the control socket",
            show_default=f"{DEFAULT_CONTROL_SOCKET}; none with --stdio",
        ),
    ] = None,
    verbose: _VerboseOption = False,
) -> None:
    """Serve a configuration in the foreground until SIGTERM or SIGINT.

    SIGHUP takes over changed sizes of devices and renewed certificates. Another configuration is
    taken over by config apply.

    Sockets passed as systemd passes them (LISTEN_FDS) replace the nbd driver's listen addresses.

    They have the terms of the lines "listen systemd" or "listen systemd:NAME", if any.

    Example: scst-bridge serve /etc/scst.conf

    Example: nbdinfo -- [ scst-bridge serve scst.conf ]
    """
    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    inherited = _inherit(stdio)
    default = None if stdio else ControlSocket()
    _run(
        _load(conf),
        lambda: logging.getLogger("scst-bridge").info("ready"),
        inherited,
        default if control is None else ControlSocket(str(control.absolute()), is_required=True),
    )


@app.command()
def nbd(
    file: Annotated[Path, typer.Argument(help="the disk: a file or a block device")],
    attributes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ATTRIBUTE=VALUE",
            help="attributes of vdisk_fileio, as in blocksize=4096; thin_provisioned=1 is given",
        ),
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="HOST:PORT, [IPv6]:PORT, unix:/PATH or vsock:PORT; may be repeated",
            show_default=config_one_disk.DEFAULT_LISTEN,
        ),
    ] = None,
    export: Annotated[
        str, typer.Option(help="name of the export; clients may leave it out")
    ] = config_one_disk.DEVICE,
    read_only: Annotated[bool, typer.Option("--read-only", "-r", help="refuse writes")] = False,
    stdio: _StdioOption = False,
    tls_certificates: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="ca-cert.pem, server-cert.pem, server-key.pem"),
    ] = None,
    tls: Annotated[
        TlsMode | None,
        typer.Option(
            help="whether clients may or must use TLS",
            show_default="require with --tls-certificates, else off",
        ),
    ] = None,
    tls_verify_peer: Annotated[
        bool, typer.Option("--tls-verify-peer", help="ask for certificates of clients")
    ] = False,
    control: Annotated[
        Path | None, typer.Option(help="path of a control socket; none unless given")
    ] = None,
    verbose: _VerboseOption = False,
) -> None:
    """Serve one file or block device over NBD, as nbdkit and qemu-nbd do.

    It ends at SIGTERM or SIGINT. Sockets passed by systemd or an NBD client replace --listen.

    Example: scst-bridge nbd disk.img rotational=0 --listen 0.0.0.0:10809

    Example: nbdinfo -- [ scst-bridge nbd disk.img ]

    Example: nbdcopy -- [ scst-bridge nbd -r disk.img ] copy.img
    """
    inherited = _inherit(stdio)
    is_started_by_client = inherited is not NOTHING_INHERITED
    usual = logging.WARNING if is_started_by_client else logging.INFO
    _log_to_stderr(logging.DEBUG if verbose else usual)
    if inherited.listening:
        listens = ["systemd"]
    else:
        listens = ["stdio"] if stdio else listen or [config_one_disk.DEFAULT_LISTEN]
    options = NbdOptions(
        tuple(listens),
        export,
        tls or (TlsMode.OFF if tls_certificates is None else TlsMode.REQUIRE),
        None if tls_certificates is None else str(tls_certificates),
        tls_verify_peer,
    )
    try:
        config = one_disk(file, attributes or (), options, is_read_only=read_only)
    except (ConfigError, ValueError) as error:
        _fail(_reason(error))
    _run(
        config,
        lambda: logging.getLogger("scst-bridge").info("ready"),
        inherited,
        None if control is None else ControlSocket(str(control.absolute()), is_required=True),
    )


@app.command()
def status(
    control: Annotated[Path, typer.Option(help="the daemon's control socket", readable=False)] = (
        Path(DEFAULT_CONTROL_SOCKET)
    ),
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Show what a daemon serves: devices, targets, sessions, and listeners with their NBD URIs.

    Device groups are shown with the access states of their target groups.

    The exit status is 1 if no daemon answers.
    """
    try:
        found = Status.model_validate(ask(str(control), "status"))
    except (ControlError, ValidationError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        print_report(found)


@app.command()
def check(conf: _ConfArgument) -> None:
    """Check a configuration without starting anything."""
    config = _load(conf)
    targets = sum(len(driver.targets) for driver in config.drivers.values())
    for caution in config.cautions():
        typer.echo(f"warning: {caution}", err=True)
    typer.echo(f"{conf}: ok: {len(config.devices)} devices, {targets} targets")


@app.command("demo")
def demo_command(
    directory: Annotated[Path, typer.Option(help="where the disk and the sockets live")],
    aoe_interface: Annotated[
        str | None, typer.Option(help="also answer AoE on this interface, as e0.0")
    ] = None,
) -> None:
    """Serve a 1 GiB sparse disk, made at the first start and kept, at every door."""
    _log_to_stderr(logging.INFO)
    try:
        conf = demo.prepare(directory, aoe_interface)
    except (ConfigError, OSError) as error:
        _fail(_reason(error))
    _run(
        _load(conf),
        lambda: typer.echo(demo.instructions(directory, aoe_interface)),
        NOTHING_INHERITED,
        ControlSocket(str(demo.control_path(directory)), is_required=True),
    )


@app.command()
def cdb(
    device: Annotated[
        str, typer.Argument(help="a target's or device's name, or the path of a local socket")
    ],
    lun: Annotated[int, typer.Argument(help="the LUN, 0 to 16383")],
    words: Annotated[list[str], typer.Argument(metavar="HEX...", help="the CDB's bytes")],
    socket: Annotated[
        Path, typer.Option(help="the daemon's local socket, where DEVICE is a name")
    ] = Path(DEFAULT_LOCAL_SOCKET),
    data_out: Annotated[
        Path | None, typer.Option(help="a file with the data to send with the CDB")
    ] = None,
    length: Annotated[
        int | None, typer.Option(help="room for data-in in bytes, where the CDB shall not decide")
    ] = None,
    initiator: Annotated[
        str, typer.Option(metavar="NAME", help="be the initiator local:uid=N,NAME, not local:uid=N")
    ] = "",
) -> None:
    """Send one CDB; print its status, decoded sense and data.

    The exit status is 0 for GOOD and CONDITION MET, 2 for any other.
    """
    try:
        payload = data_out.read_bytes() if data_out is not None else b""
        place = Place.of(device, str(socket), lun, initiator)
        text, status = run_cdb(place, words, payload, length)
    except OSError as error:
        _fail(_reason(error))
    except (ValueError, LocalError) as error:
        _fail(str(error))
    typer.echo(text)
    raise typer.Exit(status)


_ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command("nbdkit", context_settings=_ANY_WORDS, help=nbdkit_launcher.help_text())
def nbdkit_command() -> None:
    """Replace this process by nbdkit."""
    # The parser takes ``--`` away, which tells nbdkit's options from the plugin's parameters.
    words = sys.argv[sys.argv.index("nbdkit") + 1 :]
    argv = nbdkit_launcher.command_line(words)
    try:
        os.execvpe(argv[0], argv, nbdkit_launcher.environment(os.environ))
    except FileNotFoundError:
        _fail("nbdkit is not installed: apt-get install nbdkit nbdkit-plugin-python")


def _load(conf: Path) -> Config:
    try:
        return load(str(conf))
    except ConfigError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{conf}: {error.strerror}")


def _inherit(stdio: bool) -> Inherited:
    try:
        if stdio:
            return Inherited(stdio=take_stdio())
        listening = take_passed_sockets(os.environ)
    except InheritedError as error:
        _fail(str(error))
    return Inherited(listening) if listening else NOTHING_INHERITED


def _run(
    config: Config,
    on_ready: Callable[[], None],
    inherited: Inherited,
    control: ControlSocket | None,
) -> None:
    try:
        is_stable = uvloop.run(daemon.serve(config, on_ready, inherited=inherited, control=control))
    except (ConfigError, InheritedError, OSError) as error:
        _fail(_reason(error))
    if not is_stable:
        _fail("the last flush of a device failed: see the log")


def _reason(error: Exception) -> str:
    if isinstance(error, ConfigError) and error.path == config_one_disk.COMMAND_LINE:
        return error.message
    if not isinstance(error, OSError):
        return str(error)
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
