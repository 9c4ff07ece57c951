# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel as an initiator at one target."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from bridges.local.tcmu.lead import Lead
from bridges.local.tcmu.naming import LunName
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target, TargetError


@dataclass(frozen=True, slots=True)
class KernelExport:
    """A target whose LUNs are to be disks, and its attributes."""

    target: Target
    session_name: str
    cmd_time_out_s: int


class KernelPort:
    """Owns the kernel's session with a target, which lasts from the first LUN on."""

    def __init__(self, export: KernelExport, changed: Callable[[], None]) -> None:
        """``changed`` is called whenever ``leads`` may have become others."""
        self._export = export
        self._session: Session | None = None
        self._end_watch = export.target.watch(changed)

    def leads(self) -> dict[LunName, Lead]:
        """The LUNs that the kernel has here now."""
        session = self._logged_in()
        if session is None:
            return {}
        # Another device is another disk: who had the old one open gets errors there.
        session.forget_last_flushes()
        target, time_out_s = self._export.target.name, self._export.cmd_time_out_s
        leads = [Lead.of(target, session, nexus, time_out_s) for nexus in session.nexuses.values()]
        return {lead.name: lead for lead in leads}

    def _logged_in(self) -> Session | None:
        if self._session is None:
            # A target that is not enabled, or has no LUNs for the kernel, may come to it later.
            with suppress(TargetError):
                self._session = self._export.target.open_session(self._export.session_name)
        return self._session

    def close(self) -> None:
        """Log out: every LUN is gone."""
        self._end_watch()
        if self._session is not None:
            self._session.reassign({})
            self._session.close()
            self._session = None
