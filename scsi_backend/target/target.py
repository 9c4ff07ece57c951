# SPDX-License-Identifier: GPL-2.0-or-later
"""A target of a target driver: a port with LUNs, open to sessions while enabled."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from scsi_backend.servers.logical_unit import TargetPort
from scsi_backend.target.lun_map import MAX_LUN, LunEntry
from scsi_backend.target.session import Session


class TargetError(Exception):
    """A target cannot be made or used as asked."""


class Target:
    """SCST's scst_tgt: owns its LUN map and its sessions."""

    def __init__(self, driver: str, name: str, relative_target_port: int) -> None:
        self.driver = driver
        self.name = name
        self.relative_target_port = relative_target_port
        self.is_enabled = False
        self._luns: dict[int, LunEntry] = {}
        self._sessions: list[Session] = []

    @property
    def luns(self) -> Mapping[int, LunEntry]:
        """The LUN map."""
        return MappingProxyType(self._luns)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The open sessions, oldest first."""
        return tuple(self._sessions)

    def add_lun(self, lun: int, entry: LunEntry) -> None:
        """Map a LUN, for sessions opened from now on; raises TargetError."""
        if not 0 <= lun <= MAX_LUN:
            raise TargetError(f"LUN {lun}: expected 0 to {MAX_LUN}")
        if lun in self._luns:
            raise TargetError(f"LUN {lun} is mapped already")
        self._luns[lun] = entry
        entry.unit.add_port(TargetPort(self.relative_target_port, f"{self.driver}/{self.name}"))

    def open_session(self, initiator_name: str) -> Session:
        """Log an initiator in; raises TargetError while the target is not enabled."""
        if not self.is_enabled:
            raise TargetError(f"target {self.name} is not enabled")
        session = Session(self, initiator_name, self._luns)
        self._sessions.append(session)
        return session

    def session_closed(self, session: Session) -> None:
        """See ``Port.session_closed``."""
        self._sessions.remove(session)
