# SPDX-License-Identifier: GPL-2.0-or-later
"""The reservations of one logical unit: what is in force, and who is to hear of its changes.

Persistent reservations are a value (``reservation_state``) that is replaced as a whole once its
successor is stored. The legacy reservation of SPC-2 lasts as long as its holder's session. A target
driver whose protocol reserves by its own means keeps the unit for nexuses that it names: that keeps
others out as a legacy reservation does, until its owner ends it. While none of these is there, no
dispatch table knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Final, Protocol

from scsi_backend.io.engine import Done
from scsi_backend.servers.reservation_rules import Conflict
from scsi_backend.servers.reservation_state import Change, PrState
from scsi_backend.servers.task_abort import AbortedNexus
from scsi_backend.servers.turn import Turn
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.sense import Sense

# Enough for any cluster; each costs some hundred bytes.
MAX_REGISTRANTS: Final = 1024


class ReservedNexus(AbortedNexus, Protocol):
    """A nexus, as reservations see it."""

    @property
    def id(self) -> ItNexusId:
        """Which I_T nexus this is, over all of its sessions."""


class PrStore(Protocol):
    """Where the state outlives the daemon."""

    def load(self) -> PrState:
        """Return what was stored; raises OSError. May block."""

    def save(self, state: PrState, done: Done) -> None:
        """Store a state durably; ``done`` gets 0, or a negated errno and nothing has changed."""


class Reservations:
    """Owns the reservations of a logical unit: persistent, legacy, and kept by target drivers.

    ``nexuses`` gives those that are attached; ``changed`` has them take over what is in force.
    Without a store nothing persists. Raises OSError where what was stored cannot be read.
    """

    def __init__(
        self,
        nexuses: Callable[[], Iterable[ReservedNexus]],
        changed: Callable[[], None],
        store: PrStore | None = None,
    ) -> None:
        self._nexuses = nexuses
        self._changed = changed
        self.state = PrState() if store is None else store.load()
        self.store = store
        self.legacy_holder: ItNexusId | None = None
        # By owner. They are not a session's, so that no reset and no loss of a nexus ends them.
        self._kept: dict[Hashable, frozenset[ItNexusId]] = {}
        # PR OUT commands come one at a time, so that each sees what the one before has left.
        self.turn = Turn()
        # What registrants that are away shall hear when they come back.
        self._pending: dict[ItNexusId, list[Sense]] = {}

    def conflict_with(self, who: ItNexusId) -> Conflict:
        """What keeps a nexus out; nothing, as a rule."""
        found = Conflict(0)
        if self.legacy_holder not in (None, who) or self._is_kept_from(who):
            found |= Conflict.LEGACY
        reservation = self.state.reservation
        if reservation is not None and not self.state.may_use(who):
            is_exclusive = reservation.type.excludes_reads
            found |= Conflict.EXCLUSIVE_ACCESS if is_exclusive else Conflict.WRITE_EXCLUSIVE
        return found

    @property
    def has_legacy(self) -> bool:
        """Whether there is a reservation that persistent ones do not go with (SPC-2 5.5.1)."""
        return self.legacy_holder is not None or bool(self._kept)

    @property
    def kept_for(self) -> frozenset[ItNexusId]:
        """Whom target drivers keep the unit for, all of them together."""
        return frozenset(who for holders in self._kept.values() for who in holders)

    def admits_legacy(self, who: ItNexusId, owner: Hashable = None) -> bool:
        """Whether a nexus may reserve as by SPC-2's RESERVE, beside what ``owner`` keeps so far."""
        return (
            not self.state.registrants
            and self.legacy_holder in (None, who)
            and not self._is_kept_from(who, owner)
        )

    def _is_kept_from(self, who: ItNexusId, but: Hashable = None) -> bool:
        return any(who not in holders for owner, holders in self._kept.items() if owner != but)

    def keep_for(self, owner: Hashable, holders: Collection[ItNexusId]) -> None:
        """Keep the unit for these nexuses, whether or not they are attached, in place of whom the
        owner has kept it for before; for nobody, it is the owner's no more.

        Where several owners keep it, only those go in whom all of them name.
        """
        before = dict(self._kept)
        if holders:
            self._kept[owner] = frozenset(holders)
        else:
            self._kept.pop(owner, None)
        if self._kept != before:
            self._changed()

    def reserve_legacy(self, holder: ItNexusId | None) -> None:
        """Give the legacy reservation to somebody, or (None) end it."""
        if holder != self.legacy_holder:
            self.legacy_holder = holder
            self._changed()

    def adopt(self, change: Change) -> None:
        """Put a new state in force, and tell whom it concerns."""
        self.state = change.state
        self._changed()
        for whom, what in change.attentions:
            found = self.nexuses_of({whom})
            for nexus in found:
                nexus.establish_unit_attention(what)
            if not found:
                self._keep(whom, what)

    def _keep(self, whom: ItNexusId, what: Sense) -> None:
        pending = self._pending.setdefault(whom, [])
        if what not in pending:
            pending.append(what)
        # The oldest go first; nobody has to come back.
        while len(self._pending) > MAX_REGISTRANTS:
            del self._pending[next(iter(self._pending))]

    def nexuses_of(self, ids: Collection[ItNexusId]) -> list[ReservedNexus]:
        """The attached nexuses that are any of these."""
        return [nexus for nexus in self._nexuses() if nexus.id in ids]

    def arrived(self, nexus: ReservedNexus) -> None:
        """Tell a nexus what happened while it was away."""
        for what in self._pending.pop(nexus.id, ()):
            nexus.establish_unit_attention(what)

    def nexus_lost(self, nexus: ReservedNexus) -> None:
        """End the legacy reservation of an I_T nexus that was reset, or lost (SAM-5 6.3.4)."""
        if nexus.id == self.legacy_holder:
            self.reserve_legacy(None)

    def left(self, nexus: ReservedNexus) -> None:
        """End the legacy reservation with the last session of its holder (SPC-2 5.5.1)."""
        if not self.nexuses_of({nexus.id}):
            self.nexus_lost(nexus)
