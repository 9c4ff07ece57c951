# SPDX-License-Identifier: GPL-2.0-or-later
"""What every benchmark of this folder sets up: an image, a console, and an end by signal."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

import typer
from rich.console import Console

CHUNK_BYTES = 4 << 20
# Rich takes 80 columns when the output is no terminal; the tables need up to this many.
PIPED_WIDTH = 100

_Thing = TypeVar("_Thing")


@contextlib.contextmanager
def random_file(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A file of random data, removed when the block is left."""
    with tempfile.NamedTemporaryFile(
        dir=directory, prefix="scst-bridge-bench-", suffix=".img"
    ) as image:
        for offset_bytes in range(0, size_bytes, CHUNK_BYTES):
            image.write(os.urandom(min(CHUNK_BYTES, size_bytes - offset_bytes)))
        image.flush()
        yield Path(image.name)


def chosen(kind: str, names: Sequence[str] | None, known: Mapping[str, _Thing]) -> list[_Thing]:
    """The things of these names in their own order, all for no names; raises typer.BadParameter."""
    unknown = set(names or ()) - known.keys()
    if unknown:
        raise typer.BadParameter(f"no such {kind}: {', '.join(sorted(unknown))}")
    return [thing for name, thing in known.items() if not names or name in names]


def wide_console() -> Console:
    """Where a report goes: as wide as the terminal, if it is one."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_WIDTH)


def leave_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the program through its with-blocks, as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
