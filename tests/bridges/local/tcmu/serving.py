# SPDX-License-Identifier: GPL-2.0-or-later
"""A backend with kernel targets, and servers for them on a double of the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bridges.local.tcmu.naming import LunName
from bridges.local.tcmu.port import KernelExport
from bridges.local.tcmu.server import KernelServer
from bridges.local.tcmu.sysfs import Sysfs
from bridges.spin import Spinner
from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.io.engine import SyncEngine
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.local.tcmu.kernel_double import KernelDouble
from tests.scsi_backend import cdbs

# With a unit attention pending, it ends with CHECK CONDITION; else it reads zeros.
READ = cdbs.block(cdbs.READ, 10, 0, 1)
# How soon a server of a test looks again at disks in use.
LOOK_AGAIN_S = 0.01
T0 = LunName("t0", 0)
T1 = LunName("t0", 1)


@dataclass
class House:
    """The backend has devices a and b, LUNs 0 and 1 of target t0."""

    kernel: KernelDouble
    backend: Backend
    # That of the last server.
    target: Target = field(init=False)

    def entry(self, device: str, *, is_read_only: bool = False) -> LunEntry:
        """A LUN that leads to a device."""
        return LunEntry(self.backend.devices[device], is_read_only=is_read_only)

    def export(
        self, *luns: int, session_name: str = "session", cmd_time_out_s: int = 30
    ) -> KernelExport:
        """A target with some of the LUNs, all unless given."""
        name = f"t0 {luns} {len(self.backend.targets)}"
        target = self.target = self.backend.add_target("scst_local", name)
        target.name = "t0"
        target.configure(
            luns={lun: self.entry("ab"[lun]) for lun in luns or (0, 1)}, is_enabled=True
        )
        return KernelExport(target, session_name, cmd_time_out_s)

    def server(
        self,
        *luns: int,
        cmd_time_out_s: int = 30,
        timeout_s: float = 20,
        check: Callable[[Sysfs], None] = lambda sysfs: None,
    ) -> KernelServer:
        """A server for some of the LUNs, all unless given; it is not started."""
        export = self.export(*luns, cmd_time_out_s=cmd_time_out_s)
        return self.server_of(export, timeout_s=timeout_s, check=check)

    def server_of(
        self,
        *exports: KernelExport,
        timeout_s: float = 20,
        check: Callable[[Sysfs], None] = lambda sysfs: None,
    ) -> KernelServer:
        """A server for targets; it is not started."""
        return KernelServer(
            asyncio.get_running_loop(),
            exports,
            Spinner(),
            configfs=self.kernel.configfs,
            sysfs=self.kernel.sysfs,
            check=check,
            timeout_s=timeout_s,
            look_again_s=LOOK_AGAIN_S,
        )

    async def started(self, *luns: int, cmd_time_out_s: int = 30) -> KernelServer:
        """A server whose disks are there."""
        server = self.server(*luns, cmd_time_out_s=cmd_time_out_s)
        server.start()
        await server.settled()
        return server

    async def outcome(self, name: LunName) -> tuple[int, str]:
        """Status and sense of a read that the kernel sends, after what is told only once."""
        kernel = self.kernel.devices[name]
        while True:
            response, _ = await asyncio.to_thread(kernel.execute, READ, 512)
            key, code = response.sense[2:3].hex(), response.sense[12:14].hex("/")
            if key != "06":
                return response.status, f"{key}/{code}".strip("/")

    def kill(self, server: KernelServer) -> None:
        """What the end of the process does to a server."""
        for disk in server.disks:
            disk.abandon()


@contextmanager
def house() -> Iterator[House]:
    """A house, and nothing left open after."""
    backend = Backend(SyncEngine())
    for name in "ab":
        backend.add_device("vdisk_nullio", name, NullioAttributes(size_mb=1))
    kernel = KernelDouble()
    try:
        yield House(kernel, backend)
    finally:
        kernel.close()
        backend.close()


def run(visit: Callable[[House], Coroutine[None, None, None]]) -> list[str]:
    """Do something in a house; return what was asked of the kernel."""
    with house() as made:
        asyncio.run(visit(made))
        return made.kernel.log
