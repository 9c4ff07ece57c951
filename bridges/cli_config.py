# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's ``config``: the configuration of a running daemon, as a whole."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from bridges.config import interpret
from bridges.control import CHANGE_TIMEOUT_S, DEFAULT_CONTROL_SOCKET, ControlError, ask
from bridges.control_config import Changes
from bridges.scst_conf import ConfigError, parse

app = typer.Typer(
    help="""Change the configuration of a running daemon, or write it down.

    Exit status: 0 done; 1 nothing is changed, or no daemon answers.

    Example: scst-bridge config apply /etc/scst.conf --dry-run

    Example: scst-bridge config write --output /etc/scst.conf
    """,
    no_args_is_help=True,
)

ControlOption = Annotated[Path, typer.Option(help="the daemon's control socket", readable=False)]
CONTROL = Path(DEFAULT_CONTROL_SOCKET)

# As a text editor makes files; the owner's umask has the last word.
_MODE = 0o666


@app.command()
def apply(
    conf: Annotated[Path, typer.Argument(help="a configuration in scst.conf's grammar")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="only show what would change")
    ] = False,
    control: ControlOption = CONTROL,
) -> None:
    """Let a running daemon take over a configuration, whole or not at all.

    Shows what has changed. Devices and targets that are the same in both serve on untouched.

    What only a restart can change (attributes of devices that are open, where drivers listen) is
    refused, and nothing is changed then.

    Example: scst-bridge config apply /etc/scst.conf
    """
    try:
        # As the daemon does it, so that what is wrong is found without one.
        with open(conf, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read()
        interpret(parse(text, str(conf)))
    except ConfigError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{conf}: {error.strerror}")
    change(control, "config_apply", {"text": text, "path": str(conf), "dry_run": dry_run})


@app.command()
def write(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="the file, replaced as a whole", show_default="standard output"
        ),
    ] = None,
    control: ControlOption = CONTROL,
) -> None:
    """Write the configuration that a daemon has in force, with all changes since its start.

    Comments of the file that it was started with are not kept.

    Example: scst-bridge config write --output /etc/scst.conf
    """
    text = _ask(control, "config_write", {})
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        if output.exists() and not output.is_file():
            # A device or a pipe is nothing to be replaced.
            output.write_text(text, encoding="utf-8")
        else:
            # A link goes on leading where it did.
            _replace(Path(os.path.realpath(output)), text.encode())
    except OSError as error:
        _fail(f"{output}: {error.strerror}")


def change(control: Path, command: str, arguments: Mapping[str, object]) -> None:
    """Have a daemon change its configuration, and show what it has to tell."""
    try:
        changes = Changes.model_validate(_ask(control, command, arguments))
    except ValidationError as error:
        _fail(str(error))
    for line in changes.lines or ("nothing to change",):
        typer.echo(line)
    for warning in changes.warnings:
        typer.echo(f"warning: {warning}", err=True)


def _ask(control: Path, command: str, arguments: Mapping[str, object]) -> Any:
    try:
        return ask(str(control), command, arguments, CHANGE_TIMEOUT_S)
    except ControlError as error:
        _fail(str(error))


def _replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another, whole and durably; raises OSError.

    It has the owner and the mode of the other, whom a daemon may need to read it.
    """
    descriptor, new = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            _liken(descriptor, path)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(new, path)
    except BaseException:
        os.unlink(new)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _liken(descriptor: int, path: Path) -> None:
    """Give a file that only its owner can read so far the owner and the mode of another."""
    try:
        old = path.stat()
    except FileNotFoundError:
        mask = os.umask(0o077)
        os.umask(mask)
        os.fchmod(descriptor, _MODE & ~mask)
        return
    # Only root may give files away.
    with suppress(PermissionError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
