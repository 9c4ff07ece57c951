# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of a task set, seen at a disk that does what the test lets it do."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import abort_task_set
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Pending, assert_check_condition
from tests.scsi_backend.locking import NEW, OLD, begin, join, nexus_of

SIMPLE, ORDERED, HEAD = TaskAttribute.SIMPLE, TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE


def read(initiator: Initiator, lba: int, attribute: TaskAttribute = SIMPLE) -> Pending:
    pending = Pending(cdbs.block(cdbs.READ, 16, lba, 1), None, 512)
    initiator.session.submit(0, pending.command, attribute)
    return pending


def begun(vdisk: FaultyVdisk) -> list[int]:
    """The LBAs of the reads that have begun, in their order."""
    return [offset_bytes // 512 for name, offset_bytes, _ in vdisk.log if name == "read"]


def test_simple_commands_do_not_wait_for_one_another(one: Initiator, vdisk: FaultyVdisk) -> None:
    for lba in range(3):
        read(one, lba)
    assert begun(vdisk) == [0, 1, 2]


def test_ordered_waits_for_what_came_before_and_what_comes_after_waits_for_it(
    one: Initiator, vdisk: FaultyVdisk
) -> None:
    pendings = [read(one, 0), read(one, 1), read(one, 2, ORDERED), read(one, 3), read(one, 4)]
    assert begun(vdisk) == [0, 1]
    vdisk.release()
    assert begun(vdisk) == [0, 1]
    vdisk.release()
    assert begun(vdisk) == [0, 1, 2]
    vdisk.release()
    assert begun(vdisk) == [0, 1, 2, 3, 4]
    vdisk.release_all()
    assert [pending.outcome.status for pending in pendings] == [Status.GOOD] * 5


def test_ordered_commands_run_one_after_the_other(one: Initiator, vdisk: FaultyVdisk) -> None:
    for lba in range(3):
        read(one, lba, ORDERED)
    for count in range(1, 4):
        assert begun(vdisk) == list(range(count))
        vdisk.release()


def test_head_of_queue_waits_for_nobody(one: Initiator, vdisk: FaultyVdisk) -> None:
    read(one, 0)
    read(one, 1, ORDERED)
    read(one, 2, HEAD)
    assert begun(vdisk) == [0, 2]


def test_what_comes_after_head_of_queue_waits_for_it_and_for_the_ordered_before(
    one: Initiator, vdisk: FaultyVdisk
) -> None:
    read(one, 0)
    read(one, 1, ORDERED)
    read(one, 2, HEAD)
    read(one, 3)
    vdisk.release()
    assert begun(vdisk) == [0, 2, 1]
    vdisk.release()
    assert begun(vdisk) == [0, 2, 1]
    vdisk.release()
    assert begun(vdisk) == [0, 2, 1, 3]


def test_other_nexuses_have_their_own_order(
    one: Initiator, other: Initiator, vdisk: FaultyVdisk
) -> None:
    read(one, 0)
    read(one, 1, ORDERED)
    read(other, 2)
    assert begun(vdisk) == [0, 2]


def test_dispatch_is_the_units_again_when_the_ordered_command_has_ended(
    one: Initiator, vdisk: FaultyVdisk, unit: LogicalUnit
) -> None:
    read(one, 0, ORDERED)
    assert nexus_of(one).dispatch is not unit.dispatch
    vdisk.release()
    assert nexus_of(one).dispatch is unit.dispatch


@pytest.mark.parametrize("attribute", [ORDERED, HEAD])
def test_command_that_ends_at_once_changes_no_table(
    one: Initiator, vdisk: FaultyVdisk, unit: LogicalUnit, attribute: TaskAttribute
) -> None:
    vdisk.immediate_bytes = None
    assert read(one, 0, attribute).outcome.status == Status.GOOD
    assert nexus_of(one).dispatch is unit.dispatch


@pytest.mark.parametrize("cdb", ["000000000000", "120000002400", "25" + "00" * 9])
def test_commands_that_show_life_wait_for_nobody(one: Initiator, cdb: str) -> None:
    read(one, 0)
    read(one, 1, ORDERED)
    assert one.send(cdbs.raw(cdb), None, 36).status == Status.GOOD


def test_every_command_is_ordered_without_permission_to_reorder(
    one: Initiator, vdisk: FaultyVdisk, unit: LogicalUnit
) -> None:
    unit.modes.put(replace(unit.control, queue_algorithm_modifier=0))
    for lba in range(3):
        read(one, lba)
    for count in range(1, 4):
        assert begun(vdisk) == list(range(count))
        vdisk.release()


def test_unit_attention_is_reported_by_an_ordered_command_at_once(
    one: Initiator, unit: LogicalUnit, vdisk: FaultyVdisk
) -> None:
    read(one, 0)
    vdisk.new_block_count = 32
    unit.resync_size()
    assert_check_condition(read(one, 1, ORDERED).outcome, "06/2A/09")


def test_aborted_command_that_waits_is_never_begun(one: Initiator, vdisk: FaultyVdisk) -> None:
    running, ordered, waiting = read(one, 0), read(one, 1, ORDERED), read(one, 2)
    finished: list[bool] = []
    abort_task_set(nexus_of(one), lambda: finished.append(True))
    assert finished == []
    vdisk.release()
    assert begun(vdisk) == [0]
    outcomes = [pending.outcome.status for pending in (running, ordered, waiting)]
    assert outcomes == [Status.TASK_ABORTED] * 3
    assert finished == [True]


def test_naca_is_refused_at_the_control_byte(one: Initiator) -> None:
    outcome = one.send(cdbs.raw("000000000004"))
    assert_check_condition(outcome, "05/24/00", at=(5, 2))
    outcome = one.send(cdbs.block(cdbs.READ, 16, 0, 1)[:15] + b"\x04", None, 512)
    assert_check_condition(outcome, "05/24/00", at=(15, 2))


def test_order_and_ranges_together_make_no_circle(
    one: Initiator, other: Initiator, vdisk: FaultyVdisk
) -> None:
    # The second comparison comes after a write that waits for an ordered one of its own nexus.
    pendings = [
        begin(other, 40),
        write_in_order(one, 1, ORDERED),
        write_in_order(one, 5, SIMPLE),
        begin(other, 5),
    ]
    vdisk.release_all()
    assert all(pending.is_done for pending in pendings)


def write_in_order(initiator: Initiator, lba: int, attribute: TaskAttribute) -> Pending:
    pending = Pending(cdbs.block(cdbs.WRITE, 16, lba, 1), NEW, None)
    initiator.session.submit(0, pending.command, attribute)
    return pending


@pytest.mark.parametrize("tst", [0, 1])
@pytest.mark.parametrize("seed", range(40))
def test_nothing_waits_for_ever_and_ordered_writes_stay_in_order(seed: int, tst: int) -> None:
    source = random.Random(seed)
    vdisk = FaultyVdisk(64, is_thin=True)
    vdisk.data[:] = OLD * 64
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    vdisk.tst = tst
    unit = disk(vdisk)
    initiators = [join(unit) for _ in range(3)]
    if source.random() < 0.25:
        unit.modes.put(replace(unit.control, queue_algorithm_modifier=0))
    sent: list[Pending] = []
    for _ in range(60):
        initiator, lba = source.choice(initiators), source.randrange(4)
        attribute = source.choice([SIMPLE, SIMPLE, ORDERED, HEAD])
        kind = source.randrange(4)
        if kind == 0:
            pending = Pending(cdbs.compare_and_write(lba, 1), OLD + NEW, None)
        elif kind == 1:
            pending = Pending(cdbs.block(cdbs.READ, 16, lba, 1), None, 512)
        elif kind == 2:
            pending = Pending(cdbs.block(cdbs.WRITE, 16, lba, 1), OLD, None)
        else:
            pending = Pending(cdbs.raw("35" + "00" * 9), None, None)
        initiator.session.submit(0, pending.command, attribute)
        sent.append(pending)
        while vdisk.held and source.random() < 0.5:
            vdisk.release(source.randrange(len(vdisk.held)))
    while vdisk.held:
        vdisk.release(source.randrange(len(vdisk.held)))
    assert all(pending.is_done for pending in sent)
    assert not unit.lock.is_engaged or unit.lock.orders_all
