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

from bridges import daemon, demo
from bridges.config import Config, load
from bridges.driver_attributes import DEFAULT_LOCAL_SOCKET
from bridges.local.cdb_tool import run_cdb
from bridges.local.client import LocalError
from bridges.nbd import nbdkit_launcher
from bridges.scst_conf import ConfigError

app = typer.Typer(
    help="Emulated SCSI disks over NBD, ATA over Ethernet and a local socket.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_ConfArgument = Annotated[Path, typer.Argument(help="a configuration in scst.conf's grammar")]


def main() -> None:
    """Entry point of the console script."""
    app()


@app.command()
def serve(
    conf: _ConfArgument,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log debug messages")] = False,
) -> None:
    """Serve a configuration in the foreground until SIGTERM or SIGINT."""
    _log_to_stderr(verbose)
    config = _load(conf)
    _run(config, lambda: logging.getLogger("scst-bridge").info("ready"))


@app.command()
def check(conf: _ConfArgument) -> None:
    """Check a configuration without starting anything."""
    config = _load(conf)
    targets = sum(len(driver.targets) for driver in config.drivers.values())
    typer.echo(f"{conf}: ok: {len(config.devices)} devices, {targets} targets")


@app.command("demo")
def demo_command(
    directory: Annotated[Path, typer.Option(help="where the disk and the sockets live")],
    aoe_interface: Annotated[
        str | None, typer.Option(help="also answer AoE on this interface, as e0.0")
    ] = None,
) -> None:
    """Serve a 1 GiB sparse disk, made at the first start and kept, at every door."""
    _log_to_stderr(verbose=False)
    try:
        conf = demo.prepare(directory, aoe_interface)
    except (ConfigError, OSError) as error:
        _fail(_reason(error))
    _run(_load(conf), lambda: typer.echo(demo.instructions(directory, aoe_interface)))


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
) -> None:
    """Send one CDB; print its status, decoded sense and data.

    The exit status is 0 for GOOD and CONDITION MET, 2 for any other.
    """
    is_path = "/" in device
    path, name = (device, "") if is_path else (str(socket), device)
    try:
        payload = data_out.read_bytes() if data_out is not None else b""
        text, status = run_cdb(path, name, lun, words, payload, length)
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


def _run(config: Config, on_ready: Callable[[], None]) -> None:
    try:
        is_stable = uvloop.run(daemon.serve(config, on_ready))
    except (ConfigError, OSError) as error:
        _fail(_reason(error))
    if not is_stable:
        _fail("the last flush of a device failed: see the log")


def _reason(error: ConfigError | OSError) -> str:
    if isinstance(error, ConfigError):
        return str(error)
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


def _log_to_stderr(verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
