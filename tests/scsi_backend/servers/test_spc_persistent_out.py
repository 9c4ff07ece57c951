# SPDX-License-Identifier: GPL-2.0-or-later
"""PERSISTENT RESERVE OUT as an initiator sends it: lists, storing, aborting, many at once."""

from __future__ import annotations

import errno
import struct

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit, TargetPort
from scsi_backend.servers.reservations import MAX_REGISTRANTS
from scsi_backend.t10.transport_id import transport_id
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Outcome, assert_check_condition
from tests.scsi_backend.reserving import (
    ABORT,
    CLEAR,
    CONFLICT,
    EA,
    GOOD,
    IGNORE,
    MOVE,
    PREEMPT,
    REGISTER,
    RELEASE,
    RESERVE,
    WE,
    Store,
    holder,
    keys,
    pr_in,
    pr_out,
    register,
    reserve,
    send_out,
    sign_in,
)

SPEC_I_PT, ALL_TG_PT, APTPL = 0x08, 0x04, 0x01
READ = cdbs.block(cdbs.READ, 16, 0, 1)
OTHER_ID = transport_id("b")


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk(64)


@pytest.fixture
def unit(vdisk: FaultyVdisk) -> LogicalUnit:
    unit = disk(vdisk)
    for port in (1, 2, 3):
        unit.add_port(TargetPort(port, f"target{port}"))
    return unit


@pytest.fixture
def one(unit: LogicalUnit) -> Initiator:
    return sign_in(unit, "a")


@pytest.fixture
def other(unit: LogicalUnit) -> Initiator:
    return sign_in(unit, "b")


def store_of(unit: LogicalUnit) -> Store:
    store = Store()
    unit.reservations.store = store
    return store


def names(unit: LogicalUnit) -> set[tuple[bytes, int]]:
    return {(name, port) for name, port in unit.reservations.state.registrants}


@pytest.mark.parametrize("action", [*range(8)])
@pytest.mark.parametrize("length", [0, 8, 23, 1 << 31])
def test_list_of_another_length_is_refused(one: Initiator, action: int, length: int) -> None:
    outcome = one.send(pr_out(action, WE, length), bytes(64))
    assert_check_condition(outcome, "05/1A/00")


@pytest.mark.parametrize("action", [REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE])
def test_longer_list_is_refused(one: Initiator, action: int) -> None:
    register(one, 0xA)
    outcome = send_out(one, action, 0xA, 0xA, kind=WE, more=bytes(8))
    assert_check_condition(outcome, "05/1A/00")


OTHER_TYPES = [(0x11, 7), (0, 3), (2, 3), (4, 3), (9, 3), (15, 3)]


@pytest.mark.parametrize(("kind", "bit"), OTHER_TYPES)
def test_other_scopes_and_types_cannot_be_reserved(one: Initiator, kind: int, bit: int) -> None:
    register(one, 0xA)
    assert_check_condition(send_out(one, RESERVE, 0xA, 0, kind), "05/24/00", at=(2, bit))


@pytest.mark.parametrize("action", [PREEMPT, ABORT])
@pytest.mark.parametrize(("kind", "bit"), OTHER_TYPES)
def test_other_scopes_and_types_cannot_be_taken_over(
    one: Initiator, other: Initiator, action: int, kind: int, bit: int
) -> None:
    register(one, 0xA)
    reserve(other, 0xB, EA)
    assert_check_condition(send_out(one, action, 0xA, 0xB, kind), "05/24/00", at=(2, bit))


@pytest.mark.parametrize("action", [PREEMPT, ABORT])
def test_scope_and_type_do_not_matter_where_only_registrations_go(
    one: Initiator, other: Initiator, action: int
) -> None:
    reserve(one, 0xA, EA)
    register(other, 0xB)
    assert send_out(one, action, 0xA, 0xB, 0x12) == GOOD
    assert (keys(one)[1], holder(one)) == ([0xA], (0xA, EA))


@pytest.mark.parametrize("kind", [0, 2, 0x11, 0x13])
def test_release_of_another_scope_or_type_is_told_to_the_holder_alone(
    one: Initiator, other: Initiator, kind: int
) -> None:
    reserve(one, 0xA, EA)
    register(other, 0xB)
    assert send_out(other, RELEASE, 0xB, kind=kind) == GOOD
    assert_check_condition(send_out(one, RELEASE, 0xA, kind=kind), "05/26/04")


@pytest.mark.parametrize("action", [RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, MOVE])
@pytest.mark.parametrize("key", [0, 0xB])
def test_conflict_comes_before_what_is_wrong_with_the_list(
    one: Initiator, action: int, key: int
) -> None:
    register(one, 0xA)
    assert send_out(one, action, key, 0, 0x1F, SPEC_I_PT, bytes(8)) == CONFLICT


def test_persistence_is_refused_where_it_cannot_be(one: Initiator) -> None:
    for action in (REGISTER, IGNORE):
        outcome = send_out(one, action, 0, 0xA, flags=APTPL)
        assert_check_condition(outcome, "05/26/00", at=(20, 0), in_cdb=False)
    reserve(one, 0xA, EA)
    data = struct.pack(">QQxBHI", 0xA, 0xB, APTPL, 1, len(OTHER_ID)) + OTHER_ID
    outcome = one.send(pr_out(MOVE, 0, len(data)), data)
    assert_check_condition(outcome, "05/26/00", at=(17, 0), in_cdb=False)


def test_all_ports_are_unregistered_as_if_through_each(unit: LogicalUnit, one: Initiator) -> None:
    through_two = sign_in(unit, "a", port=2)
    register(through_two, 0xB)
    assert send_out(one, IGNORE, 0, 0, flags=ALL_TG_PT) == GOOD
    assert names(unit) == set()


@pytest.mark.parametrize("action", range(8, 32))
def test_other_service_actions_are_refused(one: Initiator, action: int) -> None:
    assert_check_condition(send_out(one, action), "05/24/00", at=(1, 4))


@pytest.mark.parametrize("action", [RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE])
def test_only_register_brings_others_along(one: Initiator, action: int) -> None:
    register(one, 0xA)
    outcome = send_out(one, action, 0xA, 0xB, WE, SPEC_I_PT)
    assert_check_condition(outcome, "05/26/00", at=(20, 3), in_cdb=False)


def test_life_of_a_reservation(one: Initiator, other: Initiator) -> None:
    assert send_out(one, REGISTER, 0, 0xA) == GOOD
    assert send_out(other, REGISTER, 0, 0xB) == GOOD
    assert send_out(one, RESERVE, 0xA, kind=EA) == GOOD
    assert send_out(other, RESERVE, 0xB, kind=EA) == CONFLICT
    assert (keys(other), holder(other)) == ((2, [0xA, 0xB]), (0xA, EA))
    assert send_out(other, PREEMPT, 0xB, 0xA, EA) == GOOD
    assert (keys(other), holder(other)) == ((3, [0xB]), (0xB, EA))
    assert one.send(READ, None, 512) == CONFLICT
    assert send_out(other, RELEASE, 0xB, kind=EA) == GOOD
    assert_check_condition(one.send(READ, None, 512), "06/2A/05")
    assert send_out(other, CLEAR, 0xB) == GOOD
    assert (keys(other), holder(other)) == ((4, []), None)


@pytest.mark.parametrize("action", [RESERVE, RELEASE, CLEAR, PREEMPT, ABORT])
def test_whoever_is_not_registered_conflicts(one: Initiator, action: int) -> None:
    assert send_out(one, action, 0, 0xA, WE) == CONFLICT


def test_wrong_release_is_told(one: Initiator) -> None:
    reserve(one, 0xA, EA)
    assert_check_condition(send_out(one, RELEASE, 0xA, kind=WE), "05/26/04")


class TestOthers:
    def list_of(self, *ids: bytes) -> bytes:
        body = b"".join(ids)
        return len(body).to_bytes(4, "big") + body

    def test_initiators_that_are_named_are_registered(
        self, unit: LogicalUnit, one: Initiator
    ) -> None:
        more = self.list_of(transport_id("b"), transport_id("away"))
        assert send_out(one, REGISTER, 0, 0xA, flags=SPEC_I_PT, more=more) == GOOD
        assert names(unit) == {(transport_id(name), 1) for name in ("a", "b", "away")}
        assert keys(one) == (1, [0xA] * 3)

    def test_all_ports_are_those_of_the_unit(self, unit: LogicalUnit, one: Initiator) -> None:
        assert send_out(one, REGISTER, 0, 0xA, flags=ALL_TG_PT) == GOOD
        assert names(unit) == {(transport_id("a"), port) for port in (1, 2, 3)}

    def test_both_together(self, unit: LogicalUnit, one: Initiator) -> None:
        more = self.list_of(transport_id("b"))
        flags = SPEC_I_PT | ALL_TG_PT
        assert send_out(one, REGISTER, 0, 0xA, flags=flags, more=more) == GOOD
        assert len(names(unit)) == 6

    def test_registrant_names_nobody(self, one: Initiator) -> None:
        register(one, 0xA)
        more = self.list_of(transport_id("b"))
        outcome = send_out(one, REGISTER, 0xA, 0xA, flags=SPEC_I_PT, more=more)
        assert_check_condition(outcome, "05/26/00", at=(20, 3), in_cdb=False)

    @pytest.mark.parametrize("more", [b"", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\0\0"])
    def test_lengths_that_do_not_fit_are_refused(self, one: Initiator, more: bytes) -> None:
        outcome = send_out(one, REGISTER, 0, 0xA, flags=SPEC_I_PT, more=more)
        assert_check_condition(outcome, "05/1A/00")

    def test_registrants_are_not_named(self, unit: LogicalUnit, one: Initiator) -> None:
        register(sign_in(unit, "b"), 0xB)
        more = self.list_of(transport_id("c"), OTHER_ID)
        outcome = send_out(one, REGISTER, 0, 0xA, flags=SPEC_I_PT, more=more)
        at = (28 + len(transport_id("c")), 7)
        assert_check_condition(outcome, "05/26/00", at=at, in_cdb=False)
        assert names(unit) == {(OTHER_ID, 1)}

    def test_wrong_key_conflicts_before_names_are_read(self, one: Initiator) -> None:
        register(one, 0xA)
        assert send_out(one, REGISTER, 0xB, 0xC, flags=SPEC_I_PT, more=b"\0") == CONFLICT

    def test_list_is_no_longer_than_the_registrants_that_there_can_be(self, one: Initiator) -> None:
        more = self.list_of(*[OTHER_ID] * (MAX_REGISTRANTS * 228 // len(OTHER_ID) + 1))
        outcome = send_out(one, REGISTER, 0, 0xA, flags=SPEC_I_PT, more=more)
        assert_check_condition(outcome, "05/1A/00")

    def test_other_kinds_of_names_are_pointed_at(self, unit: LogicalUnit, one: Initiator) -> None:
        first = transport_id("b")
        more = self.list_of(first, b"\x06" + bytes(23))
        outcome = send_out(one, REGISTER, 0, 0xA, flags=SPEC_I_PT, more=more)
        assert_check_condition(outcome, "05/26/00", at=(28 + len(first), 7), in_cdb=False)
        assert names(unit) == set()

    def test_there_is_an_end_to_registrations(self, unit: LogicalUnit, one: Initiator) -> None:
        more = self.list_of(*(transport_id(f"i{each}") for each in range(MAX_REGISTRANTS)))
        outcome = send_out(one, REGISTER, 0, 0xA, flags=SPEC_I_PT, more=more)
        assert_check_condition(outcome, "05/55/04")
        assert names(unit) == set()


class TestMove:
    def send(
        self,
        initiator: Initiator,
        key: int,
        action_key: int,
        name: bytes,
        *,
        flags: int = 0,
        port: int = 1,
        length: int | None = None,
    ) -> Outcome:
        length = len(name) if length is None else length
        data = struct.pack(">QQxBHI", key, action_key, flags, port, length) + name
        return initiator.send(pr_out(MOVE, 0, len(data)), data)

    def test_reservation_goes_to_the_heir(self, one: Initiator, other: Initiator) -> None:
        reserve(one, 0xA, EA)
        assert self.send(one, 0xA, 0xB, transport_id("b")) == GOOD
        assert (keys(other), holder(other)) == ((2, [0xA, 0xB]), (0xB, EA))
        assert one.send(READ, None, 512) == CONFLICT
        assert other.good(READ, None, 512)

    def test_registration_can_be_left_behind(self, one: Initiator, other: Initiator) -> None:
        reserve(one, 0xA, EA)
        assert self.send(one, 0xA, 0xB, transport_id("b"), flags=0x02) == GOOD
        assert keys(other) == (2, [0xB])

    @pytest.mark.parametrize(
        ("changed", "code", "at"),
        [
            ({"action_key": 0}, "05/26/00", 8),
            ({"port": 9}, "05/26/00", 18),
            ({"name": b"\x06" + bytes(23)}, "05/26/00", 24),
            ({"name": transport_id("a")}, "05/26/00", 24),
            ({"name": transport_id("a"), "port": 2}, "05/26/00", 24),
            ({"length": 8}, "05/1A/00", None),
        ],
    )
    def test_heirs_that_cannot_be_are_refused(
        self, one: Initiator, changed: dict[str, object], code: str, at: int | None
    ) -> None:
        reserve(one, 0xA, EA)
        values: dict[str, object] = {"key": 0xA, "action_key": 0xB, "name": transport_id("b")}
        outcome = self.send(one, **(values | changed))  # type: ignore[arg-type]
        where = None if at is None else (at, 7)
        assert_check_condition(outcome, code, at=where, in_cdb=False)
        assert holder(one) == (0xA, EA)


class TestStoring:
    def test_state_is_stored_before_the_command_ends(
        self, unit: LogicalUnit, one: Initiator
    ) -> None:
        store = store_of(unit)
        store.is_held = True
        data = struct.pack(">QQ4xB3x", 0, 0xA, APTPL)
        pending = one.start(pr_out(REGISTER, 0, 24), data)
        assert not pending.is_done
        assert names(unit) == set()
        store.held.pop()(0)
        assert pending.outcome == GOOD
        assert store.saved == [unit.reservations.state]
        assert one.good(pr_in(2), None, 8).hex() == "00081dc1ea010000"

    def test_state_that_cannot_be_stored_changes_nothing(
        self, unit: LogicalUnit, one: Initiator, other: Initiator
    ) -> None:
        store = store_of(unit)
        reserve(one, 0xA, WE)
        before = unit.reservations.state
        store.result = -errno.ENOSPC
        for action, key in ((RELEASE, 0xA), (CLEAR, 0xA), (REGISTER, 0xA)):
            assert_check_condition(send_out(one, action, key, 0, WE), "04/44/00")
        assert unit.reservations.state is before
        other.good(cdbs.TEST_UNIT_READY)

    def test_what_changes_nothing_is_not_stored(self, unit: LogicalUnit, one: Initiator) -> None:
        reserve(one, 0xA, WE)
        store = store_of(unit)
        assert send_out(one, RESERVE, 0xA, kind=WE) == GOOD
        assert store.saved == []

    def test_commands_take_turns_and_see_what_the_one_before_left(
        self, unit: LogicalUnit, one: Initiator, other: Initiator
    ) -> None:
        register(one, 0xA)
        register(other, 0xB)
        store = store_of(unit)
        store.is_held = True
        data_a, data_b = (struct.pack(">QQ8x", key, 0) for key in (0xA, 0xB))
        pendings = [
            one.start(pr_out(RESERVE, EA, 24), data_a),
            other.start(pr_out(RESERVE, EA, 24), data_b),
        ]
        assert len(store.held) == 1
        store.held.pop()(0)
        assert [pending.outcome for pending in pendings] == [GOOD, CONFLICT]
        assert len(store.saved) == 1
