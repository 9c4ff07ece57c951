# SPDX-License-Identifier: GPL-2.0-or-later
"""Log pages (SPC-5 7.3, SBC-4 6.4): headers, parameters and the values in them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final


class LogPage(IntEnum):
    """Log page codes."""

    SUPPORTED = 0x00
    WRITE_ERROR_COUNTERS = 0x02
    READ_ERROR_COUNTERS = 0x03
    LOGICAL_BLOCK_PROVISIONING = 0x0C
    TEMPERATURE = 0x0D
    BACKGROUND_SCAN = 0x15
    GENERAL_STATISTICS = 0x19
    INFORMATIONAL_EXCEPTIONS = 0x2F


# With page code 00h: the supported pages and subpages.
ALL_SUBPAGES: Final = 0xFF


class LogPageControl(IntEnum):
    """The PC field of LOG SENSE and LOG SELECT."""

    THRESHOLD = 0
    CUMULATIVE = 1
    DEFAULT_THRESHOLD = 2
    DEFAULT_CUMULATIVE = 3


class ParameterControl(IntEnum):
    """The control byte of a parameter: TSD, and FORMAT AND LINKING."""

    # A counter without limit, kept in memory only.
    COUNTER = 0x22
    BINARY_LIST = 0x03


_DS = 0x80
_SPF = 0x40
# What the standard has for a temperature that there is no sensor for.
_NOT_AVAILABLE = 0xFF
# Of a resource count: for one logical unit alone, and for several.
_SCOPE_DEDICATED = 0x01
_SCOPE_SHARED = 0x02
_MAX_COUNT_4 = (1 << 32) - 1
_MAX_COUNT_8 = (1 << 64) - 1


def parameter(number: int, control: ParameterControl, value: bytes) -> bytes:
    """One parameter of a page."""
    return struct.pack(">HBB", number, control, len(value)) + value


def log_page(code: LogPage, parameters: Iterable[bytes]) -> bytes:
    """A page of parameters, which are in the order of their codes and not saved (DS)."""
    body = b"".join(parameters)
    return struct.pack(">BBH", _DS | code, 0, len(body)) + body


def supported_log_pages(codes: Iterable[int]) -> bytes:
    """Page 00h (SPC-5 7.3.17), in ascending order."""
    body = bytes(sorted(codes))
    return struct.pack(">BBH", LogPage.SUPPORTED, 0, len(body)) + body


def supported_subpages(codes: Iterable[tuple[int, int]]) -> bytes:
    """Subpage FFh of page 00h (SPC-5 7.3.18), in ascending order."""
    body = b"".join(bytes(pair) for pair in sorted(codes))
    return struct.pack(">BBH", _SPF | LogPage.SUPPORTED, ALL_SUBPAGES, len(body)) + body


def counter(value: int) -> bytes:
    """A counter of eight bytes, which stays at its maximum."""
    return min(value, _MAX_COUNT_8).to_bytes(8, "big")


def general_statistics(
    *, read_commands: int, write_commands: int, blocks_received: int, blocks_transmitted: int
) -> bytes:
    """Parameter 0001h of page 19h (SPC-5 7.3.9); the processing intervals are not measured."""
    counters = (read_commands, write_commands, blocks_received, blocks_transmitted, 0, 0, 0, 0)
    return b"".join(counter(value) for value in counters)


def no_time_interval() -> bytes:
    """Parameter 0003h of page 19h, EXPONENT and INTEGER: of no length, so that none is counted."""
    return bytes(8)


def resource_count(count: int, *, is_shared: bool) -> bytes:
    """A parameter of page 0Ch (SBC-4 6.4.5): resources in threshold sets, and for whom they are."""
    scope = _SCOPE_SHARED if is_shared else _SCOPE_DEDICATED
    return struct.pack(">IB3x", min(count, _MAX_COUNT_4), scope)


def no_temperature() -> bytes:
    """Parameter 0000h of page 0Dh (SPC-5 7.3.21) of a device without a sensor."""
    return bytes((0, _NOT_AVAILABLE))


def no_background_scan(power_on_minutes: int) -> bytes:
    """Parameter 0000h of page 15h (SBC-4 6.4.2): none is active, and none ever was."""
    return struct.pack(">I8x", min(power_on_minutes, _MAX_COUNT_4))


def no_informational_exception() -> bytes:
    """Parameter 0000h of page 2Fh (SPC-5 7.3.10): no additional sense code, no temperature."""
    return bytes((0, 0, _NOT_AVAILABLE))
