# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the host's programs that prepare a guest (apt, dpkg, kmod, cpio).

Owns the one way of starting them: bounded, in the C locale, and with a failure that quotes what the
program said. Starting qemu is the business of `vm`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


class HostToolError(Exception):
    """A program on the host failed; the text says which one and why."""


def run_tool(argv: Sequence[str], *, cwd: Path | None = None, stdin: str = "") -> str:
    """Return what `argv` wrote to its standard output.

    Raises `HostToolError` when the program is missing, fails or takes longer than five minutes (the
    kernel package is 70 MB, and its mirror may be slow).
    """
    # Debian keeps modprobe and depmod in /usr/sbin, which an ordinary user's PATH lacks.
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            input=stdin,
            env={**os.environ, "PATH": path, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostToolError(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        raise HostToolError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout
