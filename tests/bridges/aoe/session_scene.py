# SPDX-License-Identifier: GPL-2.0-or-later
"""The sessions of a target with one LUN, and what they tell."""

from __future__ import annotations

from bridges.aoe.address import Address
from bridges.aoe.disk import Disk, Disks
from bridges.aoe.gate import Gate
from bridges.aoe.policy import Policy
from bridges.aoe.sessions import Sessions, Terms
from bridges.recovery import ScsiError
from bridges.sparing_log import SparingLog
from scsi_backend.servers.disk import disk
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.aoe.bench import Lun, ManualClock
from tests.scsi_backend.fakes import FaultyVdisk


class Waiting:
    """A command that notes what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.error: ScsiError | None = None

    def start(self) -> None:
        """See ``Waiting.start`` of the sessions."""
        self.events.append("start")

    def reject(self, error: ScsiError) -> None:
        """See ``Waiting.reject`` of the sessions."""
        self.events.append("reject")
        self.error = error


def _log() -> SparingLog:
    return SparingLog(lambda: 0.0, lambda text: None)


def make_terms(idle_timeout_s: int = 600) -> Terms:
    """Terms by which the disk is reserved for others than host 9."""
    return Terms(
        Policy(idle_timeout_s=idle_timeout_s),
        Gate(4),
        _log(),
        lambda mac: mac == mac_of(9),
    )


def make_disks(announced: list[int]) -> Disks:
    """Disks whose announcements are noted: how many blocks there are."""

    def announce(disk: Disk) -> None:
        announced.append(disk.unit.block_count)

    return Disks(Address(1, 1), announce, lambda: None)


class Scene:
    """A target with one LUN, and its sessions."""

    def __init__(self, limit: int = 3, idle_timeout_s: int = 600) -> None:
        self.vdisk = FaultyVdisk()
        self.lun = Lun(self.vdisk)
        self.target = Target("aoe", "e1.1", 1)
        self.target.add_lun(0, LunEntry(self.lun.unit))
        self.target.is_enabled = True
        self.announced: list[int] = []
        self.gone = 0
        self.clients: list[bytes] = []
        self.clock = ManualClock()
        self.sessions = Sessions(
            self.target,
            self.clock,
            make_terms(idle_timeout_s),
            make_disks(self.announced),
            self.clients.append,
            self._count_gone,
            limit,
        )

    def _count_gone(self, mac: bytes | None) -> None:
        self.gone += 1

    @property
    def names(self) -> list[str]:
        """Who has a session."""
        return [session.initiator_name for session in self.target.sessions]


def mac_of(number: int) -> bytes:
    """The MAC address of a host."""
    return b"\x02\0\0\0\0" + bytes((number,))


def make_entry() -> LunEntry:
    """A LUN with a device of its own."""
    return LunEntry(disk(FaultyVdisk()))
