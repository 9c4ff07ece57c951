# SPDX-License-Identifier: GPL-2.0-or-later
"""A target on the test bench: a disk in memory, a port that collects replies, and a clock.

Frames are written in hex, as they are on the wire, so that no expectation is made by the code
under test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from bridges.aoe.address import Address
from bridges.aoe.policy import DEFAULT_POLICY, Policy
from bridges.aoe.state import KeptState
from bridges.aoe.target import AoeTarget
from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.command import Command, Execute
from scsi_backend.servers.disk import DISK_COMMANDS
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.scsi_backend.fakes import FaultyVdisk

TARGET_MAC: Final = "020000000001"
CLIENT_MAC: Final = "020000000002"
OTHER_CLIENT_MAC: Final = "020000000003"
BROADCAST_MAC: Final = "ffffffffffff"
TAG: Final = "12345678"

# From the client to e1.1: destination, source, type, version 1, no error, shelf 1, slot 1.
REQUEST: Final = f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 0001 01"
# And back, with the response flag.
REPLY: Final = f"{CLIENT_MAC} {TARGET_MAC} 88a2 18 00 0001 01"
# The same from and to the other client, and from the client to whoever there is.
REQUEST_OF_OTHER: Final = REQUEST.replace(CLIENT_MAC, OTHER_CLIENT_MAC)
REPLY_TO_OTHER: Final = REPLY.replace(CLIENT_MAC, OTHER_CLIENT_MAC)
REQUEST_TO_ANYBODY: Final = f"{BROADCAST_MAC} {CLIENT_MAC} 88a2 10 00 ffff ff"
# What the target says when nobody asked.
ANNOUNCEMENT: Final = (
    f"{BROADCAST_MAC} {TARGET_MAC} 88a2 18 00 0001 01 01 00000000 0040 0001 02 10 0000"
)


def unhex(text: str, *data: bytes) -> bytes:
    """A frame from hex and data, without padding."""
    return bytes.fromhex(text) + b"".join(data)


def padded(text: str, *data: bytes) -> bytes:
    """A frame from hex and data, padded with zeros to Ethernet's 60 bytes."""
    return unhex(text, *data).ljust(60, b"\0")


def ata(registers: str, *data: bytes, header: str = REQUEST, tag: str = TAG) -> bytes:
    """An Issue ATA request: the 12 bytes of its argument in hex, and data."""
    return unhex(f"{header} 00 {tag} {registers}", *data)


def ata_reply(registers: str, *data: bytes, header: str = REPLY, tag: str = TAG) -> bytes:
    """The reply to it."""
    return padded(f"{header} 00 {tag} {registers}", *data)


def read_ext(lba: int, sectors: int, tag: str = TAG) -> bytes:
    """READ SECTORS EXT."""
    return ata(f"40 00 {sectors:02x} 24 {lba.to_bytes(6, 'little').hex()} 0000", tag=tag)


def write_ext(lba: int, data: bytes, tag: str = TAG) -> bytes:
    """WRITE SECTORS EXT."""
    lba_bytes = lba.to_bytes(6, "little").hex()
    return ata(f"41 00 {len(data) // 512:02x} 34 {lba_bytes} 0000", data, tag=tag)


def error_reply(code: int, header: str = REPLY) -> str:
    """A reply's first 20 bytes with the error flag and a code."""
    return header.replace("88a2 18 00", f"88a2 1c {code:02x}")


def ask(argument: str, command: int, header: str = REQUEST) -> bytes:
    """A request of another command than Issue ATA: its argument in hex."""
    return unhex(f"{header} {command:02x} {TAG} {argument}")


def answer(argument: str, command: int, header: str = REPLY) -> bytes:
    """The reply to it."""
    return padded(f"{header} {command:02x} {TAG} {argument}")


def mask(argument: str, header: str = REQUEST) -> bytes:
    """A MAC Mask List request."""
    return ask(argument, 2, header)


def reserve(argument: str, header: str = REQUEST) -> bytes:
    """A Reserve/Release request."""
    return ask(argument, 3, header)


class CollectingPort:
    """Keeps the replies; ``released`` are the frames that were given back."""

    def __init__(self, mac: str = TARGET_MAC, sector_count: int = 2) -> None:
        self.mac = bytes.fromhex(mac)
        self.mtu = 1500
        self.sector_count = sector_count
        self.buffer_count = 64
        self.sent: list[bytes] = []
        self.released: list[memoryview] = []
        self.allocated = 0
        # How often it was told to forget its flows.
        self.forgotten = 0

    def allocate(self, length_bytes: int) -> memoryview:
        """See ``Port.allocate``."""
        self.allocated += 1
        return memoryview(bytearray(max(length_bytes, 60)))

    def send(self, frame: memoryview, length_bytes: int) -> None:
        """See ``Port.send``."""
        self.allocated -= 1
        self.sent.append(bytes(frame[:length_bytes]))

    def release(self, frame: memoryview) -> None:
        """See ``Port.release``."""
        self.released.append(frame)

    def forget_flows(self, mac: bytes | None = None) -> None:
        """See ``Port.forget_flows``."""
        self.forgotten += 1

    def take(self) -> list[bytes]:
        """Return what was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


@dataclass(eq=False)
class ManualTimer:
    """A call that is still to come."""

    due_s: float
    callback: Callable[[], None]
    timers: list[ManualTimer]

    def cancel(self) -> None:
        """See ``Timer.cancel``."""
        if self in self.timers:
            self.timers.remove(self)


class ManualClock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[ManualTimer] = []

    def time(self) -> float:
        """See ``Clock.time``."""
        return self.now_s

    @property
    def pending(self) -> int:
        """How many calls are still to come."""
        return len(self._timers)

    def call_later(self, delay: float, callback: Callable[[], None], /) -> ManualTimer:
        """See ``TimerClock.call_later``."""
        timer = ManualTimer(self.now_s + delay, callback, self._timers)
        self._timers.append(timer)
        return timer

    def pass_time(self, seconds: float) -> None:
        """Call what falls due within this time."""
        end_s = self.now_s + seconds
        while due := [timer for timer in self._timers if timer.due_s <= end_s]:
            timer = min(due, key=lambda timer: timer.due_s)
            self._timers.remove(timer)
            self.now_s = timer.due_s
            timer.callback()
        self.now_s = end_s


class Lun:
    """A logical unit that notes its CDBs and gives the answers it is told to."""

    def __init__(self, vdisk: Vdisk) -> None:
        self.cdbs: list[bytes] = []
        # By opcode: how the next commands end, before the device server is asked again.
        self.answers: dict[int, list[tuple[Status, Sense | None]]] = {}
        # Opcodes whose commands wait in ``held`` for ``release``.
        self.held_opcodes: set[int] = set()
        self.held: list[tuple[Command, Execute]] = []
        self.unit = LogicalUnit(vdisk, [self._wrap(row) for row in DISK_COMMANDS])

    def opcodes(self) -> list[int]:
        """The opcodes of all commands so far."""
        return [cdb[0] for cdb in self.cdbs]

    def release(self, index: int = 0) -> None:
        """Let a held command go on."""
        command, execute = self.held.pop(index)
        execute(command)

    def _wrap(self, row: CommandRow) -> CommandRow:
        def bind(unit: LogicalUnit) -> Execute:
            execute = row.bind(unit)

            def noted(command: Command) -> None:
                self.cdbs.append(command.cdb)
                answers = self.answers.get(command.cdb[0])
                if answers:
                    command.complete(*answers.pop(0))
                elif command.cdb[0] in self.held_opcodes:
                    self.held.append((command, execute))
                else:
                    execute(command)

            return noted

        return replace(row, bind=bind)


class Bench:
    """The target e1.1 with a disk of 1024 sectors that tell their number, and its surroundings."""

    def __init__(
        self,
        vdisk: FaultyVdisk | None = None,
        policy: Policy = DEFAULT_POLICY,
        state: KeptState | None = None,
    ) -> None:
        self.vdisk = vdisk or FaultyVdisk()
        self.vdisk.fill()
        self.lun = Lun(self.vdisk)
        self.scsi_target = Target("aoe", "e1.1", 1)
        self.scsi_target.add_lun(0, LunEntry(self.lun.unit))
        self.scsi_target.is_enabled = True
        self.clock = ManualClock()
        self.target = AoeTarget(Address(1, 1), self.scsi_target, self.clock, policy, state)
        self.port = CollectingPort()
        self.target.attach(self.port)
        self.announcements = self.port.take()

    def receive(self, frame: bytes) -> bool:
        """Hand the target a frame; tell whether it keeps it."""
        return self.target.receive(memoryview(bytearray(frame)), self.port)

    def exchange(self, *frames: bytes) -> list[bytes]:
        """Hand the target frames and return what it sent."""
        for frame in frames:
            self.receive(frame)
        return self.port.take()

    def log_in(self) -> None:
        """Open the client's session, and forget the CDBs that took."""
        (reply,) = self.exchange(read_ext(0, 1))
        assert reply[27] == 0x40
        self.lun.cdbs.clear()


def by_tag(replies: Iterable[bytes]) -> dict[bytes, bytes]:
    """Replies by tag."""
    return {reply[20:24]: reply for reply in replies}
