# SPDX-License-Identifier: GPL-2.0-or-later
"""The facts that a figure is worthless without: machine, versions, file system, run lengths.

Collected once, before anything is measured; report.py prints them.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

VERSION_COMMANDS = (
    ("fio", "--version"),
    ("nbdcopy", "--version"),
    ("nbdkit", "--version"),
    ("qemu-nbd", "--version"),
    ("nbd-server", "-V"),
)


@dataclass(frozen=True, slots=True)
class Environment:
    """Header of a report; `versions` are the programs' own words."""

    kernel: str
    cpu: str
    cpu_count: int
    versions: tuple[str, ...]
    directory: str
    file_system: str
    size_mib: int
    runs: int
    seconds: float


def cpu_model(cpuinfo: str) -> str:
    """The processor's name from the text of /proc/cpuinfo; not every architecture gives one."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def file_system(directory: Path) -> str:
    """The type of the file system that a folder is on."""
    return _first_line("findmnt", "-n", "-o", "FSTYPE", "--target", str(directory))


def _first_line(*command: str) -> str:
    """What a program prints first, or that it is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return f"{command[0]} not installed"
    lines = (done.stdout + done.stderr).splitlines()
    return lines[0].removeprefix("This is ") if lines else f"{command[0]} of unknown version"


def _our_version() -> str:
    try:
        return f"scst-bridge {importlib.metadata.version('scst-bridge')}"
    except importlib.metadata.PackageNotFoundError:
        return "scst-bridge not installed"


def collect(
    directory: Path,
    size_mib: int,
    runs: int,
    seconds: float,
    version_commands: Iterable[tuple[str, ...]] = VERSION_COMMANDS,
) -> Environment:
    """Ask the machine."""
    return Environment(
        kernel=platform.release(),
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()),
        cpu_count=os.cpu_count() or 1,
        versions=(
            _our_version(),
            f"Python {platform.python_version()}",
            *(_first_line(*command) for command in version_commands),
        ),
        directory=str(directory),
        file_system=file_system(directory),
        size_mib=size_mib,
        runs=runs,
        seconds=seconds,
    )
