# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running kernel must have before it can be given disks: modules, and configfs mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bridges.local.tcmu.configfs import KernelError
from bridges.local.tcmu.sysfs import Sysfs

CONFIGFS: Final = Path("/sys/kernel/config")
_NEEDED: Final = ("configfs", "target_core_mod", "target_core_user", "tcm_loop")
# Without these there are SCSI devices, but no /dev/sdX or /dev/sgN.
_WANTED: Final = ("sd_mod", "sg")
_TIMEOUT_S: Final = 30.0

Run = Callable[[Sequence[str]], str]


def run(argv: Sequence[str]) -> str:
    """Run a program; return what is wrong, nothing if it succeeded."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{argv[0]}: no end within {_TIMEOUT_S:g} s"
    if done.returncode == 0:
        return ""
    return done.stderr.strip() or f"{argv[0]}: exit {done.returncode}"


def prepare(sysfs: Sysfs, mount_point: Path = CONFIGFS, run: Run = run) -> None:
    """Load the modules and mount configfs where that is missing; raises KernelError."""
    for module in _NEEDED:
        if not sysfs.has_module(module) and (problem := run(["modprobe", module])):
            raise KernelError(f"kernel module {module} is not loaded: {problem}")
    for module in _WANTED:
        if not sysfs.has_module(module):
            run(["modprobe", module])
    core = mount_point / "target" / "core"
    if core.is_dir():
        return
    if not (mount_point / "target").is_dir():
        problem = run(["mount", "-t", "configfs", "none", str(mount_point)])
        if not (mount_point / "target").is_dir():
            raise KernelError(f"configfs is not mounted at {mount_point}: {problem}")
    if not core.is_dir():
        raise KernelError(f"{core}: expected a folder of the module target_core_mod")
