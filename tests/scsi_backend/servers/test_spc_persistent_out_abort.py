# SPDX-License-Identifier: GPL-2.0-or-later
"""PREEMPT AND ABORT: whose commands it ends, and that nobody waits for one another in a circle."""

from __future__ import annotations

import struct

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Pending, assert_check_condition
from tests.scsi_backend.reserving import (
    ABORT,
    GOOD,
    IGNORE,
    PREEMPT,
    WE,
    Store,
    keys,
    pr_out,
    register,
    reserve,
    send_out,
    sign_in,
)

READ = cdbs.block(cdbs.READ, 16, 0, 1)
WRITE = cdbs.block(cdbs.WRITE, 16, 0, 1)


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk(64)


@pytest.fixture
def unit(vdisk: FaultyVdisk) -> LogicalUnit:
    return disk(vdisk)


@pytest.fixture
def one(unit: LogicalUnit) -> Initiator:
    return sign_in(unit, "a")


@pytest.fixture
def other(unit: LogicalUnit) -> Initiator:
    return sign_in(unit, "b")


def under_way(vdisk: FaultyVdisk, initiator: Initiator, cdb: bytes = READ) -> Pending:
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    if cdb is WRITE:
        return initiator.start(cdb, b"w" * 512)
    return initiator.start(cdb, None, 512)


def start_abort(initiator: Initiator, key: int, victim_key: int) -> Pending:
    data = struct.pack(">QQ8x", key, victim_key)
    return initiator.start(pr_out(ABORT, WE, 24), data)


def test_preempted_commands_end_before_the_preempting_one(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    register(other, 0xB)
    reserve(one, 0xA, WE)
    theirs, mine = under_way(vdisk, other), under_way(vdisk, one)
    pending = start_abort(one, 0xA, 0xB)
    assert not pending.is_done
    vdisk.release()
    assert pending.outcome == GOOD
    assert theirs.outcome.status == Status.TASK_ABORTED
    vdisk.release_all()
    assert mine.outcome.status == Status.GOOD
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2A/05")
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2F/00")


def test_preempt_alone_lets_commands_go_on(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    register(other, 0xB)
    reserve(one, 0xA, WE)
    theirs = under_way(vdisk, other)
    assert send_out(one, PREEMPT, 0xA, 0xB, WE) == GOOD
    vdisk.release_all()
    assert theirs.outcome.status == Status.GOOD


def test_commands_of_a_session_that_ended_are_waited_for(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    register(other, 0xB)
    reserve(one, 0xA, WE)
    theirs = under_way(vdisk, other, READ)
    other.session.close()
    pending = start_abort(one, 0xA, 0xB)
    assert not pending.is_done
    vdisk.release_all()
    assert (pending.outcome, theirs.outcome.status) == (GOOD, Status.TASK_ABORTED)


def test_write_that_was_begun_is_on_the_disk_before_the_preempting_command_ends(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    register(one, 0xA)
    register(other, 0xB)
    under_way(vdisk, other, WRITE)
    pending = start_abort(one, 0xA, 0xB)
    assert not pending.is_done
    vdisk.release_all()
    assert pending.outcome == GOOD
    assert vdisk.blocks(0, 1) == b"w" * 512


def test_those_who_preempt_one_another_do_not_wait_for_one_another(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    register(one, 0xA)
    register(other, 0xB)
    store = unit.reservations.store = Store()
    store.is_held = True
    pendings = [start_abort(one, 0xA, 0xB), start_abort(other, 0xB, 0xA)]
    store.is_held = False
    store.held.pop()(0)
    assert [pending.outcome.status for pending in pendings] == [Status.GOOD, Status.TASK_ABORTED]
    assert keys(one)[1] == [0xA]


def test_aborted_command_that_waited_for_its_turn_has_no_effect(
    unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    register(one, 0xA)
    register(other, 0xB)
    store = unit.reservations.store = Store()
    store.is_held = True
    abort = start_abort(one, 0xA, 0xB)
    late = other.start(pr_out(IGNORE, 0, 24), struct.pack(">QQ8x", 0, 0xC))
    store.is_held = False
    store.held.pop()(0)
    assert (abort.outcome, late.outcome.status) == (GOOD, Status.TASK_ABORTED)
    assert keys(one)[1] == [0xA]


def test_others_register_while_aborted_commands_are_waited_for(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    register(one, 0xA)
    register(other, 0xB)
    third = sign_in(unit, "c")
    under_way(vdisk, other)
    pending = start_abort(one, 0xA, 0xB)
    register(third, 0xC)
    assert not pending.is_done
    vdisk.release_all()
    assert pending.outcome == GOOD


@pytest.mark.parametrize("attribute", [TaskAttribute.ORDERED, TaskAttribute.SIMPLE])
def test_commands_that_wait_for_the_preempting_one_are_not_waited_for(
    vdisk: FaultyVdisk, attribute: TaskAttribute
) -> None:
    vdisk.tst = 0
    unit = disk(vdisk)
    one, other = sign_in(unit, "a"), sign_in(unit, "b")
    register(one, 0xA)
    register(other, 0xB)
    begun = under_way(vdisk, other)
    abort = Pending(pr_out(ABORT, WE, 24), struct.pack(">QQ8x", 0xA, 0xB), None)
    one.session.submit(0, abort.command, TaskAttribute.ORDERED)
    behind = Pending(WRITE, b"w" * 512, None)
    other.session.submit(0, behind.command, attribute)
    assert not behind.is_done
    vdisk.release_all()
    assert abort.outcome == GOOD
    # It began before its owner was preempted.
    assert begun.outcome.status == Status.GOOD
    assert behind.outcome.status == Status.TASK_ABORTED
    assert vdisk.blocks(0, 1) == bytes(512)


def test_medium_can_be_removed_again(unit: LogicalUnit, one: Initiator, other: Initiator) -> None:
    register(one, 0xA)
    register(other, 0xB)
    other.good(cdbs.raw("1e0000000100"))
    assert send_out(one, PREEMPT, 0xA, 0xB, WE) == GOOD
    assert unit.medium.is_removal_prevented
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2A/05")
    register(other, 0xB)
    assert send_out(one, ABORT, 0xA, 0xB, WE) == GOOD
    assert not unit.medium.is_removal_prevented
