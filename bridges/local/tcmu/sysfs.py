# SPDX-License-Identifier: GPL-2.0-or-later
"""What sysfs tells of the kernel's side: uio devices, SCSI disks by address, loaded modules.

Source: Linux Documentation, ABI/testing/sysfs-class-uio, ABI/testing/sysfs-bus-scsi.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class UioNode:
    """A uio device: its node, and the size of its only mapping."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OpenUio:
    """An open uio device: a descriptor to wait on and to write to, and the mapping."""

    descriptor: int
    memory: mmap.mmap

    def close(self) -> None:
        """Let it go; memory that storage may still write to stays mapped."""
        with suppress(BufferError):
            self.memory.close()
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Disk:
    """The devices that the kernel made of a LUN; each is empty while there is none."""

    block: str = ""
    generic: str = ""

    def __str__(self) -> str:
        names = [f"/dev/{name}" for name in (self.block, self.generic) if name]
        return " and ".join(names) or "no device"


class Sysfs:
    """Reads below a folder, which is /sys; device nodes are below another, /dev."""

    def __init__(self, root: Path = Path("/sys"), nodes: Path = Path("/dev")) -> None:
        self._root = root
        self._nodes = nodes

    def find_uio(self, name: str) -> UioNode | None:
        """The uio device that has a name."""
        for folder in (self._root / "class" / "uio").glob("uio*"):
            size = _read(folder / "maps" / "map0" / "size")
            if size and _read(folder / "name") == name:
                return UioNode(self._nodes / folder.name, int(size, 16))
        return None

    def open_uio(self, node: UioNode) -> OpenUio:
        """Open a uio device; raises OSError, EBUSY if another process has it."""
        descriptor = os.open(node.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return OpenUio(descriptor, mmap.mmap(descriptor, node.size_bytes))
        except BaseException:
            os.close(descriptor)
            raise

    def disk(self, address: str) -> Disk:
        """The devices at a SCSI address, HOST:CHANNEL:ID:LUN."""
        device = self._device(address)
        return Disk(_only_name(device / "block"), _only_name(device / "scsi_generic"))

    def is_in_use(self, disk: Disk) -> bool:
        """Tell whether a disk, or a partition of it, is mounted or held by another driver."""
        if not disk.block:
            return False
        try:
            descriptor = os.open(self._nodes / disk.block, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            # open(2): a block device that is in use by the system.
            return error.errno == errno.EBUSY
        os.close(descriptor)
        return False

    def rescan(self, address: str) -> None:
        """Have the kernel read the capacity again, which sends commands; raises OSError."""
        (self._device(address) / "rescan").write_text("1")

    def set_queue_depth(self, address: str, depth: int) -> None:
        """Bound the commands under way; raises OSError."""
        (self._device(address) / "queue_depth").write_text(str(depth))

    def has_module(self, name: str) -> bool:
        """Tell whether a module is loaded, as far as can be seen: one built in may be missing."""
        return (self._root / "module" / name).is_dir()

    def _device(self, address: str) -> Path:
        return self._root / "class" / "scsi_device" / address / "device"


def _read(path: Path) -> str:
    """The line in a file, which may vanish."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _only_name(folder: Path) -> str:
    try:
        return next(iter(sorted(os.listdir(folder))), "")
    except OSError:
        return ""
