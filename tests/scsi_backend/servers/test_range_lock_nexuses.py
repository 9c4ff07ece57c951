# SPDX-License-Identifier: GPL-2.0-or-later
"""The range lock beside what else happens to nexuses: joining, closing, attentions, protection."""

from __future__ import annotations

from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10 import sense
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Pending, assert_check_condition
from tests.scsi_backend.locking import NEW, OLD, begin, join, nexus_of, read, write


def test_nexus_that_joins_meanwhile_is_kept_out(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator
) -> None:
    begin(one, 0)
    late = join(unit)
    pending = read(late, 0)
    vdisk.release_all()
    assert pending.outcome.data == NEW
    assert nexus_of(late).dispatch is unit.dispatch


def test_waiting_command_of_a_closed_session_still_ends(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    begin(one, 0)
    waiting = write(other, 0, OLD)
    nexus = nexus_of(other)
    other.session.close()
    vdisk.release_all()
    assert waiting.outcome.status == Status.GOOD
    assert vdisk.blocks(0, 1) == OLD
    assert nexus.outstanding == set()


def test_waiting_atomic_command_of_a_closed_session_still_ends_and_lets_go(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    write(one, 0, OLD)
    atomic = begin(other, 0)
    other.session.close()
    waiting = read(one, 0)
    vdisk.release_all()
    assert atomic.outcome.status == Status.GOOD
    assert waiting.outcome.data == NEW
    assert nexus_of(one).dispatch is unit.dispatch


def test_atomic_command_waits_for_what_a_closed_session_left_outstanding(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    left = write(other, 0, NEW)
    other.session.close()
    atomic = begin(one, 0, expected=NEW)
    assert vdisk.names == ["write_now", "write"]
    vdisk.release_all()
    assert (left.outcome.status, atomic.outcome.status) == (Status.GOOD, Status.GOOD)


def test_command_sent_after_its_session_closed_is_kept_out_too(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    nexus = nexus_of(other)
    other.session.close()
    begin(one, 0)
    late = Pending(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)
    nexus.submit(late.command)
    vdisk.release_all()
    assert late.outcome.data == NEW


def test_unit_attention_comes_before_the_lock_and_does_not_wait(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    begin(one, 0)
    waiting = read(other, 0)
    unit.raise_unit_attention(sense.CAPACITY_CHANGED)
    assert_check_condition(read(other, 0).outcome, "06/2A/09")
    again = read(other, 0)
    assert not again.is_done
    vdisk.release_all()
    assert (waiting.outcome.data, again.outcome.data) == (NEW, NEW)
    assert_check_condition(read(one, 0).outcome, "06/2A/09")
    assert nexus_of(one).dispatch is nexus_of(other).dispatch is unit.dispatch


def test_unit_attention_pending_when_the_lock_comes_and_goes_is_still_reported(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    nexus_of(other).establish_unit_attention(sense.CAPACITY_CHANGED)
    begin(one, 0)
    vdisk.release_all()
    assert_check_condition(read(other, 0).outcome, "06/2A/09")
    assert nexus_of(other).dispatch is unit.dispatch


def test_write_protected_nexus_refuses_at_once_and_reads_after_the_atomic_command(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator
) -> None:
    reader = join(unit, is_read_only=True)
    begin(one, 0)
    assert_check_condition(write(reader, 0, OLD).outcome, "07/27/00")
    assert_check_condition(begin(reader, 0).outcome, "07/27/00")
    waiting = read(reader, 0)
    assert not waiting.is_done
    vdisk.release_all()
    assert waiting.outcome.data == NEW
    assert_check_condition(write(reader, 0, OLD).outcome, "07/27/00")
