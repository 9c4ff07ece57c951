# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel package, unpacked once into a cache: the vmlinuz and the modules of the guest.

Owns the cache folder, one sub-folder per release. A folder appears there by a rename when it is
complete, so a broken download is never taken for a kernel. Packing modules into an initramfs and
booting must not live here.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.host_tools import HostToolError, run_tool

# `linux-image-amd64` is Debian's name for "the newest signed kernel"; unsigned ones end otherwise.
META_PACKAGE = "linux-image-amd64"
DEPENDENCY = re.compile(r"^\s*Depends: linux-image-(\d\S*-amd64)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class KernelImage:
    """An unpacked kernel package with its module index."""

    release: str  # as `uname -r` prints it
    root: Path  # what dpkg -x made; the argument of modprobe -d

    @property
    def vmlinuz(self) -> Path:
        return self.root / "boot" / f"vmlinuz-{self.release}"

    def insertion_order(self, modules: Iterable[str]) -> tuple[Path, ...]:
        """Return the module files that `modules` need, each after the ones it depends on."""
        files: dict[Path, None] = {}
        for module in modules:
            argv = ["modprobe", "-d", str(self.root), "-S", self.release, "--show-depends", module]
            for line in run_tool(argv).splitlines():
                # "insmod FILE [PARAMETER...]", or "builtin NAME" for what needs no file.
                verb, name, *_ = line.split()
                if verb == "insmod":
                    files[Path(name)] = None
        return tuple(files)


def default_cache() -> Path:
    """Return where kernels are kept between runs (XDG Base Directory, user's cache)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "scst-bridge" / "kernel"


def newest_release() -> str:
    """Return the release of the kernel that apt would install.

    Raises `HostToolError` when apt knows of none.
    """
    releases: list[str] = DEPENDENCY.findall(run_tool(["apt-cache", "depends", META_PACKAGE]))
    if not releases:
        raise HostToolError(f"apt knows no kernel behind {META_PACKAGE}: run apt-get update")
    return max(releases, key=lambda release: [int(n) for n in re.findall(r"\d+", release)])


def obtain_kernel(cache: Path) -> KernelImage:
    """Return Debian's newest kernel out of `cache`, downloading it when it is not there.

    Whoever comes while another process downloads waits for it: apt-get works for one at a time.
    Raises `HostToolError` when the package cannot be had or unpacked.
    """
    release = newest_release()
    root = cache / release
    cache.mkdir(parents=True, exist_ok=True)
    # The lock goes with the file, and so with the process.
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            with tempfile.TemporaryDirectory(prefix="incomplete-", dir=cache) as scratch:
                unpack(release, Path(scratch)).rename(root)
    return KernelImage(release, root)


def unpack(release: str, scratch: Path) -> Path:
    """Download the kernel package and return the folder in `scratch` that holds its files."""
    download = ["apt-get", "download", f"linux-image-{release}"]
    try:
        run_tool(download, cwd=scratch)
    except HostToolError:
        # Lists that are old name files that Debian's servers have replaced.
        run_tool(["apt-get", "update", "-qq"])
        run_tool(download, cwd=scratch)
    (package,) = scratch.glob("*.deb")
    unpacked = scratch / "root"
    run_tool(["dpkg", "-x", str(package), str(unpacked)])
    run_tool(["depmod", "-b", str(unpacked), release])
    return unpacked
