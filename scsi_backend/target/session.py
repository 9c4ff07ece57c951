# SPDX-License-Identifier: GPL-2.0-or-later
"""A session: an I_T nexus, with one I_T_L nexus for each LUN of the target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from scsi_backend.servers.command import CheckCondition, Command, Reachable
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.sense import INQUIRY_DATA_CHANGED, REPORTED_LUNS_CHANGED, Sense
from scsi_backend.t10.transport_id import transport_id
from scsi_backend.target.absent import ABSENT_DISPATCH
from scsi_backend.target.initiator_pattern import Host
from scsi_backend.target.last_flush import LastFlush
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.nexus import ItlNexus
from scsi_backend.target.task_management import ManagementResponse, manage


class Port(Protocol):
    """The target, as its sessions see it."""

    relative_target_port: int

    def session_closed(self, session: Session) -> None:
        """Forget a session."""


class Session:
    """One initiator's way to a target. Closing it leaves every logical unit."""

    def __init__(
        self,
        target: Port,
        initiator_name: str,
        luns: Mapping[int, LunEntry],
        host: Host | None = None,
    ) -> None:
        self.target = target
        self.initiator_name = initiator_name
        self.host = host
        self.relative_target_port = target.relative_target_port
        self.id = ItNexusId(transport_id(initiator_name), target.relative_target_port)
        # Of devices to which LUNs led before, without which no flush by these LUNs succeeds.
        self._last_flushes: defaultdict[int, list[LastFlush]] = defaultdict(list)
        self._nexuses = {lun: self._nexus(lun, entry) for lun, entry in sorted(luns.items())}
        self._reachable: Sequence[Reachable] = tuple(self._nexuses.values())
        # Those that may have commands under way; they matter to nothing but the ends of these.
        self._retired: list[ItlNexus] = []

    def _nexus(self, lun: int, entry: LunEntry) -> ItlNexus:
        last_flushes = self._last_flushes[lun]
        return ItlNexus(
            self, lun, entry.unit, is_read_only=entry.is_read_only, last_flushes=last_flushes
        )

    @property
    def nexuses(self) -> Mapping[int, ItlNexus]:
        """The I_T_L nexuses by LUN."""
        return self._nexuses

    def submit(
        self, lun: int, command: Command, attribute: TaskAttribute = TaskAttribute.SIMPLE
    ) -> None:
        """Send a SCSI initiator's command to a LUN, which need not exist."""
        nexus = self._nexuses.get(lun)
        if nexus is not None:
            nexus.receive(command, attribute)
            return
        command.nexus = AbsentNexus(self)
        try:
            ABSENT_DISPATCH[command.cdb[0]](command)
        except CheckCondition as failure:
            command.check_condition(failure.sense)

    def manage(
        self,
        function: int,
        lun: int,
        is_task: Callable[[Command], bool],
        finished: Callable[[ManagementResponse], None],
    ) -> None:
        """Perform a task management function; ABORT TASK is about the command that ``is_task``."""
        retired = [nexus for nexus in self._retired if nexus.outstanding]
        manage(self._nexuses, function, lun, is_task, finished, retired)

    def reported_luns(self) -> Sequence[int]:
        """The LUNs of the session, ascending."""
        return tuple(self._nexuses)

    def reachable_units(self) -> Sequence[Reachable]:
        """The nexuses of the session, by ascending LUN; none when it has ended."""
        return self._reachable

    def clear_unit_attention(self, sense: Sense) -> None:
        """Forget a unit attention on every LUN of the session."""
        for nexus in self._nexuses.values():
            nexus.drop_unit_attention(sense)

    def reassign(self, luns: Mapping[int, LunEntry]) -> list[ItlNexus]:
        """Take over another LUN map; return the nexuses that this has ended.

        A nexus that leads where it did stays, with its reservations and unit attentions. Another
        set of LUNs is told on all of them, another device or access on its own LUN, as by SCST's
        replace; SCST tells the former in that case, too, where it moves a session between groups.
        """
        before = self._nexuses
        after: dict[int, ItlNexus] = {}
        for lun, entry in sorted(luns.items()):
            old = before.get(lun)
            is_kept = old is not None and old.leads_to(entry.unit, is_read_only=entry.is_read_only)
            after[lun] = old if old is not None and is_kept else self._nexus(lun, entry)
        self._nexuses, self._reachable = after, tuple(after.values())
        # Behind their successors: what is reserved for this initiator stays so.
        retired = [nexus for lun, nexus in before.items() if after.get(lun) is not nexus]
        for nexus in retired:
            nexus.retire()
            if nexus.lun in after:
                after[nexus.lun].establish_unit_attention(INQUIRY_DATA_CHANGED)
        self._retired = [each for each in (*self._retired, *retired) if each.outstanding]
        if after.keys() != before.keys():
            for nexus in after.values():
                nexus.establish_unit_attention(REPORTED_LUNS_CHANGED)
        return retired

    def depend_on(self, lun: int, flush: LastFlush) -> None:
        """Let no flush by a LUN succeed without this one."""
        self._last_flushes[lun].append(flush)
        self._recompose(lun)
        flush.when_over(partial(self._flushed, lun, flush))

    @property
    def last_flushes(self) -> Iterator[tuple[int, LastFlush]]:
        """Those flushes, with their LUNs."""
        for lun, flushes in self._last_flushes.items():
            yield from ((lun, flush) for flush in flushes)

    def forget_last_flushes(self) -> None:
        """Depend on none: whoever used the LUNs before knows that these are others."""
        for lun, flushes in self._last_flushes.items():
            flushes.clear()
            self._recompose(lun)

    def _flushed(self, lun: int, flush: LastFlush) -> None:
        flushes = self._last_flushes[lun]
        if flush in flushes and flush.result == 0:
            flushes.remove(flush)
            self._recompose(lun)

    def _recompose(self, lun: int) -> None:
        if lun in self._nexuses:
            self._nexuses[lun].recompose()

    def close(self) -> None:
        """End the session: its nexuses hear of nothing any more."""
        self._reachable = ()
        for nexus in self._nexuses.values():
            nexus.close()
        self.target.session_closed(self)


class AbsentNexus:
    """Stands for a LUN without logical unit while one command for it is answered."""

    is_read_only = False
    is_write_protected = False
    uses_descriptor_sense = False

    def __init__(self, session: Session) -> None:
        self._session = session
        self.id = session.id
        self.outstanding: set[Command] = set()
        self.aborted: set[Command] = set()
        self.relative_target_port = session.relative_target_port

    def take_unit_attention(self) -> Sense | None:
        """There is never one."""
        return None

    def clear_unit_attention(self, sense: Sense) -> None:
        """Forget a unit attention on the session's LUNs."""
        self._session.clear_unit_attention(sense)

    def defer_error(self, sense: Sense) -> None:
        """Nothing that can fail later runs here."""

    def faulted(self, command: Command, sense: Sense) -> None:
        """There are no others."""

    def reported_luns(self) -> Sequence[int]:
        """The LUNs of the session."""
        return self._session.reported_luns()

    def reachable_units(self) -> Sequence[Reachable]:
        """The nexuses of the session."""
        return self._session.reachable_units()
