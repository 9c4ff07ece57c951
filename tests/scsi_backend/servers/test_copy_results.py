# SPDX-License-Identifier: GPL-2.0-or-later
"""What is remembered of copy operations, for how long and for whom."""

from __future__ import annotations

import gc
import weakref

import pytest

from scsi_backend.servers.command import CheckCondition
from scsi_backend.servers.copy_results import (
    STATUS_KEPT_S,
    CopyOperation,
    CopyOperations,
    HeldResults,
)
from scsi_backend.t10.extended_copy import CopyManagerStatus
from scsi_backend.t10.sense import WRITE_ERROR
from scsi_backend.t10.status import Status
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import connect


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(operation: CopyOperation) -> None:
    """End an operation with an error."""
    operation.status, operation.sense = Status.CHECK_CONDITION, WRITE_ERROR


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, CopyManagerStatus.IN_PROGRESS),
        (Status.GOOD, CopyManagerStatus.COMPLETED),
        (Status.CHECK_CONDITION, CopyManagerStatus.COMPLETED_WITH_ERRORS),
        (Status.BUSY, CopyManagerStatus.COMPLETED_WITH_ERRORS),
    ],
)
def test_status_of_the_manager_follows_that_of_the_command(
    status: int | None, expected: CopyManagerStatus
) -> None:
    assert CopyOperation(status=status).manager_status == expected


def test_status_can_be_taken_while_under_way_and_once_when_ended(clock: Clock) -> None:
    held = HeldResults(clock)
    operation = held.begin(7)
    clock.now_s += 10 * STATUS_KEPT_S
    assert held.take_status(7) is operation
    operation.status, operation.ended_s = Status.GOOD, clock.now_s
    assert held.take_status(7) is operation
    assert held.take_status(7) is None


@pytest.mark.parametrize(("passed_s", "is_kept"), [(STATUS_KEPT_S, True), (5.1, False)])
def test_status_is_kept_for_some_seconds_and_details_longer(
    clock: Clock, passed_s: float, is_kept: bool
) -> None:
    copies = CopyOperations(clock)
    held = copies.of(connect(FaultyVdisk()).session.nexuses[0])
    operation = held.begin(7)
    copies.end(operation, Status.CHECK_CONDITION, WRITE_ERROR)
    clock.now_s += passed_s
    assert held.take_status(7) is (operation if is_kept else None)
    assert held.failed(7) is operation


def test_identifier_under_way_cannot_be_used_again(clock: Clock) -> None:
    held = HeldResults(clock)
    operation = held.begin(7)
    with pytest.raises(CheckCondition) as caught:
        held.begin(7)
    assert (caught.value.sense.key, caught.value.sense.code) == (0x05, 0x0016)
    assert held.take_status(7) is operation
    held.begin(8)


def test_identifier_used_again_forgets_what_was_held(clock: Clock) -> None:
    held = HeldResults(clock)
    fail(held.begin(7))
    assert held.failed(7) is not None
    second = held.begin(7)
    assert held.failed(7) is None
    assert held.take_status(7) is second


def test_details_are_of_failed_operations_only_and_stay_until_forgotten(clock: Clock) -> None:
    held = HeldResults(clock)
    operation = held.begin(7)
    assert held.failed(7) is None
    held.forget_failed(7)
    fail(operation)
    operation.ended_s = clock.now_s
    assert held.take_status(7) is operation
    assert held.failed(7) is operation
    held.forget_failed(7)
    assert held.failed(7) is None
    held.begin(8).status = Status.GOOD
    assert held.failed(8) is None


def test_results_are_held_for_each_nexus_and_go_with_it() -> None:
    copies = CopyOperations()
    one, other = connect(FaultyVdisk()), connect(FaultyVdisk())
    held = copies.of(one.session.nexuses[0])
    assert copies.of(one.session.nexuses[0]) is held
    assert copies.of(other.session.nexuses[0]) is not held
    alive = weakref.ref(held)
    del held, one
    gc.collect()
    assert alive() is None
