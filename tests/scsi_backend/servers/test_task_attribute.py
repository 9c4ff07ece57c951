# SPDX-License-Identifier: GPL-2.0-or-later
"""Task attributes: the numbers that doors send."""

from __future__ import annotations

from scsi_backend.servers.task_attribute import TaskAttribute


def test_simple_is_zero_so_that_a_byte_never_set_means_it() -> None:
    found = {attribute.name: attribute.value for attribute in TaskAttribute}
    assert found == {"SIMPLE": 0, "ORDERED": 1, "HEAD_OF_QUEUE": 2}
