# SPDX-License-Identifier: GPL-2.0-or-later
"""EXTENDED COPY beside somebody else's reservation of one of its devices."""

from __future__ import annotations

import pytest

from scsi_backend.t10.copy_failure import CopyFailure
from scsi_backend.t10.status import Status
from tests.scsi_backend.copies import assert_aborted, assert_good, copy, once, segment, two
from tests.scsi_backend.reserving import EA, WE, reserve, sign_in

WHOLE = once(segment(0, 1, 4, 0, 0))


@pytest.mark.parametrize(("reserved", "kind"), [(0, EA), (1, EA), (1, WE)])
def test_copy_meets_the_reservation(reserved: int, kind: int) -> None:
    _, destination, session = two()
    holder = sign_in(session.nexuses[reserved].unit, "holder")
    reserve(holder, 0xA, kind)
    failure = CopyFailure(0, Status.RESERVATION_CONFLICT, None, bool(reserved))
    outcome = copy(session, WHOLE, 1 - reserved)
    assert_aborted(outcome, 0x0D01, 16 + 32 * reserved, failure)
    assert destination.blocks(0, 4) == bytes(4 * 512)


def test_copy_reads_beside_write_exclusive() -> None:
    source, destination, session = two()
    reserve(sign_in(session.nexuses[0].unit, "holder"), 0xA, WE)
    assert_good(copy(session, WHOLE, 1))
    assert destination.blocks(0, 4) == source.blocks(0, 4)
