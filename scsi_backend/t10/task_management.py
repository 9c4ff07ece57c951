# SPDX-License-Identifier: GPL-2.0-or-later
"""Task management functions (SAM-5 7) and how a device server reports them (SPC-5 6.36)."""

from __future__ import annotations

import struct
from enum import IntFlag


class TaskManagementSupport(IntFlag):
    """Bytes 0 and 1 of the parameter data; TARGET RESET and WAKEUP are obsolete."""

    ABORT_TASK = 0x8000
    ABORT_TASK_SET = 0x4000
    CLEAR_ACA = 0x2000
    CLEAR_TASK_SET = 0x1000
    LOGICAL_UNIT_RESET = 0x0800
    QUERY_TASK = 0x0400
    QUERY_ASYNCHRONOUS_EVENT = 0x0004
    QUERY_TASK_SET = 0x0002
    I_T_NEXUS_RESET = 0x0001


_TMFTMOV = 0x01
# functions, reserved, additional length, TMFTMOV, reserved, timeout selectors, long, short.
_EXTENDED = struct.Struct(">HxBBxHII")
_EXTENDED_LENGTH = _EXTENDED.size - 4


def supported_functions(functions: TaskManagementSupport) -> bytes:
    """The basic parameter data."""
    return struct.pack(">HxB", functions, 0)


def supported_functions_with_timeout(functions: TaskManagementSupport, timeout_s: int) -> bytes:
    """The extended parameter data; one timeout, in units of 100 ms, is for all functions."""
    return _EXTENDED.pack(functions, _EXTENDED_LENGTH, _TMFTMOV, 0, timeout_s * 10, 0)
