# SPDX-License-Identifier: GPL-2.0-or-later
"""Persistent reservations as a value: what each service action makes of a state (SPC-4 5.13)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from scsi_backend.servers.command import CheckCondition
from scsi_backend.servers.reservation_state import (
    Change,
    PrState,
    Reservation,
    ReservationConflict,
    clear,
    preempt,
    register,
    register_and_move,
    release,
    reserve,
)
from scsi_backend.t10 import sense
from scsi_backend.t10.persistent_reservation import ItNexusId, ReservationType

A, B, C, D = (ItNexusId(name, 1) for name in (b"A", b"B", b"C", b"D"))
KEY_A, KEY_B, KEY_C, KEY_D = 0xA, 0xB, 0xC, 0xD
ALL = {A: KEY_A, B: KEY_B, C: KEY_C}

WE, EA, WE_RO, EA_RO, WE_AR, EA_AR = ReservationType
SINGLE = (WE, EA, WE_RO, EA_RO)
REGISTRANTS_ONLY = (WE_RO, EA_RO)
EVERYBODYS = (WE_AR, EA_AR)


def state(
    registrants: Mapping[ItNexusId, int] = ALL,
    kind: ReservationType | None = None,
    holder: ItNexusId = A,
    generation: int = 5,
) -> PrState:
    """A state in which ``holder`` has made a reservation of a type."""
    reservation = None
    if kind is not None:
        reservation = Reservation(kind, None if kind in EVERYBODYS else holder)
    return PrState(generation, MappingProxyType(dict(registrants)), reservation)


def keys(change: Change) -> dict[ItNexusId, int]:
    return dict(change.state.registrants)


def told(change: Change) -> dict[ItNexusId, str]:
    """Who hears of the change, and what, as ASC/ASCQ."""
    return {who: f"{what.asc:02X}/{what.ascq:02X}" for who, what in change.attentions}


class TestRegister:
    def test_first_registration_counts(self) -> None:
        change = register(PrState(), A, 0, KEY_A, (), persists=False)
        assert (keys(change), change.state.generation) == ({A: KEY_A}, 1)

    def test_key_can_be_changed_by_whoever_knows_it(self) -> None:
        change = register(state(), A, KEY_A, 0x99, (), persists=False)
        assert (keys(change)[A], change.state.generation) == (0x99, 6)

    @pytest.mark.parametrize(("who", "key"), [(A, 0), (A, KEY_B), (D, KEY_A), (D, 1)])
    def test_wrong_key_conflicts(self, who: ItNexusId, key: int) -> None:
        with pytest.raises(ReservationConflict):
            register(state(), who, key, 0x99, (), persists=False)

    def test_existing_key_can_be_ignored(self) -> None:
        assert keys(register(state(), A, None, 0x99, (), persists=False))[A] == 0x99
        assert keys(register(state(), D, None, KEY_D, (), persists=False))[D] == KEY_D

    @pytest.mark.parametrize("key", [0, None])
    def test_unregistering_what_is_not_registered_changes_nothing(self, key: int | None) -> None:
        assert register(state(), D, key, 0, (), persists=True) == Change(state())

    def test_aptpl_follows_the_last_registration(self) -> None:
        first = register(PrState(), A, 0, KEY_A, (), persists=True).state
        assert first.persists
        assert not register(first, B, 0, KEY_B, (), persists=False).state.persists

    def test_others_are_registered_along(self) -> None:
        change = register(PrState(), A, 0, KEY_A, (A, B, C), persists=False)
        assert keys(change) == dict.fromkeys((A, B, C), KEY_A)
        assert change.state.generation == 1

    def test_none_is_registered_where_one_of_the_others_has_another_key(self) -> None:
        with pytest.raises(ReservationConflict):
            register(state({B: KEY_B}), A, 0, KEY_A, (C, B), persists=False)

    def test_same_initiator_on_other_ports_is_renamed_and_unregistered_along(self) -> None:
        both = {A: KEY_A, B: KEY_A}
        assert keys(register(state(both), A, KEY_A, 9, (A, B), persists=False)) == {A: 9, B: 9}
        assert keys(register(state(both), A, KEY_A, 0, (A, B), persists=False)) == {}

    @pytest.mark.parametrize(
        ("kind", "remains", "attentions"),
        [
            (WE, False, {}),
            (EA, False, {}),
            (WE_RO, False, {B: "2A/04", C: "2A/04"}),
            (EA_RO, False, {B: "2A/04", C: "2A/04"}),
            (WE_AR, True, {}),
            (EA_AR, True, {}),
        ],
    )
    def test_reservation_goes_with_its_holders_registration(
        self, kind: ReservationType, remains: bool, attentions: dict[ItNexusId, str]
    ) -> None:
        change = register(state(kind=kind), A, KEY_A, 0, (), persists=False)
        assert keys(change) == {B: KEY_B, C: KEY_C}
        assert (change.state.reservation is not None) is remains
        assert told(change) == attentions

    @pytest.mark.parametrize("kind", EVERYBODYS)
    def test_reservation_of_everybody_goes_with_the_last(self, kind: ReservationType) -> None:
        change = register(state({A: KEY_A}, kind), A, KEY_A, 0, (), persists=False)
        assert (change.state.reservation, told(change)) == (None, {})

    def test_registration_that_holds_nothing_leaves_the_reservation(self) -> None:
        change = register(state(kind=EA_RO), B, KEY_B, 0, (), persists=False)
        assert change.state.reservation == Reservation(EA_RO, A)
        assert told(change) == {}

    def test_generation_wraps_at_32_bits(self) -> None:
        before = state(generation=0xFFFFFFFF)
        assert register(before, D, 0, KEY_D, (), persists=False).state.generation == 0


class TestReserveAndRelease:
    @pytest.mark.parametrize("kind", list(ReservationType))
    def test_registrant_gets_what_is_free(self, kind: ReservationType) -> None:
        change = reserve(state(), A, KEY_A, kind)
        assert change == Change(state(kind=kind))
        assert change.state.is_holder(A)
        assert change.state.is_holder(B) is (kind in EVERYBODYS)

    @pytest.mark.parametrize(("who", "key"), [(D, 0), (D, KEY_A), (A, KEY_B), (A, 0)])
    def test_only_registrants_reserve_and_release(self, who: ItNexusId, key: int) -> None:
        for action in (reserve, release):
            with pytest.raises(ReservationConflict):
                action(state(kind=WE), who, key, WE)

    @pytest.mark.parametrize("kind", list(ReservationType))
    def test_holder_may_reserve_the_same_again(self, kind: ReservationType) -> None:
        assert reserve(state(kind=kind), A, KEY_A, kind) == Change(state(kind=kind))

    def test_every_registrant_may_reserve_again_what_is_everybodys(self) -> None:
        assert reserve(state(kind=WE_AR), B, KEY_B, WE_AR) == Change(state(kind=WE_AR))

    @pytest.mark.parametrize(("who", "key", "kind"), [(A, KEY_A, EA), (B, KEY_B, WE)])
    def test_what_is_reserved_cannot_be_reserved_otherwise(
        self, who: ItNexusId, key: int, kind: ReservationType
    ) -> None:
        with pytest.raises(ReservationConflict):
            reserve(state(kind=WE), who, key, kind)

    @pytest.mark.parametrize("kind", list(ReservationType))
    def test_release_tells_the_other_registrants_of_shared_types(
        self, kind: ReservationType
    ) -> None:
        change = release(state(kind=kind), A, KEY_A, kind)
        assert change.state == state()
        expected = {} if kind in (WE, EA) else {B: "2A/04", C: "2A/04"}
        assert told(change) == expected

    def test_release_of_nothing_is_good(self) -> None:
        assert release(state(), A, KEY_A, WE) == Change(state())

    def test_release_of_somebody_elses_is_good_and_changes_nothing(self) -> None:
        assert release(state(kind=WE), B, KEY_B, WE) == Change(state(kind=WE))

    def test_release_of_another_type_is_refused(self) -> None:
        with pytest.raises(CheckCondition) as failure:
            release(state(kind=WE), A, KEY_A, EA)
        assert failure.value.sense == sense.INVALID_RELEASE


class TestClear:
    @pytest.mark.parametrize("kind", [None, *ReservationType])
    def test_clear_ends_everything_and_tells_the_others(self, kind: ReservationType | None) -> None:
        change = clear(state(kind=kind), B, KEY_B)
        assert change.state == PrState(6)
        assert told(change) == {A: "2A/03", C: "2A/03"}

    def test_only_registrants_clear(self) -> None:
        with pytest.raises(ReservationConflict):
            clear(state(), D, 0)


REMOVED, RELEASED = "2A/05", "2A/04"
CONFLICT, REFUSED = "conflict", "refused"

# The decision table: who has the reservation, which key is preempted, and what is left.
# type before, holder, key preempted by B, type asked for -> registrants, holder, type, attentions
PREEMPTS = [
    # Without a reservation only registrations go.
    (None, A, KEY_A, WE, ({B, C}, None, None), {A: REMOVED}),
    (None, A, KEY_D, WE, CONFLICT, {}),
    (None, A, KEY_B, WE, CONFLICT, {}),
    (None, A, 0, WE, REFUSED, {}),
    # Somebody's reservation, another key: it stays.
    (WE, A, KEY_C, EA, ({A, B}, A, WE), {C: REMOVED}),
    (WE, A, KEY_B, EA, ({A, C}, A, WE), {}),
    (WE, A, KEY_D, EA, CONFLICT, {}),
    (WE, A, 0, EA, REFUSED, {}),
    # The holder's key: the reservation changes hands, and its type if asked for.
    (WE, A, KEY_A, WE, ({B, C}, B, WE), {A: REMOVED}),
    (WE, A, KEY_A, EA, ({B, C}, B, EA), {A: REMOVED, C: RELEASED}),
    (WE_RO, A, KEY_A, WE_RO, ({B, C}, B, WE_RO), {A: REMOVED}),
    (EA_RO, A, KEY_A, EA_AR, ({B, C}, None, EA_AR), {A: REMOVED, C: RELEASED}),
    # One's own key as holder: the type changes, nobody goes.
    (WE, B, KEY_B, EA, ({A, B, C}, B, EA), {A: RELEASED, C: RELEASED}),
    (WE, B, KEY_B, WE, ({A, B, C}, B, WE), {}),
    # Everybody's reservation: zero takes it, and another key only removes.
    (WE_AR, A, 0, EA, ({B}, B, EA), {A: REMOVED, C: REMOVED}),
    (EA_AR, A, 0, EA_AR, ({B}, None, EA_AR), {A: REMOVED, C: REMOVED}),
    (WE_AR, A, KEY_A, EA, ({B, C}, None, WE_AR), {A: REMOVED}),
    (WE_AR, A, KEY_D, EA, CONFLICT, {}),
]


@pytest.mark.parametrize(("kind", "holder", "key", "wanted", "left", "attentions"), PREEMPTS)
def test_preempt_decides_by_the_table(
    kind: ReservationType | None,
    holder: ItNexusId,
    key: int,
    wanted: ReservationType,
    left: tuple[set[ItNexusId], ItNexusId | None, ReservationType | None] | str,
    attentions: dict[ItNexusId, str],
) -> None:
    before = state(kind=kind, holder=holder)
    if left == CONFLICT:
        with pytest.raises(ReservationConflict):
            preempt(before, B, KEY_B, key, wanted)
        return
    if left == REFUSED:
        with pytest.raises(CheckCondition) as failure:
            preempt(before, B, KEY_B, key, wanted)
        assert failure.value.sense == sense.invalid_field_in_parameter_list(8, 7)
        return
    change = preempt(before, B, KEY_B, key, wanted)
    reservation = change.state.reservation
    found = (
        set(change.state.registrants),
        None if reservation is None else reservation.holder,
        None if reservation is None else reservation.type,
    )
    assert found == left
    assert told(change) == attentions
    assert change.state.generation == 6
    assert change.preempted == ALL.keys() - set(change.state.registrants)


def test_only_registrants_preempt() -> None:
    with pytest.raises(ReservationConflict):
        preempt(state(kind=WE), D, 0, KEY_A, WE)


class TestMove:
    def move(self, before: PrState, **changed: object) -> Change:
        values: dict[str, object] = {"who": A, "key": KEY_A, "new_key": KEY_D, "heir": D}
        values |= changed
        return register_and_move(before, **values, unregisters=False, persists=False)  # type: ignore[arg-type]

    @pytest.mark.parametrize("kind", SINGLE)
    @pytest.mark.parametrize("unregisters", [False, True])
    def test_reservation_and_perhaps_the_registration_go(
        self, kind: ReservationType, unregisters: bool
    ) -> None:
        change = register_and_move(
            state(kind=kind), A, KEY_A, KEY_D, D, unregisters=unregisters, persists=True
        )
        left = {B: KEY_B, C: KEY_C, D: KEY_D}
        assert keys(change) == (left if unregisters else {A: KEY_A, **left})
        assert change.state.reservation == Reservation(kind, D)
        assert (change.state.generation, change.state.persists) == (6, True)
        assert told(change) == {}

    def test_heir_that_is_registered_gets_the_new_key(self) -> None:
        assert keys(self.move(state(kind=WE), heir=B))[B] == KEY_D

    @pytest.mark.parametrize("kind", EVERYBODYS)
    def test_what_nobody_holds_alone_cannot_be_moved(self, kind: ReservationType) -> None:
        with pytest.raises(ReservationConflict):
            self.move(state(kind=kind))

    def test_without_a_reservation_there_is_nothing_to_move(self) -> None:
        with pytest.raises(CheckCondition) as failure:
            self.move(state())
        assert failure.value.sense == sense.invalid_field_in_cdb(1, 4)

    def test_only_the_holder_moves(self) -> None:
        with pytest.raises(ReservationConflict):
            self.move(state(kind=WE), who=B, key=KEY_B)

    @pytest.mark.parametrize(("changed", "at"), [({"new_key": 0}, 8), ({"heir": A}, 24)])
    def test_move_to_nobody_is_refused(self, changed: dict[str, object], at: int) -> None:
        with pytest.raises(CheckCondition) as failure:
            self.move(state(kind=WE), **changed)
        assert failure.value.sense == sense.invalid_field_in_parameter_list(at, 7)


# type, may the holder, another registrant, a stranger use the unit as they like
@pytest.mark.parametrize(
    ("kind", "usable"),
    [
        (None, (True, True, True)),
        (WE, (True, False, False)),
        (EA, (True, False, False)),
        (WE_RO, (True, True, False)),
        (EA_RO, (True, True, False)),
        (WE_AR, (True, True, False)),
        (EA_AR, (True, True, False)),
    ],
)
def test_type_says_who_may_use_the_unit(
    kind: ReservationType | None, usable: tuple[bool, bool, bool]
) -> None:
    found = state(kind=kind)
    assert (found.may_use(A), found.may_use(B), found.may_use(D)) == usable
