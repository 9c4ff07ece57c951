# SPDX-License-Identifier: GPL-2.0-or-later
"""The initiators of one AoE target: a SCSI session and a LUN client for each source MAC.

AoE has no login and no logout, so a session is opened by an initiator's first Issue ATA and lives
until the initiator has been silent for a while. MAC addresses are easily forged: the table is
bounded, and who was silent for longest goes first. When an initiator is shown another device it
gets a LUN client anew: what it has under way ends at the device that it was meant for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from bridges.aoe.disk import Disk, Disks
from bridges.aoe.fence import Commands, Outstanding
from bridges.aoe.gate import Gate
from bridges.aoe.policy import Policy
from bridges.aoe.views import AoeTargetError, shown_lun
from bridges.lun_client import Clock, LunClient
from bridges.recovery import ScsiError
from bridges.sparing_log import SparingLog
from scsi_backend.target.nexus import ItlNexus
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target

MAX_SESSIONS: Final = 1024


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Do without it."""


class TimerClock(Clock, Protocol):
    """What is needed of an event loop whose timers can be cancelled."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call back after ``delay`` seconds."""


class Waiting(Protocol):
    """A command that waits for its session."""

    def start(self) -> None:
        """Begin to execute."""

    def reject(self, error: ScsiError) -> None:
        """End: this is how one of the session's first commands ended."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all initiators of a target have in common."""

    policy: Policy
    # What procedures.py does goes through here.
    gate: Gate
    # Of commands that failed for good. One for all: source addresses are easily made up.
    failures: SparingLog
    # Whether the disk is reserved for others than this source.
    fences: Callable[[bytes], bool]


class Initiator:
    """One initiator. ``client`` is None while its session opens; commands that are ``outstanding``
    keep it from being forgotten. Each command sets ``is_heard``, but the one that opens the
    session does not: who sends no other is the first to go. ``is_known`` is set by the first look.
    """

    __slots__ = (
        "_failure",
        "_waiting",
        "client",
        "disk",
        "is_heard",
        "is_known",
        "mac",
        "name",
        "nexus",
        "outstanding",
        "session",
        "terms",
    )

    def __init__(
        self, mac: bytes, session: Session, nexus: ItlNexus, disk: Disk, terms: Terms
    ) -> None:
        self.mac = mac
        self.name = session.initiator_name
        self.session = session
        self.nexus = nexus
        self.disk = disk
        self.terms = terms
        self.client: LunClient | None = None
        self.outstanding = Outstanding()
        self.is_heard = False
        self.is_known = False
        self._failure: ScsiError | None = None
        self._waiting: list[Waiting] = []

    @property
    def is_fenced(self) -> bool:
        """Whether the disk is reserved for others."""
        return self.terms.fences(self.mac)

    def wait(self, command: Waiting) -> None:
        """Start a command once the session is open, or reject it once that has failed."""
        if self._failure is not None:
            command.reject(self._failure)
        else:
            self._waiting.append(command)

    def opened(self, client: LunClient) -> None:
        """Start what has waited."""
        self.client = client
        for command in self._take_waiting():
            command.start()

    def failed(self, error: ScsiError) -> None:
        """Reject what has waited."""
        self._failure = error
        for command in self._take_waiting():
            command.reject(error)

    def _take_waiting(self) -> list[Waiting]:
        waiting, self._waiting = self._waiting, []
        return waiting


class Sessions:
    """Owns the initiators.

    Whoever is to go has a second chance: one that was heard since it was last looked at stays until
    it is looked at again. So the way of a command has a flag to set and no time to tell.
    """

    def __init__(
        self,
        target: Target,
        clock: TimerClock,
        terms: Terms,
        disks: Disks,
        on_client: Callable[[bytes], None],
        on_gone: Callable[[bytes | None], None],
        limit: int = MAX_SESSIONS,
    ) -> None:
        """A session ends once to twice the policy's idle timeout after its last command."""
        self._target = target
        self._clock = clock
        self._terms = terms
        self._disks = disks
        # Told who has a session, when it begins and when it has ended.
        self._on_client = on_client
        # Told whose session has ended or leads elsewhere, None for everybody's.
        self._on_gone = on_gone
        self._limit = limit
        self._timer: Timer | None = None
        self._by_mac: OrderedDict[bytes, Initiator] = OrderedDict()
        # Of those whose session has ended, or leads elsewhere.
        self._left_behind: list[tuple[bytes, Outstanding]] = []

    def __len__(self) -> int:
        return len(self._by_mac)

    def of(self, mac: bytes) -> Initiator:
        """Return the initiator with this source MAC, opening its session if it has none.

        Raises TargetError where the target admits no session.
        """
        found = self._by_mac.get(mac)
        if found is None:
            return self._open(mac)
        found.is_heard = True
        return found

    def opened(self, mac: bytes) -> Initiator | None:
        """Return the initiator with this source MAC if its session is open."""
        found = self._by_mac.get(mac)
        return None if found is None or found.client is None else found

    def close(self) -> None:
        """End all sessions; what is outstanding still completes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._by_mac:
            mac, initiator = self._by_mac.popitem()
            self._leave_behind(mac, initiator)
            self._on_client(mac)
            initiator.session.close()
        self._on_gone(None)

    def follow(self) -> None:
        """Take over what has become of the sessions' LUNs."""
        for mac, initiator in list(self._by_mac.items()):
            try:
                nexus = shown_lun(initiator.session.nexuses)
            except AoeTargetError:
                nexus = None
            if nexus is None:
                self._drop(mac, initiator)
            elif nexus is not initiator.nexus:
                self._leave_behind(mac, initiator)
                self._on_gone(mac)
                self._begin(mac, initiator.session, nexus)

    def _open(self, mac: bytes) -> Initiator:
        if len(self._by_mac) >= self._limit:
            self._forget_oldest()
        session = self._target.open_session(mac.hex(":"))
        try:
            nexus = shown_lun(session.nexuses)
        except AoeTargetError:
            session.close()
            raise
        assert nexus is not None, "without LUNs there is no session"
        initiator = self._begin(mac, session, nexus)
        self._on_client(mac)
        self._watch()
        return initiator

    def _begin(self, mac: bytes, session: Session, nexus: ItlNexus) -> Initiator:
        # What is under way stays with its disk; what comes later gets another client.
        client = LunClient(session, nexus.lun, self._clock, follows=False)
        disk = self._disks.of(nexus.unit)
        initiator = self._by_mac[mac] = Initiator(mac, session, nexus, disk, self._terms)

        def take_info() -> None:
            disk.take_block_count(client.info.block_count)

        def finish(error: ScsiError | None) -> None:
            if error is None:
                client.on_change = take_info
                take_info()
                initiator.opened(client)
            else:
                self._drop(mac, initiator)
                initiator.failed(error)

        client.open(finish)
        return initiator

    def _drop(self, mac: bytes, initiator: Initiator) -> None:
        # The next command of this initiator tries again. The table may have been closed meanwhile.
        if self._by_mac.get(mac) is initiator:
            del self._by_mac[mac]
            self._leave_behind(mac, initiator)
            self._on_client(mac)
            initiator.session.close()
            self._on_gone(mac)

    def _leave_behind(self, mac: bytes, initiator: Initiator) -> None:
        """Remember what is under way of an initiator that leaves the table."""
        self._left_behind = [each for each in self._left_behind if each[1].is_any]
        if initiator.outstanding.is_any:
            self._left_behind.append((mac, initiator.outstanding))

    def _forget_oldest(self) -> None:
        # Once around, each that was heard has lost its flag; twice, and all are busy.
        for _ in range(2 * len(self._by_mac)):
            mac, initiator = next(iter(self._by_mac.items()))
            if not _may_go(initiator):
                self._by_mac.move_to_end(mac)
            else:
                self._drop(mac, initiator)
                return

    def _watch(self) -> None:
        timeout_s = self._terms.policy.idle_timeout_s
        if timeout_s and self._timer is None and self._by_mac:
            self._timer = self._clock.call_later(timeout_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        for mac, initiator in list(self._by_mac.items()):
            was_known, initiator.is_known = initiator.is_known, True
            # One that came since the last look may not have been silent for that long.
            if _may_go(initiator) and was_known:
                self._drop(mac, initiator)
        self._watch()

    def macs(self, is_meant: Callable[[bytes], bool]) -> frozenset[bytes]:
        """Those of the initiators that are meant."""
        return frozenset(filter(is_meant, self._by_mac))

    def look_again(self, macs: Iterable[bytes]) -> None:
        """Have initiators look at their LUNs, of which they may not have been told everything."""
        for mac in macs:
            client = self._by_mac[mac].client
            if client is not None:
                client.refresh(_nothing)

    def so_far(self, is_meant: Callable[[bytes], bool]) -> list[Commands]:
        """Return what initiators that are meant have under way; see ``Outstanding.so_far``."""
        return [
            commands
            for mac, outstanding in self._all_outstanding()
            if is_meant(mac)
            for commands in outstanding.so_far()
        ]

    def under_way(self) -> list[Commands]:
        """Return all that is under way."""
        return [each for _, outstanding in self._all_outstanding() for each in outstanding.all()]

    def _all_outstanding(self) -> Iterator[tuple[bytes, Outstanding]]:
        yield from self._left_behind
        for mac, initiator in self._by_mac.items():
            yield mac, initiator.outstanding


def _nothing() -> None:
    """Nobody waits for it."""


def _may_go(initiator: Initiator) -> bool:
    """Whether an initiator has had its second chance; take that from it."""
    if initiator.outstanding.is_any or initiator.client is None:
        return False
    was_heard, initiator.is_heard = initiator.is_heard, False
    return not was_heard
