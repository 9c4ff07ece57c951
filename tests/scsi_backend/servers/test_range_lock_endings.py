# SPDX-License-Identifier: GPL-2.0-or-later
"""The range lock when commands fail, when their owners raise, and when they send more at once."""

from __future__ import annotations

import errno
import logging

import pytest

from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Pending, assert_check_condition
from tests.scsi_backend.locking import NEW, OLD, ZEROS, begin, nexus_of, read, submit, write


@pytest.mark.parametrize("operation", ["read", "write", "sync"])
def test_atomic_command_that_fails_in_the_middle_lets_the_others_go_on(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator, operation: str
) -> None:
    vdisk.faults.errno_of[operation] = errno.EIO
    atomic = one.start(cdbs.compare_and_write(0, 1, 0x08), OLD + NEW)
    waiting = [other.start(cdbs.block(cdbs.WRITE_SAME, 16, 0, 1), ZEROS), begin(other, 0)]
    while not atomic.is_done:
        vdisk.release()
    vdisk.faults.errno_of.clear()
    vdisk.release_all()
    assert atomic.outcome.status == Status.CHECK_CONDITION
    assert waiting[0].outcome.status == Status.GOOD
    assert_check_condition(waiting[1].outcome, "0E/1D/00", information=0)
    assert nexus_of(one).dispatch is unit.dispatch


def test_earlier_command_that_fails_lets_the_atomic_one_begin(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    vdisk.faults.errno_of["write"] = errno.EIO
    write(one, 0, OLD)
    atomic = begin(other, 0)
    vdisk.release()
    vdisk.faults.errno_of.clear()
    vdisk.release_all()
    assert atomic.outcome.status == Status.GOOD


def test_waiting_command_meets_the_disk_as_it_is_when_it_begins(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    begin(one, 40)
    waiting = [read(other, 40), begin(other, 40, expected=NEW)]
    vdisk.new_block_count = 32
    unit.resync_size()
    vdisk.release_all()
    for each in waiting:
        assert_check_condition(each.outcome, "05/21/00", at=(2, 7), information=40)
    assert unit.dispatch_in_force is unit.dispatch


def test_defect_met_by_a_waiting_command_ends_it_and_no_other(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, caplog: pytest.LogCaptureFixture
) -> None:
    begin(one, 0)
    waiting = [read(other, 0), other.start(cdbs.block(cdbs.VERIFY, 16, 0, 1))]
    vdisk.release()
    vdisk.faults.raised = ZeroDivisionError("a defect")
    with caplog.at_level(logging.ERROR):
        vdisk.release_all()
    assert_check_condition(waiting[0].outcome, "04/44/00")
    assert "READ(16) failed" in caplog.text
    assert waiting[1].outcome.status == Status.GOOD
    assert nexus_of(other).outstanding == set()


def test_owner_that_raises_keeps_nobody_waiting(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def raising(command: Command) -> None:
        raise RuntimeError("broken front-end")

    cdb = cdbs.compare_and_write(0, 1)
    submit(one, cdb, raising)
    vdisk.immediate_bytes = None
    submit(one, cdbs.block(cdbs.READ, 16, 0, 1), raising)
    last = read(other, 0)
    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError, match="broken front-end"):
        vdisk.release_all()
    assert last.outcome.data == NEW
    assert "completion callback failed" in caplog.text
    assert nexus_of(one).dispatch is unit.dispatch
    assert nexus_of(one).outstanding == set()


def test_owner_may_send_the_same_atomic_command_again_from_its_completion(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    statuses: list[int | None] = []

    def again(command: Command) -> None:
        statuses.append(command.status)
        if len(statuses) < 3:
            command.renew(again)
            nexus_of(one).submit(command)

    submit(one, cdbs.compare_and_write(0, 1), again)
    waiting = read(other, 0)
    vdisk.release_all()
    assert statuses == [Status.GOOD, Status.CHECK_CONDITION, Status.CHECK_CONDITION]
    assert waiting.outcome.data == NEW
    assert nexus_of(one).outstanding == set()
    assert nexus_of(one).dispatch is unit.dispatch


def test_owner_that_sends_a_command_again_and_then_raises_gets_its_real_end(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, caplog: pytest.LogCaptureFixture
) -> None:
    statuses: list[int | None] = []

    def again(command: Command) -> None:
        statuses.append(command.status)
        if len(statuses) == 1:
            vdisk.immediate_bytes = NOT_NOW
            command.renew(again)
            nexus_of(other).submit(command)
            raise RuntimeError("broken front-end")

    begin(one, 0)
    submit(other, cdbs.block(cdbs.READ, 16, 0, 1), again)
    vdisk.release()
    vdisk.immediate_bytes = None
    with caplog.at_level(logging.ERROR):
        vdisk.release()
    assert "completion callback failed" in caplog.text
    assert statuses == [Status.GOOD]
    vdisk.release_all()
    assert statuses == [Status.GOOD, Status.GOOD]
    assert nexus_of(other).outstanding == set()


def test_atomic_command_that_ends_at_once_may_be_sent_again_and_have_to_wait(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator
) -> None:
    vdisk.immediate_bytes = None
    statuses: list[int | None] = []

    def again(command: Command) -> None:
        statuses.append(command.status)
        if len(statuses) == 1:
            vdisk.immediate_bytes = NOT_NOW
            command.renew(again)
            nexus_of(one).submit(command)

    command = submit(one, cdbs.compare_and_write(0, 1), again)
    assert nexus_of(one).outstanding == {command}
    waiting = read(one, 0)
    assert vdisk.names.count("read") == 1
    vdisk.release_all()
    assert statuses == [Status.GOOD, Status.CHECK_CONDITION]
    assert waiting.outcome.data == NEW
    assert nexus_of(one).dispatch is unit.dispatch


def test_atomic_command_sent_from_a_completion_does_not_pass_those_that_wait(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    ended: list[str] = []
    chained: list[Pending] = []

    def chain(command: Command) -> None:
        ended.append("first")
        chained.append(begin(one, 0, expected=OLD))

    submit(one, cdbs.compare_and_write(0, 1), chain)
    waiting = write(other, 0, OLD)
    vdisk.release_all()
    assert ended == ["first"]
    assert waiting.outcome.status == Status.GOOD
    assert chained[0].outcome.status == Status.GOOD
    assert vdisk.blocks(0, 1) == NEW


def test_thousands_of_waiting_commands_end_without_deep_recursion(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    atomic = begin(one, 0)
    pending = [
        begin(other, 0, expected=NEW) if number % 2 else read(one, 0) for number in range(4000)
    ]
    vdisk.immediate_bytes, vdisk.is_held = None, False
    vdisk.release_all()
    assert atomic.outcome.status == Status.GOOD
    assert {each.outcome.status for each in pending} == {Status.GOOD}
    assert nexus_of(one).dispatch is unit.dispatch
