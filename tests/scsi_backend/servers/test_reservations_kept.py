# SPDX-License-Identifier: GPL-2.0-or-later
"""A unit that target drivers keep for nexuses by their own protocols' means."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.status import Status
from scsi_backend.t10.transport_id import transport_id
from scsi_backend.target.task_management import i_t_nexus_reset, logical_unit_reset
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator
from tests.scsi_backend.reserving import (
    CONFLICT,
    GOOD,
    IGNORE,
    WE_RO,
    Store,
    pr_in,
    pr_out,
    register,
    reserve,
    send_out,
    sign_in,
)

READ = cdbs.block(cdbs.READ, 16, 0, 1)
RESERVE_6, RELEASE_6 = cdbs.raw("16" + "00" * 5), cdbs.raw("17" + "00" * 5)
OWNER, OTHER_OWNER = "e1.1", "e1.2"


@pytest.fixture
def unit() -> LogicalUnit:
    return disk(FaultyVdisk(64))


def nexus_id(name: str, port: int = 1) -> ItNexusId:
    return ItNexusId(transport_id(name), port)


def keep_for(unit: LogicalUnit, *names: str, owner: str = OWNER) -> None:
    unit.reservations.keep_for(owner, [nexus_id(name) for name in names])


def reads(initiator: Initiator) -> bool:
    outcome = initiator.send(READ, None, 512)
    assert outcome.status in (Status.GOOD, Status.RESERVATION_CONFLICT)
    return outcome.status == Status.GOOD


def test_whom_it_is_kept_for_has_the_units_own_table_and_others_meet_a_conflict(
    unit: LogicalUnit,
) -> None:
    one, two, other = (sign_in(unit, name) for name in ("a", "b", "c"))
    keep_for(unit, "a", "b")
    assert [reads(each) for each in (one, two, other)] == [True, True, False]
    for initiator in (one, two):
        assert initiator.session.nexuses[0].dispatch is unit.dispatch
    assert other.send(cdbs.TEST_UNIT_READY) == GOOD
    keep_for(unit)
    assert reads(other)
    assert other.session.nexuses[0].dispatch is unit.dispatch


def test_it_is_kept_for_nexuses_that_are_not_there_yet(unit: LogicalUnit) -> None:
    keep_for(unit, "a")
    assert [reads(sign_in(unit, "a")), reads(sign_in(unit, "a", port=2))] == [True, False]


def test_each_call_replaces_what_the_owner_has_kept_before(unit: LogicalUnit) -> None:
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    keep_for(unit, "a")
    keep_for(unit, "b")
    assert [reads(one), reads(other)] == [False, True]


def test_with_two_owners_only_those_go_in_whom_both_name(unit: LogicalUnit) -> None:
    one, both = sign_in(unit, "a"), sign_in(unit, "b")
    keep_for(unit, "a", "b")
    keep_for(unit, "b", owner=OTHER_OWNER)
    assert [reads(one), reads(both)] == [False, True]
    keep_for(unit, owner=OTHER_OWNER)
    assert [reads(one), reads(both)] == [True, True]


def test_what_is_as_it_was_makes_no_table_anew(unit: LogicalUnit) -> None:
    other = sign_in(unit, "b")
    keep_for(unit, "a")
    table = other.session.nexuses[0].dispatch
    keep_for(unit, "a")
    keep_for(unit, owner=OTHER_OWNER)
    assert other.session.nexuses[0].dispatch is table


def test_neither_a_reset_nor_the_loss_of_its_holder_ends_it(unit: LogicalUnit) -> None:
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    keep_for(unit, "a")
    logical_unit_reset(unit, lambda: None)
    i_t_nexus_reset([one.session.nexuses[0]], lambda: None)
    one.session.close()
    other.send(cdbs.TEST_UNIT_READY)
    assert not reads(other)


def test_reserve_is_for_whom_it_is_kept_and_its_release_leaves_the_rest_as_it_was(
    unit: LogicalUnit,
) -> None:
    one, two, other = (sign_in(unit, name) for name in ("a", "b", "c"))
    keep_for(unit, "a", "b")
    assert [each.send(RESERVE_6) for each in (other, one, two)] == [CONFLICT, GOOD, CONFLICT]
    assert [reads(each) for each in (one, two, other)] == [True, False, False]
    assert one.send(RELEASE_6) == GOOD
    assert [reads(each) for each in (one, two, other)] == [True, True, False]


def test_persistent_reservations_conflict_with_it_for_its_holders_too(unit: LogicalUnit) -> None:
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    keep_for(unit, "a")
    for each in (one, other):
        assert [each.send(pr_in(action), None, 64) for action in range(4)] == [CONFLICT] * 4
        assert send_out(each, IGNORE, 0, 0xA) == CONFLICT
    keep_for(unit)
    assert send_out(other, IGNORE, 0, 0xA) == GOOD


def test_a_registration_that_is_being_stored_is_not_overtaken(unit: LogicalUnit) -> None:
    one = sign_in(unit, "a")
    store = unit.reservations.store = Store()
    store.is_held = True
    registers = one.start(pr_out(IGNORE, 0, 24), bytes(15) + b"\x0a" + bytes(8))
    turns: list[int] = []
    unit.reservations.turn.take(turns.append)
    assert turns == []
    store.held.pop()(0)
    assert registers.outcome == GOOD
    assert turns == [0]
    assert not unit.reservations.admits_legacy(nexus_id("b"))


def test_nobody_may_reserve_beside_registrants_another_holder_or_another_owner(
    unit: LogicalUnit,
) -> None:
    reservations = unit.reservations
    one, other = nexus_id("a"), nexus_id("b")
    assert reservations.admits_legacy(one)
    keep_for(unit, "a")
    assert [reservations.admits_legacy(each) for each in (one, other)] == [True, False]
    assert reservations.admits_legacy(other, OWNER)
    keep_for(unit)
    sign_in(unit, "a").send(RESERVE_6)
    assert [reservations.admits_legacy(each) for each in (one, other)] == [True, False]
    reservations.reserve_legacy(None)
    register(sign_in(unit, "a"), 0xA)
    assert [reservations.admits_legacy(each) for each in (one, other)] == [False, False]


def test_it_restricts_beside_a_persistent_reservation(unit: LogicalUnit) -> None:
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    reserve(one, 0xA, WE_RO)
    # As when a target with a list comes to lead here.
    keep_for(unit, "b")
    assert [reads(one), reads(other)] == [False, True]
    assert other.send(cdbs.block(cdbs.WRITE, 16, 0, 1), bytes(512)) == CONFLICT
