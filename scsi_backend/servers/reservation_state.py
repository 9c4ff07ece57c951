# SPDX-License-Identifier: GPL-2.0-or-later
"""Persistent reservations as a value: registrants, the reservation, and what PR OUT makes of them.

Every function takes a state and returns a change of it, so that a state which cannot be stored is
simply not taken over. The rules are SPC-4 5.13; conflicts are raised as ``ReservationConflict``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from scsi_backend.servers.command import CheckCondition
from scsi_backend.t10 import sense
from scsi_backend.t10.cdb_reservation import PR_SERVICE_ACTION
from scsi_backend.t10.persistent_reservation import (
    SCOPE_LOGICAL_UNIT,
    ItNexusId,
    ReservationType,
)
from scsi_backend.t10.sense import Sense

# The type that a CDB asks for, or what is wrong with its SCOPE and TYPE, should they matter.
AskedType = ReservationType | CheckCondition

_NOBODY: Mapping[ItNexusId, int] = MappingProxyType({})


class ReservationConflict(Exception):
    """Ends a command with RESERVATION CONFLICT."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is reserved; ``holder`` is None where all registrants are."""

    type: ReservationType
    holder: ItNexusId | None


@dataclass(frozen=True, slots=True)
class PrState:
    """All there is to a logical unit's persistent reservations."""

    generation: int = 0
    registrants: Mapping[ItNexusId, int] = field(default_factory=lambda: _NOBODY)
    reservation: Reservation | None = None
    persists: bool = False

    def is_holder(self, who: ItNexusId) -> bool:
        """Whether this nexus holds the reservation, perhaps with others."""
        reservation = self.reservation
        if reservation is None:
            return False
        return who in self.registrants if reservation.holder is None else reservation.holder == who

    def may_use(self, who: ItNexusId) -> bool:
        """Whether the reservation restricts this nexus in nothing."""
        reservation = self.reservation
        if reservation is None:
            return True
        if reservation.type.is_registrants_only and who in self.registrants:
            return True
        return self.is_holder(who)


@dataclass(frozen=True, slots=True)
class Change:
    """A new state, the unit attentions that come with it, and whose commands are aborted."""

    state: PrState
    attentions: tuple[tuple[ItNexusId, Sense], ...] = ()
    preempted: frozenset[ItNexusId] = frozenset()


def check_key(state: PrState, who: ItNexusId, key: int) -> None:
    """Refuse whoever is not registered with this key."""
    if state.registrants.get(who) != key:
        raise ReservationConflict


def register(
    state: PrState,
    who: ItNexusId,
    key: int | None,
    new_key: int,
    others: Collection[ItNexusId],
    *,
    persists: bool,
) -> Change:
    """REGISTER, or with ``key`` None REGISTER AND IGNORE EXISTING KEY (SPC-4 5.13.7).

    ``others`` are registered along with ``who``, all or none. A ``new_key`` of zero unregisters.
    """
    held = state.registrants.get(who, 0)
    if key is not None:
        # Those along with it may have been registered before it, or with it.
        known = {held, new_key}
        if key != held or any(state.registrants.get(each, held) not in known for each in others):
            raise ReservationConflict
    attentions: tuple[tuple[ItNexusId, Sense], ...] = ()
    if new_key:
        registrants = {**state.registrants, **dict.fromkeys((who, *others), new_key)}
        changed = replace(state, registrants=MappingProxyType(registrants))
    elif state.registrants.keys() & {who, *others}:
        changed, attentions = _without(state, {who, *others})
    else:
        # Nothing to do is no error, and no change.
        return Change(state)
    return Change(_next(replace(changed, persists=persists)), attentions)


def reserve(state: PrState, who: ItNexusId, key: int, kind: AskedType) -> Change:
    """RESERVE (SPC-4 5.13.9)."""
    check_key(state, who, key)
    if state.reservation is None:
        return Change(replace(state, reservation=_held_by(who, _valid(kind))))
    if state.is_holder(who) and state.reservation.type is kind:
        return Change(state)
    raise ReservationConflict


def release(state: PrState, who: ItNexusId, key: int, scope_and_type: int) -> Change:
    """RELEASE (SPC-4 5.13.11.2); what is not one's own to release is left alone with GOOD."""
    check_key(state, who, key)
    if state.reservation is None or not state.is_holder(who):
        return Change(state)
    kind = state.reservation.type
    if scope_and_type != SCOPE_LOGICAL_UNIT << 4 | kind:
        raise CheckCondition(sense.INVALID_RELEASE)
    others = state.registrants.keys() - {who} if kind.is_registrants_only else set()
    return Change(replace(state, reservation=None), _told(others, sense.RESERVATIONS_RELEASED))


def clear(state: PrState, who: ItNexusId, key: int) -> Change:
    """CLEAR (SPC-4 5.13.11.6)."""
    check_key(state, who, key)
    others = state.registrants.keys() - {who}
    empty = replace(state, registrants=_NOBODY, reservation=None)
    return Change(_next(empty), _told(others, sense.RESERVATIONS_PREEMPTED))


def preempt(state: PrState, who: ItNexusId, key: int, victim_key: int, kind: AskedType) -> Change:
    """PREEMPT, and PREEMPT AND ABORT but for the aborting (SPC-4 5.13.11.4).

    Where only registrations go, SCOPE and TYPE do not matter.
    """
    check_key(state, who, key)
    victims = {each for each, held in state.registrants.items() if held == victim_key}
    reservation = state.reservation
    if reservation is not None and reservation.holder is None and victim_key == 0:
        return _taken_over(state, who, state.registrants.keys() - {who}, _valid(kind))
    if victim_key == 0:
        raise CheckCondition(sense.invalid_field_in_parameter_list(8, 7))
    if reservation is not None and reservation.holder in victims:
        return _taken_over(state, who, victims - {who}, _valid(kind))
    if reservation is None:
        # Whoever removes others remains.
        victims -= {who}
    if not victims:
        raise ReservationConflict
    changed, released = _without(state, victims)
    told = _told(victims - {who}, sense.REGISTRATIONS_PREEMPTED) + released
    return Change(_next(changed), told, frozenset(victims))


def _taken_over(
    state: PrState, who: ItNexusId, victims: Collection[ItNexusId], kind: ReservationType
) -> Change:
    """The reservation becomes the preempting nexus's, with a type that may be another."""
    before = state.reservation
    assert before is not None
    left = {each: key for each, key in state.registrants.items() if each not in victims}
    told = _told(victims, sense.REGISTRATIONS_PREEMPTED)
    if before.type is not kind:
        told += _told(left.keys() - {who}, sense.RESERVATIONS_RELEASED)
    changed = replace(state, registrants=MappingProxyType(left), reservation=_held_by(who, kind))
    return Change(_next(changed), told, frozenset(victims))


def register_and_move(
    state: PrState,
    who: ItNexusId,
    key: int,
    new_key: int,
    heir: ItNexusId,
    *,
    unregisters: bool,
    persists: bool,
) -> Change:
    """REGISTER AND MOVE (SPC-4 5.13.8): the reservation, and perhaps one's registration, go."""
    check_key(state, who, key)
    reservation = reservation_to_move(state, who)
    if new_key == 0:
        raise CheckCondition(sense.invalid_field_in_parameter_list(8, 7))
    if heir.transport_id == who.transport_id:
        raise CheckCondition(sense.invalid_field_in_parameter_list(24, 7))
    registrants = {**state.registrants, heir: new_key}
    if unregisters:
        del registrants[who]
    changed = replace(
        state,
        registrants=MappingProxyType(registrants),
        reservation=replace(reservation, holder=heir),
        persists=persists,
    )
    return Change(_next(changed))


def reservation_to_move(state: PrState, who: ItNexusId) -> Reservation:
    """Return the reservation, if it is this nexus's to move."""
    reservation = state.reservation
    if reservation is None:
        raise CheckCondition(PR_SERVICE_ACTION.invalid())
    if reservation.holder != who:
        raise ReservationConflict
    return reservation


def _valid(kind: AskedType) -> ReservationType:
    if isinstance(kind, CheckCondition):
        raise kind
    return kind


def _held_by(who: ItNexusId, kind: ReservationType) -> Reservation:
    return Reservation(kind, None if kind.is_all_registrants else who)


def _without(
    state: PrState, gone: Collection[ItNexusId]
) -> tuple[PrState, tuple[tuple[ItNexusId, Sense], ...]]:
    """Remove registrants, and the reservation with its last holder (SPC-4 5.13.11.3)."""
    left = {each: key for each, key in state.registrants.items() if each not in gone}
    changed = replace(state, registrants=MappingProxyType(left))
    reservation = state.reservation
    if reservation is None or (left if reservation.holder is None else reservation.holder in left):
        return changed, ()
    told = left.keys() if reservation.type.is_registrants_only else ()
    return replace(changed, reservation=None), _told(told, sense.RESERVATIONS_RELEASED)


def _told(whom: Iterable[ItNexusId], what: Sense) -> tuple[tuple[ItNexusId, Sense], ...]:
    return tuple((each, what) for each in sorted(whom))


def _next(state: PrState) -> PrState:
    return replace(state, generation=(state.generation + 1) % (1 << 32))
