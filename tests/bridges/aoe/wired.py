# SPDX-License-Identifier: GPL-2.0-or-later
"""A server on one end of an Ethernet, and scapy on the other.

scapy lists flag bits from the most significant one on, so its names for them are reversed
("Response" is bit 0 to it, and R shows as "r2"); only numbers are used here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from scapy.contrib.aoe import AOE, IssueATACommand, QueryConfigInformation
from scapy.layers.l2 import Ether

from bridges.aoe.address import Address
from bridges.aoe.server import AoeServer, Export
from bridges.aoe.target import AoeTarget
from bridges.spin import Spinner
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.interop.netns import Host, Network
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk

RESPONSE: Final = 0x8
_ETHERTYPE: Final = 0x88A2
_TIMEOUT_S: Final = 10.0
_BUFFER_BYTES: Final = 32 << 20
_SO_RCVBUFFORCE: Final = 33


class Client:
    """A raw socket on the client's host."""

    def __init__(self, host: Host, target_mac: bytes) -> None:
        self.mac = host.mac
        self.target_mac = target_mac
        with host.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            self._socket.bind((host.interface, _ETHERTYPE))

    def ata(
        self, opcode: int, lba: int = 0, count: int = 1, data: bytes = b"", tag: int = 1
    ) -> Any:
        """An Issue ATA frame to e1.1, with 48-bit registers."""
        registers: dict[str, Any] = {f"lba{index}": lba >> 8 * index & 0xFF for index in range(6)}
        argument = IssueATACommand(
            flags=0x41 if data else 0x40,
            sector_count=count,
            cmd_status=opcode,
            data=data,
            **registers,
        )
        return self._ether() / AOE(major=1, minor=1, cmd=0, tag=tag, i_ata_cmd=argument)

    def config(self, ccmd: int = 0, string: bytes = b"", shelf: int = 1, slot: int = 1) -> Any:
        """A Query Config frame."""
        argument = QueryConfigInformation(ccmd=ccmd, config=string)
        return self._ether() / AOE(major=shelf, minor=slot, cmd=1, tag=2, q_conf_info=argument)

    def _ether(self) -> Any:
        return Ether(src=self.mac.hex(":"), dst=self.target_mac.hex(":"), type=_ETHERTYPE)

    async def send(self, frame: Any) -> None:
        """Send a frame."""
        await asyncio.get_running_loop().sock_sendall(self._socket, bytes(frame))

    async def receive(self) -> Any:
        """Return the next frame of the target; fails the test if there is none."""
        async with asyncio.timeout(_TIMEOUT_S):
            while True:
                frame = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
                # A packet socket hears what its own host sends, too.
                if frame[6:12] != self.mac:
                    return Ether(frame)

    async def exchange(self, frame: Any) -> Any:
        """Send a frame and return the next one of the target."""
        await self.send(frame)
        return await self.receive()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def scsi_target(unit: LogicalUnit) -> Target:
    """A target with one LUN, open to initiators."""
    target = Target("aoe", "e1.1", 1)
    target.add_lun(0, LunEntry(unit))
    target.is_enabled = True
    return target


def exports(targets: Mapping[tuple[int, int], Target | AoeTarget]) -> list[Export]:
    """Targets for a server, by shelf and slot."""
    loop = asyncio.get_running_loop()
    return [
        Export(target if isinstance(target, AoeTarget) else AoeTarget(Address(*pair), target, loop))
        for pair, target in targets.items()
    ]


@asynccontextmanager
async def serving(
    network: Network,
    targets: Mapping[tuple[int, int], Target | AoeTarget],
    *,
    wants_ring: bool = True,
) -> AsyncIterator[tuple[AoeServer, Client]]:
    """Serve targets, and yield the server and a client that has not read the announcements.

    The thread stays on the server's host meanwhile, where the server looks for interfaces.
    """
    client = Client(network.client, network.target.mac)
    server = AoeServer(
        asyncio.get_running_loop(),
        [network.target.interface],
        exports(targets),
        Spinner(),
        wants_ring=wants_ring,
    )
    with network.target.entered():
        try:
            server.start()
            yield server, client
        finally:
            await server.stop()
            client.close()


def filled_disk() -> FaultyVdisk:
    """A disk whose sectors tell their number."""
    vdisk = FaultyVdisk()
    vdisk.fill()
    return vdisk


async def passes(condition: Callable[[], bool]) -> None:
    """Let the loop run until a condition holds; fails the test if it does not in time."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def tag_of(frame: Any) -> int:
    """The AoE tag of a frame."""
    return int(frame["AOE"].tag)


async def overload(vdisk: FaultyVdisk, client: Client) -> None:
    """Send more reads than the server takes on while the disk holds all of them up."""
    await client.exchange(client.ata(0x24))
    vdisk.immediate_bytes = NOT_NOW
    vdisk.is_held = True
    for number in range(1500):
        # No two in a row are neighbours, which would be one command.
        await client.send(bytes(client.ata(0x24, number * 5 % 1024, 1, tag=number)))
    await passes(lambda: len(vdisk.held) >= 1024)
    for _ in range(50):
        await asyncio.sleep(0)
    # The rest stays in the socket's buffer.
    assert len(vdisk.held) < 1024 + 128
    vdisk.is_held = False
    vdisk.release_all()
    replies = [await client.receive() for _ in range(1500)]
    assert {tag_of(reply) for reply in replies} == set(range(1500))
