# SPDX-License-Identifier: GPL-2.0-or-later
"""SCSI status codes (SAM-5 5.3.1)."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """The status byte with which a device server ends a command."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


def status_text(status: int) -> str:
    """Return T10's name of a status byte, or its value in hex where T10 gives none."""
    try:
        return Status(status).name.replace("_", " ")
    except ValueError:
        return f"status {status:02X}h"
