# SPDX-License-Identifier: GPL-2.0-or-later
"""RESERVE and RELEASE of SPC-2, alone and beside persistent reservations (SPC-4 5.13.3)."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import i_t_nexus_reset, logical_unit_reset
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Outcome, assert_check_condition
from tests.scsi_backend.reserving import (
    CONFLICT,
    EA,
    EA_AR,
    EA_RO,
    GOOD,
    IGNORE,
    WE,
    Store,
    pr_in,
    pr_out,
    register,
    reserve,
    send_out,
    sign_in,
)

RESERVE_6, RELEASE_6 = cdbs.raw("160000000000"), cdbs.raw("170000000000")
RESERVE_10, RELEASE_10 = cdbs.raw("56" + "00" * 9), cdbs.raw("57" + "00" * 9)
READ = cdbs.block(cdbs.READ, 16, 0, 1)


@pytest.fixture
def unit() -> LogicalUnit:
    return disk(FaultyVdisk(64))


@pytest.fixture
def one(unit: LogicalUnit) -> Initiator:
    return sign_in(unit, "a")


@pytest.fixture
def other(unit: LogicalUnit) -> Initiator:
    return sign_in(unit, "b")


def read(initiator: Initiator) -> Outcome:
    return initiator.send(READ, None, 512)


@pytest.mark.parametrize(("take", "give_back"), [(RESERVE_6, RELEASE_6), (RESERVE_10, RELEASE_10)])
def test_reservation_keeps_others_out_until_its_release(
    one: Initiator, other: Initiator, take: bytes, give_back: bytes
) -> None:
    assert one.send(take) == GOOD
    assert one.send(take) == GOOD
    assert read(one).status == Status.GOOD
    assert [read(other), other.send(take), other.send(pr_in(0), None, 64)] == [CONFLICT] * 3
    assert other.send(give_back) == GOOD
    assert read(other) == CONFLICT
    assert one.send(give_back) == GOOD
    assert read(other).status == Status.GOOD


def test_reset_ends_it(unit: LogicalUnit, one: Initiator, other: Initiator) -> None:
    one.send(RESERVE_6)
    logical_unit_reset(unit, lambda: None)
    assert_check_condition(read(other), "06/29/03")
    assert read(other).status == Status.GOOD


def test_it_ends_with_the_last_session_of_its_holder(
    unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    second = sign_in(unit, "a")
    one.send(RESERVE_6)
    one.session.close()
    assert read(other) == CONFLICT
    second.session.close()
    assert read(other).status == Status.GOOD


def test_it_ends_when_its_holders_nexus_is_reset(one: Initiator, other: Initiator) -> None:
    one.send(RESERVE_6)
    i_t_nexus_reset([other.session.nexuses[0]], lambda: None)
    other.send(cdbs.TEST_UNIT_READY)
    assert read(other) == CONFLICT
    i_t_nexus_reset([one.session.nexuses[0]], lambda: None)
    assert read(other).status == Status.GOOD


def test_persistent_reservations_conflict_with_it_for_its_holder_too(one: Initiator) -> None:
    one.send(RESERVE_6)
    assert [one.send(pr_in(action), None, 64) for action in range(4)] == [CONFLICT] * 4
    assert [send_out(one, action, 0, 0xA, WE) for action in range(8)] == [CONFLICT] * 8
    one.send(RELEASE_6)
    assert send_out(one, IGNORE, 0, 0xA) == GOOD


def test_reserve_waits_for_a_registration_that_is_being_stored(
    unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    store = unit.reservations.store = Store()
    store.is_held = True
    registers = one.start(pr_out(IGNORE, 0, 24), bytes(15) + b"\x0a" + bytes(8))
    reserves = other.start(RESERVE_6)
    assert not reserves.is_done
    store.held.pop()(0)
    assert (registers.outcome, reserves.outcome) == (GOOD, CONFLICT)
    assert unit.reservations.legacy_holder is None


def test_nothing_is_reserved_for_whoever_has_left(
    unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    register(one, 0xA)
    store = unit.reservations.store = Store()
    store.is_held = True
    one.start(pr_out(IGNORE, 0, 24), bytes(24))
    other.start(RESERVE_6)
    other.session.close()
    store.held.pop()(0)
    assert unit.reservations.state.registrants == {}
    assert unit.reservations.legacy_holder is None


@pytest.mark.parametrize("opcode", ["16", "17", "56", "57"])
@pytest.mark.parametrize(("flags", "bit"), [("10", 4), ("01", 0)])
def test_third_parties_and_extents_are_refused(
    one: Initiator, opcode: str, flags: str, bit: int
) -> None:
    outcome = one.send(cdbs.raw(opcode + flags + "00" * 8))
    assert_check_condition(outcome, "05/24/00", at=(1, bit))


@pytest.mark.parametrize("opcode", ["56", "57"])
def test_long_identifiers_are_refused(one: Initiator, opcode: str) -> None:
    outcome = one.send(cdbs.raw(opcode + "02" + "00" * 8))
    assert_check_condition(outcome, "05/24/00", at=(1, 1))


# type, holder, registrant, stranger: whether RESERVE and RELEASE are GOOD or conflict
@pytest.mark.parametrize(
    ("kind", "holder", "registrant"),
    [(WE, GOOD, CONFLICT), (EA, GOOD, CONFLICT), (EA_RO, GOOD, GOOD), (EA_AR, GOOD, GOOD)],
)
@pytest.mark.parametrize("cdb", [RESERVE_6, RELEASE_6, RESERVE_10, RELEASE_10])
def test_beside_a_persistent_reservation_they_are_compatible(
    unit: LogicalUnit,
    one: Initiator,
    other: Initiator,
    kind: int,
    holder: Outcome,
    registrant: Outcome,
    cdb: bytes,
) -> None:
    stranger = sign_in(unit, "c")
    register(other, 0xB)
    reserve(one, 0xA, kind)
    assert one.send(cdb) == holder
    assert other.send(cdb) == registrant
    assert stranger.send(cdb) == CONFLICT
    # None of them has made or ended anything.
    assert unit.reservations.legacy_holder is None


def test_registrations_alone_keep_reserve_out(one: Initiator, other: Initiator) -> None:
    register(one, 0xA)
    assert [one.send(RESERVE_6), other.send(RESERVE_6)] == [CONFLICT] * 2
