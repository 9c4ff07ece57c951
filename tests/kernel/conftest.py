# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the kernel tests: Debian's kernel, and one boot for each guest script.

A boot serves all tests of a file, hence the session scope. What a guest writes lives in a temporary
folder that goes with the session; a failure quotes what it needs of it.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.kernel.conformance_expected import ISCSI, is_whole_suite, only_over
from tests.kernel.host_tools import run_tool
from tests.kernel.kernel_image import KernelImage, default_cache, obtain_kernel
from tests.kernel.steps import Steps
from tests.kernel.vm import CHECKOUT, GuestError, describe, run_guest

GUEST = Path(__file__).resolve().parent / "guest"
# The guest sees the host's root, so its programs must be installed here too.
PROGRAMS = (
    *("qemu-system-x86_64", "busybox", "cpio", "setpriv", "dpkg", "apt-get"),
    *(
        "modprobe",
        "depmod",
        "mkfs.ext4",
        "debugfs",
        "ip",
        "tc",
        "sysctl",
        "dmsetup",
        "losetup",
        "nbd-client",
        "nbdinfo",
        "nbdkit",
        "aoe-discover",
        "aoeping",
        "sg_inq",
        "sg_reset",
        "iscsi-test-cu",
    ),
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Each script takes one or two minutes on two idle cores; the rest is for busy ones.
SCRIPT_TIMEOUT_S = 600.0


@pytest.fixture(scope="session")
def kernel() -> KernelImage:
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    compile_packages()
    return obtain_kernel(default_cache())


def compile_packages() -> None:
    """Write the bytecode of what the guest runs, which sees this tree but cannot write to it.

    Without it each daemon compiles itself first, which an emulated processor takes a minute for.
    """
    folders = [str(CHECKOUT / package) for package in ("bridges", "scsi_backend")]
    run_tool([sys.executable, "-m", "compileall", "-q", *folders])


@pytest.fixture(scope="session")
def nbd_client(kernel: KernelImage) -> Iterator[Steps]:
    with run_steps(kernel, "nbd_client.sh", ["nbd", "vsock_loopback"]) as steps:
        yield steps


@pytest.fixture(scope="session")
def aoe_driver(kernel: KernelImage) -> Iterator[Steps]:
    with run_steps(kernel, "aoe_driver.sh", ["nbd", "veth"]) as steps:
        yield steps


@pytest.fixture(scope="session")
def aoe_wire(kernel: KernelImage) -> Iterator[Steps]:
    with run_steps(kernel, "aoe_wire.sh", ["veth", "bridge", "sch_netem"]) as steps:
        yield steps


@pytest.fixture(scope="session")
def aoe_faults(kernel: KernelImage) -> Iterator[Steps]:
    with run_steps(kernel, "aoe_faults.sh", ["veth", "loop", "dm_mod"]) as steps:
        yield steps


@pytest.fixture(scope="session")
def tcmu(kernel: KernelImage) -> Iterator[Steps]:
    modules = ["target_core_user", "tcm_loop", "sd_mod", "sg", "nbd", "veth"]
    # Half of the memory is the tmpfs that the disks lie in.
    with run_steps(kernel, "tcmu.sh", modules, memory_mib=2048) as steps:
        yield steps


@pytest.fixture(scope="session")
def conformance(kernel: KernelImage) -> Iterator[Steps]:
    modules = ["target_core_user", "tcm_loop", "iscsi_target_mod", "sd_mod", "sg"]
    only = "" if is_whole_suite() else " ".join(sorted(only_over(ISCSI)))
    # The kernel keeps what a TCMU device once took, 64 MiB each, and the disks lie in memory, too.
    with run_steps(
        kernel,
        "conformance.sh",
        modules,
        memory_mib=2048,
        timeout_s=1500.0,
        settings={"ONLY_OVER_ISCSI": only},
    ) as steps:
        yield steps


@contextmanager
def run_steps(
    kernel: KernelImage,
    script: str,
    modules: Sequence[str],
    memory_mib: int = 1024,
    timeout_s: float = SCRIPT_TIMEOUT_S,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Steps]:
    """Run a script of `guest/` and yield its steps; their files go when the context ends.

    The script finds `settings` as variables.
    Raises `GuestError` when the script fails outside of its steps, too.
    """
    with tempfile.TemporaryDirectory(prefix="scst-bridge-share-") as folder:
        share = Path(folder)
        values = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
        text = values + (GUEST / script).read_text()
        result = run_guest(kernel, text, modules, timeout_s, share, memory_mib)
        if result.status != 0:
            raise GuestError(describe(f"{script}: exit {result.status}", share))
        yield Steps(share)
