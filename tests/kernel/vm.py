# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots Debian's kernel on the host's root file system and runs one script in it.

Owns the command line of qemu and its end: qemu never outlives the call, nor this process. Where the
kernel comes from is the business of `kernel_image`, what the guest does at boot that of
`guest/init.sh`. TCG only: KVM is missing or broken where tests often run.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.initramfs import build_initramfs
from tests.kernel.kernel_image import KernelImage

CHECKOUT = Path(__file__).resolve().parents[2]
SHARE_IN_GUEST = "/run/share"
# What a failure quotes, and how much of each: a panic's trace has some forty lines.
REPORTED = ("stdout", "stderr", "*.log", "steps/*/output", "console")
TAIL_LINES = 60


class GuestError(Exception):
    """The guest did not reach the end of its script: time limit, panic, or qemu's own failure."""


@dataclass(frozen=True, slots=True)
class GuestResult:
    """What a script left behind; `files` is the host's side of the share."""

    status: int
    stdout: str
    stderr: str
    console: str
    files: Path


def run_guest(
    kernel: KernelImage,
    script: str,
    modules: Sequence[str],
    timeout_s: float,
    share: Path,
    memory_mib: int = 1024,
) -> GuestResult:
    """Boot `kernel`, load `modules`, run `script` as root and return what it left in `share`.

    The script is bash under `set -eu`, after `guest/prelude.sh`; $CHECKOUT and $SHARE name the two
    folders it knows. `share` is an empty folder of the caller's, writable in the guest.
    Raises `GuestError`, which quotes the console, when the script does not come to its end.
    """
    (share / "script").write_text(script)
    settings = {
        "CHECKOUT": str(CHECKOUT),
        "KERNEL_ROOT": str(kernel.root.resolve()),
        "KERNEL_RELEASE": kernel.release,
        "MODULES": " ".join(modules),
        "SHARE": SHARE_IN_GUEST,
    }
    with tempfile.TemporaryDirectory(prefix="scst-bridge-vm-") as scratch:
        initramfs = build_initramfs(kernel, settings, Path(scratch))
        boot(qemu_command(kernel, initramfs, share, memory_mib), share, timeout_s)
    return GuestResult(
        status=int((share / "status").read_text()),
        stdout=read_text(share / "stdout"),
        stderr=read_text(share / "stderr"),
        console=read_text(share / "console"),
        files=share,
    )


def qemu_command(
    kernel: KernelImage, initramfs: Path, share: Path, memory_mib: int
) -> tuple[str, ...]:
    """Return the command that boots `initramfs`, with the host's root and `share` over 9p."""
    virtfs = "local,path={},mount_tag={},security_model=none,multidevs=remap,readonly={}"
    return (
        # The kernel kills qemu should this process be killed before it can.
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(memory_mib)),
        *("-nodefaults", "-display", "none", "-no-reboot", "-net", "none"),
        *("-serial", f"file:{share / 'console'}"),
        *("-kernel", str(kernel.vmlinuz), "-initrd", str(initramfs)),
        # panic=-1 with -no-reboot: a panic ends qemu at once.
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off"),
        *("-virtfs", virtfs.format("/", "host", "on")),
        # A comma ends a value in qemu's option syntax unless it is doubled.
        *("-virtfs", virtfs.format(str(share).replace(",", ",,"), "share", "off")),
    )


def boot(command: Sequence[str], share: Path, timeout_s: float) -> None:
    """Run qemu until the guest powers off.

    Raises `GuestError` unless the guest's init reported the script's status before that.
    """
    try:
        qemu = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise GuestError(f"qemu did not start: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise GuestError(describe(f"no end within {timeout_s:g} s", share)) from error
    if qemu.returncode != 0:
        raise GuestError(describe(f"qemu: exit {qemu.returncode}: {qemu.stderr.strip()}", share))
    if not (share / "status").exists():
        raise GuestError(describe("the guest stopped before its script's end", share))


def describe(problem: str, share: Path) -> str:
    """Return `problem` with the ends of the console and of what the script wrote."""
    files = [path for pattern in REPORTED for path in sorted(share.glob(pattern))]
    tails = [f"{path.relative_to(share)}:\n{tail(path)}" for path in files]
    return "\n".join([problem, *tails])


def tail(path: Path) -> str:
    return "\n".join(read_text(path).splitlines()[-TAIL_LINES:])


def read_text(path: Path) -> str:
    """Return the file's text, empty if it is not there; a console may hold any bytes."""
    return path.read_text(errors="replace") if path.exists() else ""
