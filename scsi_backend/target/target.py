# SPDX-License-Identifier: GPL-2.0-or-later
"""A target of a target driver: a port with LUNs, open to sessions while enabled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from scsi_backend.servers.logical_unit import LogicalUnit, TargetPort
from scsi_backend.target.initiator_group import InitiatorGroup, group_of
from scsi_backend.target.initiator_pattern import Host
from scsi_backend.target.last_flush import Unfinished, flush_last
from scsi_backend.target.lun_map import MAX_LUN, LunEntry
from scsi_backend.target.nexus import ItlNexus
from scsi_backend.target.session import Session

_log = logging.getLogger(__name__)

_NO_LUNS: Mapping[int, LunEntry] = MappingProxyType({})


class TargetError(Exception):
    """A target cannot be made or used as asked."""


class Target:
    """SCST's scst_tgt: owns its LUN map, its groups and its sessions.

    Who is in no group has the target's own LUNs. A change of any of them is in force for every
    session when the call that makes it returns; sessions whose LUNs it leaves alone notice nothing.
    """

    def __init__(self, driver: str, name: str, relative_target_port: int) -> None:
        self.driver = driver
        self.name = name
        self.relative_target_port = relative_target_port
        self._is_enabled = False
        self._is_removed = False
        self._luns: Mapping[int, LunEntry] = _NO_LUNS
        self._groups: Mapping[str, InitiatorGroup] = MappingProxyType({})
        self._sessions: list[Session] = []
        self._unfinished = Unfinished()
        self._watchers: list[Callable[[], None]] = []

    @property
    def is_enabled(self) -> bool:
        """Whether initiators can log in; while they cannot, sessions have no LUNs."""
        return self._is_enabled

    @is_enabled.setter
    def is_enabled(self, value: bool) -> None:
        self.configure(is_enabled=value)

    @property
    def is_removed(self) -> bool:
        """Whether it is gone for good, with all that its sessions had."""
        return self._is_removed

    @property
    def luns(self) -> Mapping[int, LunEntry]:
        """The LUN map of initiators that are in no group."""
        return self._luns

    @property
    def groups(self) -> Mapping[str, InitiatorGroup]:
        """The groups by name, in the order in which they are looked at."""
        return self._groups

    @property
    def units(self) -> frozenset[LogicalUnit]:
        """The devices that the target leads to, whomever."""
        maps = [self._luns, *(group.luns for group in self._groups.values())]
        return frozenset(entry.unit for luns in maps for entry in luns.values())

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The open sessions, oldest first."""
        return tuple(self._sessions)

    def luns_of(self, initiator_name: str, host: Host | None = None) -> Mapping[int, LunEntry]:
        """The LUN map of an initiator; empty for one without access."""
        if not self._is_enabled:
            return _NO_LUNS
        group = group_of(self._groups.values(), initiator_name, host)
        return self._luns if group is None else group.luns

    def add_lun(self, lun: int, entry: LunEntry) -> None:
        """Map a LUN for initiators that are in no group; raises TargetError."""
        if lun in self._luns:
            raise TargetError(f"LUN {lun} is mapped already")
        self.configure(luns={**self._luns, lun: entry})

    def configure(
        self,
        *,
        luns: Mapping[int, LunEntry] | None = None,
        groups: Iterable[InitiatorGroup] | None = None,
        is_enabled: bool | None = None,
    ) -> list[ItlNexus]:
        """Change what is given, all at once; raises TargetError and changes nothing.

        Return the nexuses that this has ended, whose outstanding commands still complete.
        """
        new_luns = self._luns if luns is None else MappingProxyType(dict(luns))
        new_groups = self._groups if groups is None else _by_name(groups)
        for each in (new_luns, *(group.luns for group in new_groups.values())):
            _check_numbers(each)
        before = self.units
        self._luns, self._groups = new_luns, new_groups
        if is_enabled is not None:
            self._is_enabled = is_enabled
        self._move_port(before)
        retired: list[ItlNexus] = []
        for session in self._sessions:
            retired += session.reassign(self.luns_of(session.initiator_name, session.host))
        flush_last(retired)
        for watcher in tuple(self._watchers):
            try:
                watcher()
            except Exception:
                # The change is in force, and the other doors must still hear of it.
                _log.exception("target %s: a door did not take over a change", self.name)
        return retired

    def remove(self) -> list[ItlNexus]:
        """Be gone, as who watches hears; return the nexuses that this has ended."""
        self._is_removed = True
        return self.configure(luns={}, groups=(), is_enabled=False)

    def _move_port(self, before: frozenset[LogicalUnit]) -> None:
        """Have the devices know which of them the target leads to."""
        port = TargetPort(self.relative_target_port, f"{self.driver}/{self.name}")
        for unit in self.units - before:
            unit.add_port(port)
        for unit in before - self.units:
            unit.remove_port(port)

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call back after every change, with the sessions changed already; return what ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def open_session(self, initiator_name: str, host: Host | None = None) -> Session:
        """Log an initiator in; raises TargetError where it has no access.

        ``host`` is where it comes from, if from a network.
        """
        if not self._is_enabled:
            raise TargetError(f"target {self.name} is not enabled")
        luns = self.luns_of(initiator_name, host)
        if not luns:
            raise TargetError(f"target {self.name} has no LUNs for initiator {initiator_name}")
        session = Session(self, initiator_name, luns, host)
        for lun, flush in self._unfinished.take(initiator_name):
            session.depend_on(lun, flush)
        self._sessions.append(session)
        return session

    def session_closed(self, session: Session) -> None:
        """See ``Port.session_closed``."""
        self._sessions.remove(session)
        self._unfinished.leave(session.initiator_name, session.last_flushes)


def _by_name(groups: Iterable[InitiatorGroup]) -> Mapping[str, InitiatorGroup]:
    found: dict[str, InitiatorGroup] = {}
    for group in groups:
        if group.name in found:
            raise TargetError(f"group {group.name} exists already")
        found[group.name] = group
    return MappingProxyType(found)


def _check_numbers(luns: Iterable[int]) -> None:
    for lun in luns:
        if not 0 <= lun <= MAX_LUN:
            raise TargetError(f"LUN {lun}: expected 0 to {MAX_LUN}")
