# SPDX-License-Identifier: GPL-2.0-or-later
"""Task management functions as SPC-5 6.36 reports them."""

from __future__ import annotations

import pytest

from scsi_backend.t10.task_management import (
    TaskManagementSupport,
    supported_functions,
    supported_functions_with_timeout,
)

GOLDEN = {
    "ABORT_TASK": "8000",
    "ABORT_TASK_SET": "4000",
    "CLEAR_ACA": "2000",
    "CLEAR_TASK_SET": "1000",
    "LOGICAL_UNIT_RESET": "0800",
    "QUERY_TASK": "0400",
    "QUERY_ASYNCHRONOUS_EVENT": "0004",
    "QUERY_TASK_SET": "0002",
    "I_T_NEXUS_RESET": "0001",
}


def test_functions_equal_the_golden_list() -> None:
    assert {each.name: f"{each:04x}" for each in TaskManagementSupport} == GOLDEN


@pytest.mark.parametrize("name", GOLDEN)
def test_basic_data_have_the_functions_bit(name: str) -> None:
    assert supported_functions(TaskManagementSupport[name]).hex() == GOLDEN[name] + "0000"


def test_extended_data_have_one_long_timeout() -> None:
    data = supported_functions_with_timeout(TaskManagementSupport.ABORT_TASK, 30)
    assert data.hex() == "8000000c" + "01000000" + "0000012c" + "00000000"
