# SPDX-License-Identifier: GPL-2.0-or-later
"""START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL: a flush, or a medium that comes and goes."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import ManagementResponse, TaskManagementFunction
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect
from tests.scsi_backend.locking import OLD, begin, join, write

EJECT, EJECT_IMMED, LOAD, LOAD_IMMED = (
    "1b0000000200",
    "1b0100000200",
    "1b0000000300",
    "1b0100000300",
)
PREVENT, ALLOW = cdbs.raw("1e0000000100"), cdbs.raw("1e0000000000")


@pytest.mark.parametrize(
    "cdb",
    ["1b0000000000", "1b0000000100", *(f"1b000000{value:x}000" for value in range(1, 16))],
)
def test_the_medium_is_stable_before_the_status_and_the_disk_goes_on(cdb: str) -> None:
    vdisk = FaultyVdisk()
    initiator = connect(vdisk)
    vdisk.is_held = True
    pending = initiator.start(cdbs.raw(cdb))
    assert vdisk.names == ["sync"]
    assert not pending.is_done
    vdisk.release()
    assert pending.outcome.sense is None
    initiator.good(cdbs.TEST_UNIT_READY)
    initiator.good(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)


@pytest.mark.parametrize("cdb", ["1b0000000400", "1b0000000500", "1b0000003400"])
def test_no_flush_does_not_flush(cdb: str) -> None:
    vdisk = FaultyVdisk()
    connect(vdisk).good(cdbs.raw(cdb))
    assert vdisk.names == []


def test_a_flush_that_fails_fails_the_command() -> None:
    vdisk = FaultyVdisk()
    vdisk.faults.errno_of["sync"] = errno.EIO
    outcome = connect(vdisk).send(cdbs.raw("1b0000000000"))
    assert_check_condition(outcome, "03/03/00", information=0)


def test_immed_ends_before_the_flush_whose_failure_is_deferred() -> None:
    vdisk = FaultyVdisk()
    vdisk.faults.errno_of["sync"] = errno.EIO
    initiator = connect(vdisk)
    vdisk.is_held = True
    initiator.good(cdbs.raw("1b0100000000"))
    vdisk.release()
    outcome = initiator.send(cdbs.TEST_UNIT_READY)
    assert_check_condition(outcome, "03/03/00", information=0, deferred=True)


@pytest.mark.parametrize("cdb", [EJECT, EJECT_IMMED, LOAD, LOAD_IMMED])
def test_what_is_not_removable_is_neither_ejected_nor_loaded(cdb: str) -> None:
    vdisk = FaultyVdisk()
    assert_check_condition(connect(vdisk).send(cdbs.raw(cdb)), "05/24/00", at=(4, 1))
    assert vdisk.names == []


@pytest.fixture
def vdisk() -> FaultyVdisk:
    vdisk = FaultyVdisk(is_thin=True)
    vdisk.is_removable = True
    return vdisk


@pytest.fixture
def unit(vdisk: FaultyVdisk) -> LogicalUnit:
    return disk(vdisk)


@pytest.fixture
def one(unit: LogicalUnit) -> Initiator:
    return join(unit)


@pytest.fixture
def other(unit: LogicalUnit) -> Initiator:
    return join(unit)


# What SPC and SBC let a device do that has no medium, of the commands of a disk.
WORKS_WITHOUT = {0x03, 0x12, 0x15, 0x1A, 0x1B, 0x1C, 0x1E, 0x3B, 0x3C, 0x4C, 0x4D, 0x55, 0x5A}
WORKS_WITHOUT |= {0x16, 0x17, 0x56, 0x57, 0x5E, 0x5F, 0x84, 0xA0, 0xA3, 0xA4}


def test_every_command_that_needs_a_medium_says_that_there_is_none(
    unit: LogicalUnit, one: Initiator, vdisk: FaultyVdisk
) -> None:
    before = vdisk.fill()
    one.good(cdbs.raw(EJECT_IMMED))
    refused = set()
    for opcode, rows in unit.rows.items():
        for row in rows:
            cdb = bytes((opcode, row.service_action or 0)).ljust(32, b"\0")
            outcome = one.send(cdb, bytes(128 << 10), 128 << 10)
            if outcome.sense is not None and outcome.sense.code == 0x3A00:
                assert_check_condition(outcome, "02/3a/00")
                refused.add(opcode)
    # START STOP UNIT of zeros is a flush.
    assert refused == set(unit.rows) - WORKS_WITHOUT
    assert {0x00, 0x08, 0x0A, 0x25, 0x28, 0x2F, 0x35, 0x42, 0x89, 0x93, 0x9E} <= refused
    assert vdisk.data == before


def test_ejected_medium_comes_back_as_it_was_and_the_others_hear_of_it(
    one: Initiator, other: Initiator, vdisk: FaultyVdisk
) -> None:
    write = cdbs.block(cdbs.WRITE, 16, 7, 1)
    one.good(write, b"\xaa" * 512)
    for eject, load in ((EJECT, LOAD), (EJECT_IMMED, LOAD_IMMED)):
        one.good(cdbs.raw(eject))
        for initiator in (one, other):
            assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "02/3a/00")
            assert_check_condition(initiator.send(write, bytes(512)), "02/3a/00")
        one.good(cdbs.raw(load))
        one.good(cdbs.TEST_UNIT_READY)
        assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/28/00")
        other.good(cdbs.TEST_UNIT_READY)
    assert one.good(cdbs.block(cdbs.READ, 16, 7, 1), None, 512) == b"\xaa" * 512
    assert vdisk.names.count("sync") == 2


def test_ejecting_what_is_out_and_loading_what_is_in_changes_nothing(
    one: Initiator, other: Initiator, vdisk: FaultyVdisk
) -> None:
    one.good(cdbs.raw(LOAD))
    other.good(cdbs.TEST_UNIT_READY)
    for _ in range(2):
        one.good(cdbs.raw(EJECT))
    assert vdisk.names == ["sync"]


def test_a_power_condition_makes_loej_ignored(one: Initiator) -> None:
    for value in range(1, 16):
        one.good(cdbs.raw(f"1b010000{value:x}200"))
        one.good(cdbs.TEST_UNIT_READY)


def test_without_loej_a_unit_without_medium_cannot_start_but_stop(one: Initiator) -> None:
    one.good(cdbs.raw(EJECT))
    assert_check_condition(one.send(cdbs.raw("1b0000000100")), "02/3a/00")
    one.good(cdbs.raw("1b0000000000"))
    one.good(cdbs.raw("1b0000002000"))
    assert_check_condition(one.send(cdbs.TEST_UNIT_READY), "02/3a/00")


def test_what_was_written_is_stable_before_the_ejection_is_told(
    one: Initiator, other: Initiator, vdisk: FaultyVdisk
) -> None:
    vdisk.is_held = True
    pending = one.start(cdbs.raw(EJECT))
    assert vdisk.names == ["sync"]
    assert not pending.is_done
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "02/3a/00")
    vdisk.release()
    assert pending.outcome.sense is None


@pytest.mark.parametrize("cdb", [EJECT, EJECT_IMMED, "1b0000000600"])
def test_what_came_before_an_ejection_is_written_before_its_flush(
    one: Initiator, other: Initiator, vdisk: FaultyVdisk, cdb: str
) -> None:
    vdisk.data[:512] = OLD
    vdisk.is_held, vdisk.immediate_bytes = True, NOT_NOW
    atomic = begin(other, 0)
    waiting = write(other, 0, OLD)
    ejection = one.start(cdbs.raw(cdb))
    assert ejection.is_done is (cdb == EJECT_IMMED)
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "02/3a/00")
    vdisk.release_all()
    for pending in (atomic, waiting, ejection):
        assert pending.outcome.status == Status.GOOD
    flushes = [] if cdb == "1b0000000600" else ["sync"]
    writes = ["write_now", "write", "write_now", "write"]
    assert vdisk.names == ["read_now", "read", *writes, *flushes]


def test_ejecting_without_flush(one: Initiator, vdisk: FaultyVdisk) -> None:
    one.good(cdbs.raw("1b0000000600"))
    assert vdisk.names == []
    assert_check_condition(one.send(cdbs.TEST_UNIT_READY), "02/3a/00")


@pytest.mark.parametrize("is_immediate", [False, True])
def test_a_medium_that_cannot_be_flushed_stays_in(
    one: Initiator, other: Initiator, vdisk: FaultyVdisk, is_immediate: bool
) -> None:
    vdisk.is_held = True
    vdisk.faults.errno_of["sync"] = errno.EIO
    pending = one.start(cdbs.raw(EJECT_IMMED if is_immediate else EJECT))
    assert pending.is_done is is_immediate
    vdisk.release()
    outcome = one.send(cdbs.TEST_UNIT_READY) if is_immediate else pending.outcome
    assert_check_condition(outcome, "03/03/00", information=0, deferred=is_immediate)
    one.good(cdbs.TEST_UNIT_READY)
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/28/00")
    other.good(cdbs.TEST_UNIT_READY)


def test_a_medium_that_was_loaded_meanwhile_is_loaded_once(
    one: Initiator, other: Initiator, vdisk: FaultyVdisk
) -> None:
    vdisk.is_held = True
    vdisk.faults.errno_of["sync"] = errno.EIO
    pending = one.start(cdbs.raw(EJECT))
    other.good(cdbs.raw(LOAD))
    assert_check_condition(one.send(cdbs.TEST_UNIT_READY), "06/28/00")
    vdisk.release()
    assert_check_condition(pending.outcome, "03/03/00", information=0)
    other.good(cdbs.TEST_UNIT_READY)


@pytest.mark.parametrize("cdb", [EJECT, EJECT_IMMED, "1b0000000600"])
def test_a_medium_whose_removal_anybody_prevents_stays_in(
    one: Initiator, other: Initiator, vdisk: FaultyVdisk, cdb: str
) -> None:
    for initiator in (one, other):
        initiator.good(PREVENT)
    for keeper in (one, other):
        for initiator in (one, other):
            assert_check_condition(initiator.send(cdbs.raw(cdb)), "05/53/02")
            initiator.good(cdbs.TEST_UNIT_READY)
        keeper.good(ALLOW)
    assert vdisk.names == []
    one.good(cdbs.raw(cdb))
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "02/3a/00")


def test_a_medium_that_is_out_stays_out_while_it_is_prevented(one: Initiator) -> None:
    one.good(cdbs.raw(EJECT))
    one.good(PREVENT)
    assert_check_condition(one.send(cdbs.raw(LOAD)), "05/53/02")
    one.good(cdbs.raw(EJECT))
    one.good(ALLOW)
    one.good(cdbs.raw(LOAD))
    one.good(PREVENT)
    one.good(cdbs.raw(LOAD))


def test_whoever_logs_out_prevents_nothing_any_more(one: Initiator, other: Initiator) -> None:
    one.good(PREVENT)
    assert_check_condition(other.send(cdbs.raw(EJECT)), "05/53/02")
    one.session.close()
    other.good(cdbs.raw(EJECT))


@pytest.mark.parametrize(
    ("function", "frees"),
    [
        (TaskManagementFunction.ABORT_TASK_SET, False),
        (TaskManagementFunction.CLEAR_TASK_SET, False),
        (TaskManagementFunction.LOGICAL_UNIT_RESET, True),
        (TaskManagementFunction.TARGET_RESET, True),
        (TaskManagementFunction.I_T_NEXUS_RESET, True),
    ],
)
def test_a_reset_or_the_loss_of_the_nexus_ends_prevention(
    unit: LogicalUnit, one: Initiator, function: TaskManagementFunction, frees: bool
) -> None:
    responses: list[ManagementResponse] = []
    one.good(PREVENT)
    one.session.manage(function, 0, lambda command: False, responses.append)
    assert responses == [ManagementResponse.FUNCTION_COMPLETE]
    assert unit.medium.is_removal_prevented is not frees


def test_the_loss_of_a_nexus_leaves_what_others_prevent(one: Initiator, other: Initiator) -> None:
    one.good(PREVENT)
    other.good(PREVENT)
    one.session.manage(TaskManagementFunction.I_T_NEXUS_RESET, 0, lambda _: False, lambda _: None)
    assert_check_condition(other.send(cdbs.raw(EJECT)), "05/53/02")
    other.good(ALLOW)
    other.good(cdbs.raw(EJECT))


def test_a_reset_does_not_bring_a_medium_back(unit: LogicalUnit, one: Initiator) -> None:
    one.good(cdbs.raw(EJECT))
    unit.reset()
    assert_check_condition(one.send(cdbs.TEST_UNIT_READY), "02/3a/00")


@pytest.mark.parametrize("prevent", [2, 3])
def test_obsolete_values_of_prevent_are_refused(one: Initiator, prevent: int) -> None:
    outcome = one.send(cdbs.raw(f"1e000000{prevent:02x}00"))
    assert_check_condition(outcome, "05/24/00", at=(4, 1))
    one.good(cdbs.raw(EJECT))


def test_a_disk_that_is_not_removable_takes_prevent_and_allow() -> None:
    initiator = connect(FaultyVdisk())
    initiator.good(PREVENT)
    initiator.good(ALLOW)
