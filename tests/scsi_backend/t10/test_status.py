# SPDX-License-Identifier: GPL-2.0-or-later
"""Status codes against SAM-5 table 39."""

from __future__ import annotations

import pytest

from scsi_backend.t10.status import Status, status_text

GOLDEN = {
    "GOOD": 0x00,
    "CHECK_CONDITION": 0x02,
    "CONDITION_MET": 0x04,
    "BUSY": 0x08,
    "RESERVATION_CONFLICT": 0x18,
    "TASK_SET_FULL": 0x28,
    "ACA_ACTIVE": 0x30,
    "TASK_ABORTED": 0x40,
}


def test_codes_equal_the_golden_list() -> None:
    assert {status.name: status.value for status in Status} == GOLDEN


@pytest.mark.parametrize(("status", "text"), [(0x18, "RESERVATION CONFLICT"), (0x77, "status 77h")])
def test_any_status_byte_has_a_text(status: int, text: str) -> None:
    assert status_text(status) == text
