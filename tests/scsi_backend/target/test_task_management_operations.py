# SPDX-License-Identifier: GPL-2.0-or-later
"""Task management while a medium is sanitized: its command ends, and it goes on (SBC-4 4.11.2)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import (
    abort_task,
    abort_task_set,
    clear_task_set,
    i_t_nexus_reset,
    logical_unit_reset,
    target_reset,
)
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import assert_check_condition
from tests.scsi_backend.locking import join, nexus_of, write


class Site:
    """A SANITIZE that waits for its storage, of one of two initiators."""

    def __init__(self, *, is_immediate: bool = False) -> None:
        self.vdisk = FaultyVdisk(64)
        self.unit = disk(self.vdisk)
        self.mine, self.theirs = join(self.unit), join(self.unit)
        self.vdisk.is_held = True
        self.vdisk.immediate_bytes = NOT_NOW
        cdb = cdbs.sanitize(cdbs.OVERWRITE, 5, 0x80 if is_immediate else 0)
        self.sanitize = self.mine.start(cdb, bytes((1, 0, 0, 1, 0x5A)))
        self.finished = 0

    def finish(self) -> None:
        """Count the completion of a function."""
        self.finished += 1

    def assert_goes_on(self) -> None:
        """The operation is under way for everybody, and comes to its end."""
        for initiator in (self.mine, self.theirs):
            outcome = initiator.send(cdbs.TEST_UNIT_READY)
            if outcome.sense is not None and outcome.sense.key == 0x06:
                outcome = initiator.send(cdbs.TEST_UNIT_READY)
            assert_check_condition(outcome, "02/04/1b", progress=0)
        self.vdisk.release_all()
        self.theirs.good(cdbs.TEST_UNIT_READY)
        assert self.vdisk.data == b"\x5a" * 64 * 512


FUNCTIONS: dict[str, Callable[[Site], None]] = {
    "abort task": lambda site: abort_task(nexus_of(site.mine), site.sanitize.command, site.finish),
    "abort task set": lambda site: abort_task_set(nexus_of(site.mine), site.finish),
    "clear task set": lambda site: clear_task_set(nexus_of(site.mine), site.finish),
    "unit reset": lambda site: logical_unit_reset(site.unit, site.finish),
    "target reset": lambda site: target_reset([site.unit], site.finish),
    "nexus reset": lambda site: i_t_nexus_reset([nexus_of(site.mine)], site.finish),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_function_is_complete_at_once_and_the_operation_goes_on(
    function: Callable[[Site], None],
) -> None:
    site = Site()
    function(site)
    assert site.sanitize.outcome.status == Status.TASK_ABORTED
    assert site.finished == 1
    site.assert_goes_on()
    assert nexus_of(site.mine).outstanding == nexus_of(site.mine).aborted == set()


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_immediate_operation_goes_on(function: Callable[[Site], None]) -> None:
    site = Site(is_immediate=True)
    assert site.sanitize.outcome.status == Status.GOOD
    function(site)
    assert site.finished == 1
    site.assert_goes_on()


def test_functions_for_others_leave_the_command_alone() -> None:
    site = Site()
    abort_task_set(nexus_of(site.theirs), site.finish)
    assert not site.sanitize.is_done
    site.assert_goes_on()
    assert site.sanitize.outcome.status == Status.GOOD


def test_commands_that_came_before_are_aborted_as_ever() -> None:
    vdisk = FaultyVdisk(64)
    unit = disk(vdisk)
    one, other = join(unit), join(unit)
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    earlier = write(other, 0, b"\xaa" * 512)
    sanitize = one.start(cdbs.sanitize(cdbs.OVERWRITE, 5), bytes((1, 0, 0, 1, 0x5A)))
    finished: list[bool] = []
    logical_unit_reset(unit, lambda: finished.append(True))
    assert sanitize.outcome.status == Status.TASK_ABORTED
    assert (earlier.is_done, finished) == (False, [])
    vdisk.release()
    assert earlier.outcome.status == Status.TASK_ABORTED
    assert finished == [True]
    vdisk.release_all()
    assert vdisk.data == b"\x5a" * 64 * 512


@pytest.mark.parametrize("qerr", [1, 3])
def test_a_command_that_is_refused_takes_it_along_as_qerr_says(qerr: int) -> None:
    site = Site()
    site.unit.modes.put(replace(site.unit.control, qerr=qerr))
    site.theirs.send(cdbs.TEST_UNIT_READY)
    assert not site.sanitize.is_done
    site.mine.send(cdbs.TEST_UNIT_READY)
    assert site.sanitize.outcome.status == Status.TASK_ABORTED
    site.assert_goes_on()


@pytest.mark.parametrize("qerr", [0, 1, 3])
def test_failure_is_the_commands_own_whatever_qerr_says(qerr: int) -> None:
    site = Site()
    site.unit.modes.put(replace(site.unit.control, qerr=qerr))
    site.vdisk.faults.errno_of["write"] = errno.EIO
    site.vdisk.release_all()
    assert_check_condition(site.sanitize.outcome, "03/31/03")


def test_failure_after_an_abort_is_a_deferred_error() -> None:
    site = Site()
    abort_task_set(nexus_of(site.mine), site.finish)
    site.vdisk.faults.errno_of["write"] = errno.EIO
    site.vdisk.release_all()
    assert_check_condition(site.mine.send(cdbs.TEST_UNIT_READY), "03/31/03", deferred=True)
    assert_check_condition(site.mine.send(cdbs.TEST_UNIT_READY), "03/31/03")
