# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel for the door's tests: TCMU devices and LUNs without configfs, with real rings.

Each device has memory that both sides map and a pair of sockets for its events, so the code under
test waits, reads and writes as it does with uio. Mapping a LUN sends an INQUIRY and removing one a
SYNCHRONIZE CACHE, and both wait for the response, as the real ones do.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path

from bridges.local.tcmu.configfs import Configfs, DeviceSettings, FoundDevice, KernelError
from bridges.local.tcmu.naming import LunName
from bridges.local.tcmu.sysfs import Disk, OpenUio, Sysfs, UioNode
from tests.bridges.local.tcmu.kernel_side import RING_AT, KernelSide, Response

RING_BYTES = 4096
MAPPING_BYTES = 1 << 20
TIMEOUT_S = 20.0
INQUIRY = bytes.fromhex("120000002400")
SYNCHRONIZE_CACHE = bytes.fromhex("35000000000000000000")
_FOLDER = Path("/nowhere/core/user_7077")


@dataclass
class Device:
    """One TCMU device, and the kernel as its initiator."""

    settings: DeviceSettings
    is_enabled: bool = True
    size_bytes: int = 0
    kernel: KernelSide = field(init=False)
    events: socket.socket | None = None
    next_id: int = 1

    def __post_init__(self) -> None:
        self.size_bytes = self.settings.size_bytes
        self.memory_fd = os.memfd_create("ring")
        os.ftruncate(self.memory_fd, MAPPING_BYTES)
        self.memory = mmap.mmap(self.memory_fd, MAPPING_BYTES)
        self.kernel = KernelSide(memoryview(self.memory), RING_BYTES)
        self.turn = threading.Lock()

    @property
    def found(self) -> FoundDevice:
        """The device as configfs shows it."""
        config = self.settings.config
        return FoundDevice(_FOLDER / config.name.device, config, self.is_enabled)

    @property
    def is_open(self) -> bool:
        """Whether a process has the uio device open."""
        if self.events is None:
            return False
        state = select.poll()
        state.register(self.events, 0)
        return not state.poll(0)

    def open(self) -> OpenUio:
        """What open(2) and mmap(2) give."""
        if self.is_open:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if self.events is not None:
            self.events.close()
        self.events, theirs = socket.socketpair()
        self.events.setblocking(False)
        theirs.setblocking(False)
        return OpenUio(theirs.detach(), mmap.mmap(self.memory_fd, MAPPING_BYTES))

    def queue(self, cdb: bytes, length: int = 0) -> int:
        """Put a command into the ring, as one that nobody waits for; return its id."""
        command_id = self.next_id
        self.next_id += 1
        self.kernel.command(command_id, cdb, [(0, length)] if length else ())
        self.tell()
        return command_id

    def tell(self) -> None:
        """Raise the event."""
        if self.is_open:
            assert self.events is not None
            self.events.send(bytes(4))

    def execute(self, cdb: bytes, length: int = 0) -> tuple[Response, bytes]:
        """Send a command and wait for its response and data."""
        with self.turn:
            command_id = self.queue(cdb, length)
            while True:
                for response in self.kernel.responses():
                    assert response.command_id == command_id
                    return response, bytes(self.kernel.data(0, length))
                self.wait()

    def wait(self) -> None:
        """Wait until the handler tells of responses."""
        assert self.events is not None
        readable, _, _ = select.select([self.events], [], [], TIMEOUT_S)
        assert readable
        assert self.events.recv(4) == bytes(4)

    def reset_ring(self) -> None:
        """Forget what is in the ring."""
        self.kernel.reset()

    def close(self) -> None:
        """Leave nothing open."""
        if self.events is not None:
            self.events.close()
        self.kernel.memory.release()
        self.memory.close()
        os.close(self.memory_fd)


class KernelDouble:
    """Owns the devices, the LUNs that lead to them, and a log of what was asked."""

    def __init__(self) -> None:
        self.devices: dict[LunName, Device] = {}
        self.mapped: dict[LunName, Device] = {}
        self.ports: dict[str, str] = {}
        self.in_use: set[str] = set()
        self.is_probing = False
        self.log: list[str] = []
        self.failing: dict[str, str] = {}
        self.configfs = _Configfs(self)
        self.sysfs = _Sysfs(self)

    def did(self, what: str, name: object) -> None:
        """Note a step, which fails if the test says so."""
        self.log.append(f"{what} {name}")
        if what in self.failing:
            raise KernelError(self.failing[what])

    def device(self, found: FoundDevice) -> Device:
        """The device at a folder."""
        return self.devices[found.config.name]

    def close(self) -> None:
        """Leave nothing open."""
        for device in self.devices.values():
            device.close()


class _Configfs(Configfs):
    def __init__(self, kernel: KernelDouble) -> None:
        super().__init__(Path("/nowhere"))
        self._kernel = kernel

    def found(self) -> list[FoundDevice]:
        return [device.found for device in self._kernel.devices.values()]

    def claim(self) -> None:
        if "claim" in self._kernel.failing:
            raise KernelError(self._kernel.failing["claim"])

    def release(self) -> None:
        pass

    def create_device(self, settings: DeviceSettings) -> FoundDevice:
        name = settings.config.name
        self._kernel.did("create", name)
        assert name not in self._kernel.devices
        device = self._kernel.devices[name] = Device(settings)
        return device.found

    def remove_device(self, device: FoundDevice) -> None:
        name = device.config.name
        self._kernel.did("remove", name)
        assert name not in self._kernel.mapped
        self._kernel.devices.pop(name).close()

    def reset_ring(self, device: FoundDevice) -> None:
        self._kernel.did("reset", device.config.name)
        self._kernel.device(device).reset_ring()

    def cmd_time_out_s(self, device: FoundDevice) -> int:
        return self._kernel.device(device).settings.cmd_time_out_s

    def size_bytes(self, device: FoundDevice) -> int:
        return self._kernel.device(device).size_bytes

    def resize(self, device: FoundDevice, size_bytes: int) -> None:
        self._kernel.did("resize", size_bytes)
        self._kernel.device(device).size_bytes = size_bytes

    def create_port(self, target: str, session: str) -> None:
        self._kernel.ports[target] = session

    def remove_port(self, target: str) -> None:
        if target in self._kernel.ports and not self.luns(target):
            self._kernel.did("remove port", target)
            del self._kernel.ports[target]

    def luns(self, target: str) -> list[int]:
        return sorted(name.lun for name in self._kernel.mapped if name.target == target)

    def is_mapped(self, name: LunName, device: FoundDevice) -> bool:
        return name in self._kernel.mapped

    def map_lun(self, name: LunName, device: FoundDevice) -> None:
        self._kernel.did("map", name)
        assert name.target in self._kernel.ports
        response, _ = self._kernel.device(device).execute(INQUIRY, 36)
        assert response.status == 0
        self._kernel.mapped[name] = self._kernel.device(device)

    def unmap_lun(self, name: LunName) -> None:
        if name in self._kernel.mapped:
            self._kernel.did("unmap", name)
            response, _ = self._kernel.mapped.pop(name).execute(SYNCHRONIZE_CACHE)
            self._kernel.log.append(f"flush: status {response.status}")

    def address(self, name: LunName) -> str:
        return f"{sorted(self._kernel.ports).index(name.target)}:0:1:{name.lun}"


class _Sysfs(Sysfs):
    def __init__(self, kernel: KernelDouble) -> None:
        super().__init__(Path("/nowhere"), Path("/nowhere"))
        self._kernel = kernel

    def find_uio(self, name: str) -> UioNode | None:
        for device in self._kernel.devices.values():
            if device.is_enabled and device.found.uio_name == name:
                return UioNode(Path(device.found.folder.name), MAPPING_BYTES)
        return None

    def open_uio(self, node: UioNode) -> OpenUio:
        for device in self._kernel.devices.values():
            if device.found.folder.name == node.path.name:
                return device.open()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(node.path))

    def disk(self, address: str) -> Disk:
        if self._kernel.is_probing:
            return Disk()
        host, _, _, lun = address.split(":")
        return Disk(f"sd{host}{lun}", f"sg{host}{lun}")

    def is_in_use(self, disk: Disk) -> bool:
        return disk.block in self._kernel.in_use

    def rescan(self, address: str) -> None:
        self._kernel.did("rescan", address)

    def set_queue_depth(self, address: str, depth: int) -> None:
        self._kernel.did("depth", depth)


__all__ = ["MAPPING_BYTES", "RING_AT", "Device", "KernelDouble"]
