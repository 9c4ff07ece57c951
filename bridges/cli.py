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
    conf = demo.prepare(directory, aoe_interface)
    _run(_load(conf), lambda: typer.echo(demo.instructions(directory, aoe_interface)))


_ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command("nbdkit", context_settings=_ANY_WORDS)
def nbdkit_command() -> None:
    """Become nbdkit with the plugin: NBDKIT-OPTIONS -- PARAMETERS.

    Parameters: file=DISK and attributes of vdisk_fileio (blocksize=4096, read_only=1, ...), or
    socket=PATH and device=NAME for a LUN of the daemon.

    Example: scst-bridge nbdkit -f -U nbd.sock -- file=disk.img thin_provisioned=1
    """
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
        uvloop.run(daemon.serve(config, on_ready))
    except (ConfigError, OSError) as error:
        _fail(str(error) if isinstance(error, ConfigError) else error.strerror or str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


def _log_to_stderr(verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
