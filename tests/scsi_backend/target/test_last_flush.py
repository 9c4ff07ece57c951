# SPDX-License-Identifier: GPL-2.0-or-later
"""A flush by a LUN that leads to another device than the writes before it."""

from __future__ import annotations

import errno
import logging

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.status import Status
from scsi_backend.target.last_flush import LastFlush, Unfinished, when_over
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Pending, assert_check_condition

WRITE = cdbs.block(cdbs.WRITE, 16, 0, 1)
FLUSH = cdbs.raw("91000000000000000000000000000000")
FLUSHES = [FLUSH, cdbs.raw("35000000000000000000"), cdbs.raw("91000000000000000005000000010000")]
IMMEDIATE_FLUSH = cdbs.raw("91020000000000000000000000000000")
MEDIUM_ERROR = "03/03/00"


class House:
    """Devices, and initiators of a target whose LUN 0 leads to ``a``."""

    def __init__(self) -> None:
        self.vdisks = {name: FaultyVdisk() for name in "abc"}
        self.units = {name: disk(vdisk) for name, vdisk in self.vdisks.items()}
        self.a, self.b, self.c = self.vdisks.values()
        self.target = Target("nbd", "target", 1)
        self.target.is_enabled = True
        self.map("a")
        self.initiator = self.log_in("initiator")

    def log_in(self, name: str) -> Initiator:
        """Another initiator, with its unit attention taken."""
        initiator = Initiator(self.target.open_session(name))
        initiator.send(cdbs.TEST_UNIT_READY)
        return initiator

    def map(self, name: str | None, *, is_read_only: bool = False) -> None:
        """Let LUN 0 lead to a device, or nowhere."""
        luns = {} if name is None else {0: LunEntry(self.units[name], is_read_only)}
        self.target.configure(luns=luns)
        self.tell()

    def tell(self) -> None:
        """Have everybody hear of the changes."""
        for session in self.target.sessions:
            for nexus in session.nexuses.values():
                while nexus.take_unit_attention():
                    pass

    def flush(self, cdb: bytes = FLUSH) -> Pending:
        """Begin a flush."""
        return self.initiator.start(cdb)

    def hold(self, vdisk: FaultyVdisk) -> None:
        """Let nothing end on a device before the test says so."""
        vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("cdb", FLUSHES, ids=bytes.hex)
def test_a_flush_waits_for_the_last_one_of_the_old_device(house: House, cdb: bytes) -> None:
    house.initiator.good(WRITE, bytes(512))
    house.hold(house.a)
    house.map("b")
    flush = house.flush(cdb)
    assert house.b.names == ["sync"]
    assert not flush.is_done
    assert house.initiator.session.nexuses[0].outstanding == {flush.command}
    house.a.release()
    assert flush.outcome.status == Status.GOOD
    assert house.initiator.session.nexuses[0].outstanding == set()
    assert "sync" in house.a.names


@pytest.mark.parametrize("cdb", [*FLUSHES, IMMEDIATE_FLUSH], ids=bytes.hex)
def test_a_flush_fails_where_the_last_one_of_the_old_device_has(
    house: House, cdb: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    house.a.faults.errno_of["sync"] = errno.EIO
    house.map("b")
    for _ in range(2):
        outcome = house.flush(cdb).outcome
        assert_check_condition(outcome, MEDIUM_ERROR, information=0)
    house.initiator.good(WRITE, bytes(512))
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    text = "faulty: the last flush for who left it failed: Input/output error"
    assert record.getMessage() == text


def test_a_flush_that_has_begun_fails_with_the_last_one_of_the_old_device(house: House) -> None:
    house.a.faults.errno_of["sync"] = errno.EIO
    house.hold(house.a)
    house.map("b")
    flush = house.flush()
    house.a.release()
    assert_check_condition(flush.outcome, MEDIUM_ERROR, information=0)


def test_a_flush_that_fails_on_the_new_device_waits_for_nothing(house: House) -> None:
    house.hold(house.a)
    house.map("b")
    house.b.faults.errno_of["sync"] = errno.ENOSPC
    assert_check_condition(house.flush().outcome, "07/27/07")


def test_afterwards_nothing_is_in_the_way_of_a_command(house: House) -> None:
    house.hold(house.a)
    house.map("b")
    nexus = house.initiator.session.nexuses[0]
    assert nexus.dispatch is not nexus.unit.dispatch
    house.a.release()
    assert nexus.dispatch is nexus.unit.dispatch


def test_the_last_flush_comes_after_what_is_still_under_way(house: House) -> None:
    house.hold(house.a)
    write = house.initiator.start(WRITE, bytes(512))
    house.map("b")
    flush = house.flush()
    assert house.a.names == ["write_now", "write"]
    house.a.release()
    assert write.outcome.status == Status.GOOD
    assert house.a.names == ["write_now", "write", "sync"]
    assert not flush.is_done
    house.a.release()
    assert flush.outcome.status == Status.GOOD


def test_a_flush_waits_for_every_device_that_the_lun_has_led_to(house: House) -> None:
    house.hold(house.a)
    house.hold(house.b)
    house.map("b")
    house.map("c")
    flush = house.flush()
    house.b.release()
    assert not flush.is_done
    house.a.release()
    assert flush.outcome.status == Status.GOOD


@pytest.mark.parametrize("is_disabled", [False, True])
def test_a_lun_that_was_away_meanwhile_still_depends_on_it(
    house: House, *, is_disabled: bool
) -> None:
    house.a.faults.errno_of["sync"] = errno.EIO
    house.target.is_enabled = not is_disabled
    house.map(None)
    house.target.is_enabled = True
    house.map("b")
    assert_check_condition(house.flush().outcome, MEDIUM_ERROR, information=0)


def test_a_device_made_read_only_is_flushed_for_those_who_wrote(house: House) -> None:
    house.hold(house.a)
    house.map("a", is_read_only=True)
    flush = house.flush()
    house.a.release_all()
    assert flush.outcome.status == Status.GOOD


def test_one_flush_is_for_all_initiators_and_none_of_it_for_those_that_come_later(
    house: House,
) -> None:
    other = house.log_in("other")
    house.hold(house.a)
    house.map("b")
    later = house.log_in("later")
    flushes = [house.flush(), other.start(FLUSH)]
    later.good(FLUSH)
    assert [each.is_done for each in flushes] == [False, False]
    assert len(house.a.held) == 1
    house.a.release()
    assert [each.outcome.status for each in flushes] == [Status.GOOD] * 2


def test_luns_that_stay_depend_on_nothing(house: House) -> None:
    house.target.configure(luns={**house.target.luns, 1: LunEntry(house.units["b"])})
    house.hold(house.a)
    house.target.configure(luns={0: LunEntry(house.units["c"]), 1: LunEntry(house.units["b"])})
    house.tell()
    Initiator(house.initiator.session, 1).good(FLUSH)
    assert not house.flush().is_done
    house.a.release()


def test_a_waiting_flush_can_be_aborted(house: House) -> None:
    house.hold(house.a)
    house.map("b")
    flush = house.flush()
    answers: list[object] = []
    house.initiator.session.manage(2, 0, lambda command: True, answers.append)
    assert answers == []
    house.a.release()
    assert flush.outcome.status == Status.TASK_ABORTED
    assert len(answers) == 1


@pytest.mark.parametrize("is_in_order", [False, True])
def test_commands_behind_an_ordered_flush_do_not_wait_for_each_other(
    house: House, *, is_in_order: bool
) -> None:
    house.hold(house.a)
    house.map("b")
    nexus = house.initiator.session.nexuses[0]
    house.units["b"].lock.orders_all = is_in_order
    flushes = [Pending(FLUSH, None, None) for _ in range(3)]
    for flush in flushes:
        nexus.receive(flush.command, TaskAttribute.ORDERED)
    ready = house.initiator.start(WRITE, bytes(512))
    house.a.release()
    assert [each.outcome.status for each in [*flushes, ready]] == [Status.GOOD] * 4
    assert nexus.outstanding == set()


def test_whoever_knows_of_the_change_need_not_wait(house: House) -> None:
    house.hold(house.a)
    house.map("b")
    session = house.initiator.session
    session.forget_last_flushes()
    assert session.nexuses[0].dispatch is house.units["b"].dispatch
    house.initiator.good(FLUSH)
    house.a.release()
    house.initiator.good(FLUSH)


@pytest.mark.parametrize("code", [0, errno.EIO])
@pytest.mark.parametrize("is_over", [False, True])
def test_the_next_session_depends_on_what_was_not_over_at_the_end_of_one(
    house: House, code: int, *, is_over: bool
) -> None:
    house.a.faults.errno_of = {"sync": code} if code else {}
    house.hold(house.a)
    house.map("b")
    house.initiator.session.close()
    if is_over:
        house.a.release()
    house.log_in("other").good(FLUSH)
    house.initiator = house.log_in("initiator")
    flush = house.flush()
    assert flush.is_done == is_over
    house.a.release_all()
    if code:
        assert_check_condition(flush.outcome, MEDIUM_ERROR, information=0)
    else:
        assert flush.outcome.status == Status.GOOD


def test_the_next_session_has_no_part_in_what_had_failed_before(house: House) -> None:
    house.a.faults.errno_of["sync"] = errno.EIO
    house.map("b")
    house.initiator.session.close()
    house.initiator = house.log_in("initiator")
    assert house.flush().outcome.status == Status.GOOD


def test_what_several_sessions_of_one_name_leave_is_kept_until_it_is_over() -> None:
    unfinished, flushes = Unfinished(), [LastFlush("one"), LastFlush("two"), LastFlush("three")]
    for lun, flush in enumerate(flushes):
        unfinished.leave("name", [(lun, flush)])
    flushes[1].end(0)
    flushes[2].end(-errno.EIO)
    unfinished.leave("other", [])
    assert unfinished.take("name") == [(0, flushes[0]), (2, flushes[2])]
    assert unfinished.take("name") == []


def test_of_several_one_that_failed_is_told() -> None:
    results: list[int] = []
    flushes = [LastFlush("one"), LastFlush("two")]
    when_over(flushes, results.append)
    flushes[1].end(-errno.EIO)
    assert results == []
    flushes[0].end(0)
    when_over(flushes, results.append)
    when_over([], results.append)
    assert results == [-errno.EIO, -errno.EIO, 0]
