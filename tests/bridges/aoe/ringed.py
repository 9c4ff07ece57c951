# SPDX-License-Identifier: GPL-2.0-or-later
"""A target behind a port with a ring, without an interface: the ring is filled as the kernel would.

Replies leave by sendmmsg(2) as they do in earnest, to a UDP socket on the loopback device, where
each arrives as a datagram.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from bridges.aoe.address import AddressMap
from bridges.aoe.burst import Burst
from bridges.aoe.link import Link
from bridges.aoe.outbox import Outbox
from bridges.aoe.packet_socket import PacketSocket
from bridges.aoe.port import PacketPort
from bridges.aoe.ring import RX_FRAME_OFFSET, RxRing, slot_bytes
from bridges.aoe.ring_port import RingPort
from bridges.spin import Spinner
from scsi_backend.t10.opcodes import Opcode
from tests.bridges.aoe.bench import TARGET_MAC, Bench, ata_reply
from tests.scsi_backend.fakes import FaultyVdisk, pattern

READ, WRITE = int(Opcode.READ_16), int(Opcode.WRITE_16)

# Large enough for a batch of the longest frames here.
_BUFFER_BYTES = 8 << 20
_SO_RCVBUFFORCE = 33
# struct tpacket2_hdr: status, length, captured length, tp_mac, tp_net.
_HEADER = struct.Struct("<IIIHH")


class MemoryRing:
    """A ring in this process's own memory; ``lost`` counts frames that found no slot."""

    def __init__(self, frame_bytes: int, slots: int) -> None:
        self.size_bytes = slot_bytes(RX_FRAME_OFFSET + frame_bytes)
        self.memory = memoryview(bytearray(self.size_bytes * slots))
        self.slots = slots
        self.lost = 0
        self._next = 0

    def deliver(self, frame: bytes, offset: int = RX_FRAME_OFFSET) -> None:
        """Do what the kernel does with a frame that has come."""
        start = self._next * self.size_bytes
        if self.status(self._next):
            self.lost += 1
            return
        captured = frame[: self.size_bytes - offset]
        at = start + offset
        self.memory[at : at + len(captured)] = captured
        _HEADER.pack_into(self.memory, start, 1, len(frame), len(captured), offset, offset + 14)
        self._next = (self._next + 1) % self.slots

    def status(self, slot: int) -> int:
        """The status word of a slot."""
        (status,) = struct.unpack_from("<I", self.memory, slot * self.size_bytes)
        return int(status)

    @property
    def taken(self) -> int:
        """How many slots the kernel cannot fill."""
        return sum(self.status(slot) != 0 for slot in range(self.slots))


class MemoryPackets:
    """Stands in for a ``PacketSocket``: the ring above, and a UDP socket that sends."""

    def __init__(self, ring: MemoryRing) -> None:
        self.rx = RxRing(ring.memory, ring.size_bytes)
        self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self.receiver.bind(("127.0.0.1", 0))
        self.receiver.setblocking(False)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.connect(self.receiver.getsockname())
        self.sender.setblocking(False)
        self.is_closed = False

    def bind(self, interface: str) -> None:
        """See ``PacketSocket.bind``."""

    def fileno(self) -> int:
        """See ``PacketSocket.fileno``."""
        return self.receiver.fileno()

    @property
    def is_bound(self) -> bool:
        """See ``PacketSocket.is_bound``."""
        return True

    def woke(self) -> bool:
        """See ``PacketSocket.woke``."""
        return False

    def unhook(self) -> None:
        """See ``PacketSocket.unhook``."""

    def close(self) -> None:
        """See ``PacketSocket.close``."""
        self.is_closed = True
        self.sender.close()

    def replace_sender(self, sender: socket.socket, receiver: socket.socket) -> None:
        """Send by another pair of sockets from now on."""
        os.dup2(sender.fileno(), self.sender.fileno())
        os.dup2(receiver.fileno(), self.receiver.fileno())
        for sock in (sender, receiver):
            sock.close()
        self.sender.setblocking(False)
        self.receiver.setblocking(False)

    def received(self) -> list[bytes]:
        """What was sent since the last call."""
        frames = []
        while True:
            try:
                frames.append(self.receiver.recv(65536))
            except BlockingIOError:
                return frames


class ManualLoop:
    """What a port needs of an event loop; ``run`` makes the calls that are due."""

    def __init__(self) -> None:
        self.readable: dict[int, Callable[[], None]] = {}
        self._soon: deque[Callable[[], None]] = deque()
        self.later: list[Callable[[], None]] = []

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """See ``AbstractEventLoop.add_reader``."""
        self.readable[fd] = callback

    def remove_reader(self, fd: int) -> None:
        """See ``AbstractEventLoop.remove_reader``."""
        self.readable.pop(fd, None)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """See ``AbstractEventLoop.call_soon``."""
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        """See ``AbstractEventLoop.call_later``; ``cancel`` of what is returned does nothing."""
        self.later.append(callback)
        return asyncio.TimerHandle(0, callback, (), cast(Any, self))

    def create_future(self) -> asyncio.Future[None]:
        """See ``AbstractEventLoop.create_future``: one of the loop that runs the test."""
        return asyncio.get_running_loop().create_future()

    def time(self) -> float:
        """See ``AbstractEventLoop.time``."""
        return 1000.0

    def get_debug(self) -> bool:
        """See ``AbstractEventLoop.get_debug``."""
        return False

    def run(self) -> None:
        """Make calls until none is due."""
        while self._soon:
            self._soon.popleft()()


class RingBench(Bench):
    """A bench whose frames go through a ring."""

    def __init__(
        self, vdisk: FaultyVdisk | None = None, *, mtu: int = 1500, slots: int = 128
    ) -> None:
        super().__init__(vdisk)
        link = Link(bytes.fromhex(TARGET_MAC), mtu, True)
        self.ring = MemoryRing(link.frame_bytes, slots)
        self.packets = MemoryPackets(self.ring)
        self.loop = ManualLoop()

        # Tags of frames that an error of the program is met at.
        self.fatal_tags: set[bytes] = set()

        def route(frame: memoryview, port: PacketPort) -> bool:
            if bytes(frame[20:24]) in self.fatal_tags:
                raise RuntimeError("an error of the program")
            return self.target.receive(frame, port)

        self.ring_port = RingPort(
            cast(asyncio.AbstractEventLoop, self.loop),
            "t0",
            link,
            cast(PacketSocket, self.packets),
            route,
            AddressMap({(1, 1): self.target}),
            Spinner(),
        )
        self.ring_port.open()
        self.target.attach(self.ring_port)
        self.ring_port.start()
        self.loop.run()
        self.announcements = self.packets.received()

    def exchange(self, *frames: bytes) -> list[bytes]:
        """Let frames come all at once; return what was sent."""
        for frame in frames:
            self.ring.deliver(frame)
        self.wake()
        return self.packets.received()

    def wake(self) -> None:
        """Tell the port that frames have come, and let it do what it wants to."""
        self.loop.readable[self.packets.fileno()]()
        self.loop.run()

    def later(self) -> list[bytes]:
        """Let calls be made that something else has brought about; return what was sent."""
        self.loop.run()
        return self.packets.received()

    def close(self) -> None:
        """Close the sockets."""
        self.ring_port.abandon()
        self.packets.receiver.close()


MakeBench = Callable[[], RingBench]


class AnsweredPort:
    """A port for one burst: what it is asked to answer is in ``answered``."""

    mac = bytes.fromhex(TARGET_MAC)
    mtu = 1500
    sector_count = 2
    buffer_count = 64

    def __init__(self, rx: RxRing) -> None:
        self.rx = rx
        self.outbox = Outbox(1514)
        self.pending = 0
        self.is_gathering = False
        self.answered: list[bytes] = []

    def answer(self, burst: Burst) -> None:
        """See ``BurstPort.answer``."""
        self.answered += [bytes(frame) for frame in burst.frames()]

    def take_apart(self, burst: Burst) -> None:
        """See ``BurstPort.take_apart``."""
        raise AssertionError("the burst succeeds")

    def allocate(self, length_bytes: int) -> memoryview:
        """See ``Port.allocate``."""
        raise AssertionError("a burst allocates nothing")

    def send(self, frame: memoryview, length_bytes: int) -> None:
        """See ``Port.send``."""
        raise AssertionError("a burst sends nothing")

    def release(self, frame: memoryview) -> None:
        """See ``Port.release``."""
        raise AssertionError("a burst releases slots")

    def forget_flows(self, mac: bytes | None = None) -> None:
        """See ``Port.forget_flows``."""


def tag(number: int) -> str:
    """A tag in hex."""
    return f"{number:08x}"


def read_reply(lba: int, sectors: int, number: int) -> bytes:
    """The reply to a READ of sectors that tell their number."""
    data = b"".join(pattern(lba + index, 512) for index in range(sectors))
    registers = f"40 00 00 40 {lba.to_bytes(6, 'little').hex()} 0000"
    return ata_reply(registers, data, tag=tag(number))


def write_reply(lba: int, number: int) -> bytes:
    """The reply to a WRITE."""
    return ata_reply(f"41 00 00 40 {lba.to_bytes(6, 'little').hex()} 0000", tag=tag(number))


def blocks_of(cdb: bytes) -> tuple[int, int, int]:
    """Opcode, LBA and blocks."""
    return cdb[0], int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")
