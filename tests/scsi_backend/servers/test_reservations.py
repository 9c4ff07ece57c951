# SPDX-License-Identifier: GPL-2.0-or-later
"""Reservations in force: the dispatch tables, unit attentions, sessions that come and go."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import i_t_nexus_reset, logical_unit_reset
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition
from tests.scsi_backend.reserving import (
    CLEAR,
    CONFLICT,
    EA,
    EA_RO,
    GOOD,
    PREEMPT,
    RELEASE,
    WE,
    WE_RO,
    register,
    reserve,
    send_out,
    sign_in,
)

READ = cdbs.block(cdbs.READ, 16, 0, 1)
WRITE = cdbs.block(cdbs.WRITE, 16, 0, 1)


@pytest.fixture
def unit() -> LogicalUnit:
    return disk(FaultyVdisk(64))


def can(initiator: Initiator) -> tuple[bool, bool]:
    """Whether the initiator may read and write; a refusal is a conflict."""
    outcomes = initiator.send(READ, None, 512), initiator.send(WRITE, bytes(512))
    for outcome in outcomes:
        assert outcome.status in (Status.GOOD, Status.RESERVATION_CONFLICT)
    return outcomes[0].status == Status.GOOD, outcomes[1].status == Status.GOOD


ALL, READS, NOTHING = (True, True), (True, False), (False, False)


# type, what another registrant may, what a stranger may
@pytest.mark.parametrize(
    ("kind", "registrant", "stranger"),
    [
        (1, READS, READS),
        (3, NOTHING, NOTHING),
        (5, ALL, READS),
        (6, ALL, NOTHING),
        (7, ALL, READS),
        (8, ALL, NOTHING),
    ],
)
def test_reservation_restricts_others_until_it_is_released(
    unit: LogicalUnit,
    kind: int,
    registrant: tuple[bool, bool],
    stranger: tuple[bool, bool],
) -> None:
    mine, theirs, nobodys = (sign_in(unit, name) for name in ("a", "b", "c"))
    register(theirs, 0xB)
    reserve(mine, 0xA, kind)
    assert (can(mine), can(theirs), can(nobodys)) == (ALL, registrant, stranger)
    assert send_out(mine, RELEASE, 0xA, kind=kind) == GOOD
    theirs.send(cdbs.TEST_UNIT_READY)
    assert (can(mine), can(theirs), can(nobodys)) == (ALL, ALL, ALL)


def test_tables_are_the_units_own_without_a_reservation(unit: LogicalUnit) -> None:
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    register(one, 0xA)
    register(other, 0xB)
    for initiator in (one, other):
        assert initiator.session.nexuses[0].dispatch is unit.dispatch


def test_holder_has_the_units_own_table(unit: LogicalUnit) -> None:
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    reserve(one, 0xA, EA)
    assert one.session.nexuses[0].dispatch is unit.dispatch
    assert other.session.nexuses[0].dispatch is not unit.dispatch


def test_conflict_leaves_the_unit_attention_pending(unit: LogicalUnit) -> None:
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    register(other, 0xB)
    reserve(one, 0xA, EA)
    assert send_out(one, PREEMPT, 0xA, 0xB, EA) == GOOD
    assert other.send(READ, None, 512) == CONFLICT
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2A/05")


@pytest.mark.parametrize("code", ["06/29/00", "06/29/03", "06/29/07"])
def test_reset_is_told_before_the_conflict(unit: LogicalUnit, code: str) -> None:
    one = sign_in(unit, "a")
    reserve(one, 0xA, EA)
    other = sign_in(unit, "b", keep_attentions=code == "06/29/00")
    if code == "06/29/03":
        logical_unit_reset(unit, lambda: None)
    elif code == "06/29/07":
        i_t_nexus_reset([other.session.nexuses[0]], lambda: None)
    assert_check_condition(other.send(READ, None, 512), code)
    assert other.send(READ, None, 512) == CONFLICT


def test_late_session_meets_the_reservation(unit: LogicalUnit) -> None:
    reserve(sign_in(unit, "a"), 0xA, WE)
    assert can(sign_in(unit, "b")) == READS


def test_other_session_of_the_holder_is_the_holder(unit: LogicalUnit) -> None:
    first = sign_in(unit, "a")
    reserve(first, 0xA, EA)
    assert can(sign_in(unit, "a")) == ALL
    assert can(sign_in(unit, "a", port=2)) == NOTHING


def test_reservation_outlives_its_holders_session(unit: LogicalUnit) -> None:
    first = sign_in(unit, "a")
    reserve(first, 0xA, EA)
    first.session.close()
    assert can(sign_in(unit, "b")) == NOTHING
    assert can(sign_in(unit, "a")) == ALL


def test_registrant_that_is_away_hears_of_it_when_it_comes_back(unit: LogicalUnit) -> None:
    one, away = sign_in(unit, "a"), sign_in(unit, "b")
    register(away, 0xB)
    register(one, 0xA)
    away.session.close()
    assert send_out(one, CLEAR, 0xA) == GOOD
    back = sign_in(unit, "b", keep_attentions=True)
    assert_check_condition(back.send(cdbs.TEST_UNIT_READY), "06/2A/03")
    assert_check_condition(back.send(cdbs.TEST_UNIT_READY), "06/29/00")
    back.good(cdbs.TEST_UNIT_READY)


def test_every_session_of_a_registrant_hears_of_it(unit: LogicalUnit) -> None:
    one, first, second = sign_in(unit, "a"), sign_in(unit, "b"), sign_in(unit, "b")
    register(first, 0xB)
    reserve(one, 0xA, EA_RO)
    assert send_out(one, RELEASE, 0xA, kind=EA_RO) == GOOD
    for session in (first, second):
        assert_check_condition(session.send(cdbs.TEST_UNIT_READY), "06/2A/04")


def test_reset_leaves_persistent_reservations(unit: LogicalUnit) -> None:
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    reserve(one, 0xA, WE_RO)
    logical_unit_reset(unit, lambda: None)
    other.send(cdbs.TEST_UNIT_READY)
    assert can(other) == READS


def test_command_under_way_is_not_stopped_by_a_reservation(unit: LogicalUnit) -> None:
    vdisk = unit.vdisk
    assert isinstance(vdisk, FaultyVdisk)
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    vdisk.immediate_bytes, vdisk.is_held = 0, True
    pending = other.start(READ, None, 512)
    reserve(one, 0xA, EA)
    vdisk.release_all()
    assert pending.outcome.status == Status.GOOD
