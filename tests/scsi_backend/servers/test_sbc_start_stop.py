# SPDX-License-Identifier: GPL-2.0-or-later
"""START STOP UNIT: a flush, whatever it is asked for."""

from __future__ import annotations

import errno

import pytest

from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import assert_check_condition, connect


@pytest.mark.parametrize(
    "cdb",
    ["1b0000000000", "1b0000000100", "1b0000001000", "1b0000002000", "1b0000003000"],
    ids=["stop", "start", "active", "idle", "standby"],
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
    initiator.good(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)


def test_no_flush_does_not_flush() -> None:
    vdisk = FaultyVdisk()
    connect(vdisk).good(cdbs.raw("1b0000000400"))
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


@pytest.mark.parametrize(
    ("cdb", "at"),
    [
        ("1b0000000200", (4, 1)),
        ("1b0000000300", (4, 1)),
        ("1b0000004000", (4, 7)),
        ("1b000000a000", (4, 7)),
    ],
    ids=["eject", "load", "condition 4", "force idle"],
)
def test_there_is_nothing_to_eject_and_no_other_power_condition(
    cdb: str, at: tuple[int, int]
) -> None:
    vdisk = FaultyVdisk()
    assert_check_condition(connect(vdisk).send(cdbs.raw(cdb)), "05/24/00", at=at)
    assert vdisk.names == []
