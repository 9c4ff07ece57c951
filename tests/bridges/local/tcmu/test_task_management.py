# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel tells of tasks reaches the device server, and everybody else at it."""

from __future__ import annotations

import pytest

from bridges.local.tcmu.lead import Lead
from bridges.local.tcmu.task_management import carry_out
from scsi_backend.servers.disk import disk
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Pending, assert_check_condition, connect_unit


class Bench:
    """A disk that holds its reads, the kernel's session, and another initiator's."""

    def __init__(self) -> None:
        self.vdisk = FaultyVdisk(8)
        self.vdisk.immediate_bytes, self.vdisk.is_held = -11, True
        unit = disk(self.vdisk)
        self.kernel = connect_unit(unit)
        self.other = connect_unit(unit)
        for initiator in (self.kernel, self.other):
            initiator.send(cdbs.TEST_UNIT_READY)
        session = self.kernel.session
        self.lead = Lead.of("t", session, session.nexuses[0], 30)

    def read(self, initiator: Initiator) -> Pending:
        """A READ that is under way."""
        pending = initiator.start(cdbs.block(cdbs.READ, 10, 0, 1), room_bytes=512)
        assert not pending.is_done
        return pending

    def carry_out(self, function: int, *hit: Pending) -> bool:
        """What the kernel tells."""
        return carry_out(function, [each.command for each in hit], self.lead)


def test_aborted_task_ends_as_such() -> None:
    bench = Bench()
    first, second = bench.read(bench.kernel), bench.read(bench.kernel)
    assert bench.carry_out(1, first)
    bench.vdisk.release_all()
    assert (first.outcome.status, second.outcome.status) == (Status.TASK_ABORTED, Status.GOOD)


@pytest.mark.parametrize("function", [2, 4])
def test_task_set_of_the_nexus_ends(function: int) -> None:
    bench = Bench()
    mine, theirs = bench.read(bench.kernel), bench.read(bench.other)
    assert bench.carry_out(function)
    bench.vdisk.release_all()
    assert (mine.outcome.status, theirs.outcome.status) == (Status.TASK_ABORTED, Status.GOOD)


@pytest.mark.parametrize("function", [5, 6, 7])
def test_reset_ends_everybodys_commands_and_everybody_hears_of_it(function: int) -> None:
    bench = Bench()
    mine, theirs = bench.read(bench.kernel), bench.read(bench.other)
    assert bench.carry_out(function)
    bench.vdisk.release_all()
    for pending in (mine, theirs):
        assert pending.outcome.status == Status.TASK_ABORTED
    for initiator in (bench.kernel, bench.other):
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "06/29/03")


@pytest.mark.parametrize("function", [0, 3, 8, 128, 255])
def test_what_is_unknown_here_is_told(function: int) -> None:
    bench = Bench()
    assert not bench.carry_out(function)
    assert bench.kernel.send(cdbs.TEST_UNIT_READY).status == Status.GOOD


@pytest.mark.parametrize("function", [2, 4, 5, 6, 7])
def test_lun_that_is_gone_is_not_reset_but_what_is_under_way_ends(function: int) -> None:
    bench = Bench()
    mine, theirs = bench.read(bench.kernel), bench.read(bench.other)
    bench.kernel.session.reassign({})
    assert bench.carry_out(function)
    bench.vdisk.release_all()
    assert (mine.outcome.status, theirs.outcome.status) == (Status.TASK_ABORTED, Status.GOOD)
    assert bench.other.send(cdbs.TEST_UNIT_READY).status == Status.GOOD


def test_task_of_a_lun_that_is_gone_can_be_aborted() -> None:
    bench = Bench()
    first, second = bench.read(bench.kernel), bench.read(bench.kernel)
    bench.kernel.session.reassign({})
    assert bench.carry_out(1, first)
    bench.vdisk.release_all()
    assert (first.outcome.status, second.outcome.status) == (Status.TASK_ABORTED, Status.GOOD)
