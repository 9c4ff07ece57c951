# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's first root file system: a static busybox, the modules that 9p needs, and init.

Owns what is inside the archive; `guest/init.sh` owns what happens at boot, and `vm` owns the
command line of qemu. Format: cpio "newc", uncompressed (Linux Documentation,
driver-api/early-userspace/buffer-format).
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.kernel.host_tools import HostToolError, run_tool
from tests.kernel.kernel_image import KernelImage

GUEST = Path(__file__).resolve().parent / "guest"
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p")
FOLDERS = (
    *("bin", "sbin", "modules", "proc", "sys", "dev", "host", "root"),
    # Where the kernel's target keeps reservations; a thread of its own opens them, in this root.
    *("var/target/pr", "var/target/alua"),
)

# request_module() runs /sbin/modprobe in the kernel's own root, which stays the initramfs although
# the script runs in a chroot; without this a mount cannot pull in its file system or its checksums.
MODPROBE = """\
#!/bin/busybox sh
. /settings
exec /bin/busybox chroot /root /sbin/modprobe -d "$KERNEL_ROOT" -S "$KERNEL_RELEASE" "$@"
"""


def build_initramfs(kernel: KernelImage, settings: Mapping[str, str], scratch: Path) -> Path:
    """Return an archive in `scratch` whose init reads `settings` as shell variables.

    Raises `HostToolError` when busybox, kmod or cpio is missing.
    """
    tree = scratch / "initramfs"
    busybox = shutil.which("busybox")
    if busybox is None:
        raise HostToolError("busybox: not found (Debian package busybox-static)")
    for folder in FOLDERS:
        (tree / folder).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin" / "busybox")
    write_executable(tree / "init", (GUEST / "init.sh").read_text())
    write_executable(tree / "sbin" / "modprobe", MODPROBE)
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    (tree / "settings").write_text("".join(lines))
    modules = kernel.insertion_order(BOOT_MODULES)
    for module in modules:
        shutil.copy(module, tree / "modules")
    (tree / "modules" / "order").write_text("".join(f"{module.name}\n" for module in modules))
    return pack(tree, scratch / "initramfs.cpio")


def write_executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def pack(tree: Path, archive: Path) -> Path:
    """Write the files of `tree` to `archive`, as root's; a folder goes before what it holds."""
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    argv = ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "-O", str(archive)]
    run_tool(argv, cwd=tree, stdin="".join(f"{name}\n" for name in names))
    return archive
