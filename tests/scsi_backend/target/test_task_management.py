# SPDX-License-Identifier: GPL-2.0-or-later
"""Task management and QERR: which commands are aborted, who hears of it, when it is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import (
    TaskManagementFunction,
    abort_task,
    abort_task_set,
    clear_task_set,
    i_t_nexus_reset,
    logical_unit_reset,
    target_reset,
)
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Pending, assert_check_condition
from tests.scsi_backend.locking import join, nexus_of, read


class Site:
    """A disk that waits for the test, with two initiators that have a read under way each."""

    def __init__(self, *, tst: int = 1) -> None:
        self.vdisk = FaultyVdisk(64)
        self.vdisk.tst = tst
        self.unit = disk(self.vdisk)
        self.mine, self.theirs = join(self.unit), join(self.unit)
        self.vdisk.immediate_bytes, self.vdisk.is_held = NOT_NOW, True
        self.my_read, self.their_read = read(self.mine, 0), read(self.theirs, 1)
        self.finished = 0

    def finish(self) -> None:
        """Count the completion of a function."""
        self.finished += 1

    @property
    def statuses(self) -> tuple[int, int]:
        """How the two reads ended."""
        return self.my_read.outcome.status, self.their_read.outcome.status


def abort_mine(site: Site) -> None:
    abort_task(nexus_of(site.mine), site.my_read.command, site.finish)


def abort_all_mine(site: Site) -> None:
    abort_task_set(nexus_of(site.mine), site.finish)


def clear(site: Site) -> None:
    clear_task_set(nexus_of(site.mine), site.finish)


def reset_unit(site: Site) -> None:
    logical_unit_reset(site.unit, site.finish)


def reset_nexus(site: Site) -> None:
    i_t_nexus_reset([nexus_of(site.mine)], site.finish)


def reset_target(site: Site) -> None:
    target_reset([site.unit], site.finish)


def test_functions_have_the_numbers_that_doors_send() -> None:
    assert {function.name: function.value for function in TaskManagementFunction} == {
        "ABORT_TASK": 1,
        "ABORT_TASK_SET": 2,
        "CLEAR_TASK_SET": 3,
        "LOGICAL_UNIT_RESET": 4,
        "TARGET_RESET": 5,
        "I_T_NEXUS_RESET": 6,
    }


GOOD, ABORTED = Status.GOOD, Status.TASK_ABORTED


# function, TST, status of the own and of the other read, unit attentions of both afterwards
@pytest.mark.parametrize(
    ("function", "tst", "statuses", "attentions"),
    [
        (abort_mine, 1, (ABORTED, GOOD), (None, None)),
        (abort_all_mine, 1, (ABORTED, GOOD), (None, None)),
        (abort_all_mine, 0, (ABORTED, GOOD), (None, None)),
        (clear, 1, (ABORTED, GOOD), (None, None)),
        (clear, 0, (ABORTED, ABORTED), (None, "06/2F/00")),
        (reset_unit, 1, (ABORTED, ABORTED), ("06/29/03", "06/29/03")),
        (reset_target, 1, (ABORTED, ABORTED), ("06/29/03", "06/29/03")),
        (reset_nexus, 1, (ABORTED, GOOD), ("06/29/07", None)),
    ],
)
def test_function_aborts_and_tells_whom_it_concerns(
    function: Callable[[Site], None],
    tst: int,
    statuses: tuple[int, int],
    attentions: tuple[str | None, str | None],
) -> None:
    site = Site(tst=tst)
    function(site)
    site.vdisk.release_all()
    assert site.statuses == statuses
    assert site.finished == 1
    for initiator, attention in zip((site.mine, site.theirs), attentions, strict=True):
        _expect(initiator, attention)


def _expect(initiator: Initiator, attention: str | None) -> None:
    if attention is not None:
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), attention)
    initiator.good(cdbs.TEST_UNIT_READY)


def test_function_is_complete_when_the_last_aborted_command_has_ended() -> None:
    site = Site()
    reset_unit(site)
    site.vdisk.release()
    assert site.finished == 0
    site.vdisk.release()
    assert site.finished == 1


def test_function_that_finds_nothing_is_complete_at_once() -> None:
    site = Site()
    site.vdisk.release_all()
    for function in (abort_mine, abort_all_mine, clear, reset_unit, reset_nexus, reset_target):
        function(site)
    assert site.finished == 6
    assert site.statuses == (GOOD, GOOD)


def test_aborted_command_may_be_sent_once_more() -> None:
    site = Site()
    abort_mine(site)
    again = Pending(site.my_read.command.cdb, None, 512)

    def resend(command: object) -> None:
        site.mine.session.submit(0, again.command)

    site.my_read.command.on_done = resend
    site.vdisk.release_all()
    assert again.outcome.status == Status.GOOD


def _fail_mine(site: Site) -> Pending:
    """End a command of the own initiator with CHECK CONDITION."""
    return site.mine.start(cdbs.block(cdbs.READ, 16, 1000, 1), None, 512)


# QERR, TST, status of the own and of the other read (SPC-5 table 458)
@pytest.mark.parametrize(
    ("qerr", "tst", "statuses"),
    [
        (0, 1, (GOOD, GOOD)),
        (1, 1, (ABORTED, GOOD)),
        (3, 1, (ABORTED, GOOD)),
        (0, 0, (GOOD, GOOD)),
        (1, 0, (ABORTED, ABORTED)),
        (3, 0, (ABORTED, GOOD)),
    ],
)
def test_check_condition_aborts_what_qerr_says(
    qerr: int, tst: int, statuses: tuple[int, int]
) -> None:
    site = Site(tst=tst)
    site.unit.modes.put(replace(site.unit.control, qerr=qerr))
    assert _fail_mine(site).outcome.status == Status.CHECK_CONDITION
    site.vdisk.release_all()
    assert site.statuses == statuses


@pytest.mark.parametrize(("tas", "attention"), [(False, "06/2F/00"), (True, None)])
def test_others_hear_of_it_by_unit_attention_where_tas_is_zero(
    tas: bool, attention: str | None
) -> None:
    site = Site(tst=0)
    site.unit.modes.put(replace(site.unit.control, qerr=1, tas=tas))
    _fail_mine(site)
    site.vdisk.release_all()
    _expect(site.mine, None)
    _expect(site.theirs, attention)


def test_write_that_is_under_way_reaches_the_medium_although_aborted() -> None:
    site = Site()
    pending = site.mine.start(cdbs.block(cdbs.WRITE, 16, 5, 1), b"\xaa" * 512)
    abort_all_mine(site)
    site.vdisk.release_all()
    assert pending.outcome.status == Status.TASK_ABORTED
    assert site.vdisk.blocks(5, 1) == b"\xaa" * 512


def test_reset_reaches_every_unit_of_the_target() -> None:
    units: list[LogicalUnit] = [disk(FaultyVdisk()), disk(FaultyVdisk())]
    initiators = [join(unit) for unit in units]
    finished: list[bool] = []
    target_reset(units, lambda: finished.append(True))
    for initiator in initiators:
        _expect(initiator, "06/29/03")
    assert finished == [True]


def test_reset_gives_mode_parameters_their_values_back() -> None:
    unit = disk(FaultyVdisk())
    unit.modes.put(replace(unit.control, wce=False, d_sense=True, qerr=1))
    logical_unit_reset(unit, lambda: None)
    assert unit.control == unit.modes.default


WRITE_ECHO, READ_ECHO = cdbs.raw("3b0a0000000000000400"), cdbs.raw("3c0a0000000000000400")
WRITE_DATA, READ_DATA = cdbs.raw("3b020000000000000400"), cdbs.raw("3c020000000000000400")
COPY_STATUS = cdbs.raw("84000100000000000000000000ff0000")
# List identifier 1 without segments, whose status is held.
COPY_NOTHING = bytes((1,)) + bytes(15)


@pytest.mark.parametrize("reset", [reset_unit, reset_nexus, reset_target])
def test_reset_drops_what_was_kept_for_a_nexus(reset: Callable[[Site], None]) -> None:
    site = Site()
    for initiator in (site.mine, site.theirs):
        initiator.good(WRITE_ECHO, b"echo")
        initiator.good(cdbs.raw("83000000000000000000000000100000"), COPY_NOTHING)
    site.mine.good(WRITE_DATA, b"data")
    reset(site)
    site.vdisk.release_all()
    is_everybodys = reset is not reset_nexus
    for initiator, is_dropped in ((site.mine, True), (site.theirs, is_everybodys)):
        nexus_of(initiator).take_unit_attention()
        echo = initiator.send(READ_ECHO, None, 4)
        status = initiator.send(COPY_STATUS, None, 255)
        if is_dropped:
            assert_check_condition(echo, "05/2c/00")
            assert_check_condition(status, "05/24/00", at=(2, 7))
        else:
            assert echo.data == b"echo"
            assert status.data[4] == 0x01
    data = site.theirs.good(READ_DATA, None, 4)
    assert data == (bytes(4) if is_everybodys else b"data")
