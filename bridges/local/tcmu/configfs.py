# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's target configuration: TCMU devices, and ports of tcm_loop that lead to them.

Each function is one step that a server takes off its loop. ``map_lun`` and ``unmap_lun`` return
only when the kernel's SCSI commands to the LUN have been answered, so somebody must serve it.

Source: Linux Documentation, target/tcmu-design; configfs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridges.local.tcmu.naming import DeviceConfig, LunName, initiator_name, port_name

# Our virtual host bus adapter among those of the "user" plugin; others count from 0.
_HBA: Final = "user_7077"
# Memory for the data of commands under way. The kernel keeps what it once took.
_DATA_AREA_MB: Final = 64
_SYMLINK: Final = "device"
# Reservations and ALUA are the device server's, which also hears of task management.
_ATTRIBUTES: Final = {"pgr_support": "0", "alua_support": "0", "tmr_notification": "1"}


class KernelError(Exception):
    """The kernel's door cannot be used, or did not do as asked; the text says what and why."""


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What a new TCMU device is made with."""

    config: DeviceConfig
    size_bytes: int
    block_size_bytes: int
    max_transfer_bytes: int
    serial: str
    cmd_time_out_s: int


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A TCMU device that is there."""

    folder: Path
    config: DeviceConfig
    is_enabled: bool

    @property
    def uio_name(self) -> str:
        """The name of its uio device."""
        hba = self.folder.parent.name.partition("_")[2]
        return f"tcm-user/{hba}/{self.folder.name}/{self.config}"


class Configfs:
    """The folder "target" of configfs."""

    def __init__(self, root: Path = Path("/sys/kernel/config/target")) -> None:
        self._core = root / "core"
        self._loopback = root / "loopback"

    def found(self) -> list[FoundDevice]:
        """The TCMU devices of this project, whoever made them."""
        devices = []
        for folder in sorted(self._device_folders()):
            with suppress(OSError):
                config = DeviceConfig.parse((folder / "attrib" / "dev_config").read_text())
                if config is not None:
                    is_enabled = (folder / "enable").read_text().strip() == "1"
                    devices.append(FoundDevice(folder, config, is_enabled))
        return devices

    def _device_folders(self) -> Iterator[Path]:
        """What the adapters have, attributes among it; another process may remove any of them."""
        for adapter in self._core.glob("user_*"):
            with suppress(OSError):
                yield from adapter.iterdir()

    def claim(self) -> None:
        """Make our host bus adapter, for which rights are needed; raises KernelError."""
        _make(self._core / _HBA)

    def release(self) -> None:
        """Remove our host bus adapter, and what holds tcm_loop, unless something is in there."""
        for folder in (self._core / _HBA, self._loopback):
            with suppress(OSError):
                folder.rmdir()

    def create_device(self, settings: DeviceSettings) -> FoundDevice:
        """Make and enable a TCMU device; raises KernelError, and nothing is left of a new one."""
        device = FoundDevice(
            self._core / _HBA / settings.config.name.device, settings.config, is_enabled=True
        )
        # What is there may be what a killed daemon began, or another one is making now.
        is_new = not device.folder.exists()
        _make(device.folder)
        try:
            self._set_up(device.folder, settings)
        except KernelError:
            if is_new:
                with suppress(KernelError):
                    self.remove_device(device)
            raise
        return device

    @staticmethod
    def _set_up(folder: Path, settings: DeviceSettings) -> None:
        control = {
            "dev_config": settings.config,
            "dev_size": settings.size_bytes,
            "hw_block_size": settings.block_size_bytes,
            "hw_max_sectors": settings.max_transfer_bytes // settings.block_size_bytes,
            "max_data_area_mb": _DATA_AREA_MB,
            "nl_reply_supported": -1,
        }
        _write(folder / "control", ",".join(f"{key}={value}" for key, value in control.items()))
        _write(folder / "wwn" / "vpd_unit_serial", settings.serial)
        _write(folder / "enable", "1")
        for name, value in _ATTRIBUTES.items():
            if (folder / "attrib" / name).exists():
                _write(folder / "attrib" / name, value)
        _write(folder / "attrib" / "cmd_time_out", str(settings.cmd_time_out_s))

    def remove_device(self, device: FoundDevice) -> None:
        """Remove a TCMU device that no LUN leads to; raises KernelError."""
        _remove(device.folder)
        with suppress(OSError):
            # Others may have devices there.
            device.folder.parent.rmdir()

    def reset_ring(self, device: FoundDevice) -> None:
        """End commands that nobody will answer with BUSY, so that they are sent again."""
        _write(device.folder / "action" / "reset_ring", "1")

    def cmd_time_out_s(self, device: FoundDevice) -> int:
        """How long the kernel waits for a command; raises KernelError."""
        return int(_read(device.folder / "attrib" / "cmd_time_out"))

    def size_bytes(self, device: FoundDevice) -> int:
        """The size that the kernel believes; raises KernelError."""
        return int(_read(device.folder / "attrib" / "dev_size"))

    def resize(self, device: FoundDevice, size_bytes: int) -> None:
        """Tell the kernel another size; raises KernelError, also if nobody listens on netlink."""
        _write(device.folder / "attrib" / "dev_size", str(size_bytes))

    def create_port(self, target: str, session: str) -> None:
        """Make the port of a target, and log the kernel in, unless it is so; raises KernelError."""
        folder = self._port(target)
        _make(folder)
        with suppress(OSError):
            # ENODEV without a nexus. One of another name will do: nobody else looks at it.
            if (folder / "nexus").read_text().strip():
                return
        _write(folder / "nexus", initiator_name(target, session))

    def remove_port(self, target: str) -> None:
        """Remove the port of a target unless it has LUNs; raises KernelError."""
        folder = self._port(target)
        if folder.exists() and not self.luns(target):
            _remove(folder)
            _remove(folder.parent)

    def luns(self, target: str) -> list[int]:
        """The LUNs that a target's port has."""
        folders = (self._port(target) / "lun").glob("lun_*")
        return sorted(int(folder.name.removeprefix("lun_")) for folder in folders)

    def is_mapped(self, name: LunName, device: FoundDevice) -> bool:
        """Tell whether a LUN leads to a device."""
        with suppress(OSError):
            return any(link.readlink().name == device.folder.name for link in self._links(name))
        return False

    def map_lun(self, name: LunName, device: FoundDevice) -> None:
        """Let a LUN lead to a device, which the kernel then scans; raises KernelError."""
        folder = self._lun(name)
        _make(folder)
        try:
            (folder / _SYMLINK).symlink_to(device.folder)
        except OSError as error:
            raise _failed(folder, error) from error

    def unmap_lun(self, name: LunName) -> None:
        """Remove a LUN, if it is there, after the kernel has flushed it; raises KernelError."""
        folder = self._lun(name)
        if not folder.exists():
            return
        try:
            for link in self._links(name):
                link.unlink()
        except OSError as error:
            raise _failed(folder, error) from error
        _remove(folder)

    def address(self, name: LunName) -> str:
        """The SCSI address of a LUN, HOST:CHANNEL:ID:LUN; raises KernelError."""
        return f"{_read(self._port(name.target) / 'address')}:{name.lun}"

    def _port(self, target: str) -> Path:
        return self._loopback / port_name(target) / "tpgt_1"

    def _lun(self, name: LunName) -> Path:
        return self._port(name.target) / "lun" / f"lun_{name.lun}"

    def _links(self, name: LunName) -> Iterator[Path]:
        return (path for path in list(self._lun(name).iterdir()) if path.is_symlink())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failed(folder, error) from error


def _remove(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _failed(folder, error) from error


def _write(path: Path, text: str) -> None:
    try:
        # The kernel makes the files.
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _failed(path, error) from error


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> KernelError:
    advice = {errno.EPERM: ": root is needed", errno.EACCES: ": root is needed"}
    reason = os.strerror(error.errno or 0)
    return KernelError(f"{path}: {reason}{advice.get(error.errno or 0, '')}")
