# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode parameter headers, block descriptors and mode pages (SPC-5 6.15, 7.5; SBC-4 6.5).

The pages are built with those bits zero that a nexus may change: mode_values.py knows them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

WP_BIT: Final = 0x80
DPOFUA_BIT: Final = 0x10
WCE_BIT: Final = 0x04
# Of a page's first byte.
PS_BIT: Final = 0x80
SPF_BIT: Final = 0x40


class ModePage(IntEnum):
    """Mode page codes."""

    READ_WRITE_ERROR_RECOVERY = 0x01
    DISCONNECT_RECONNECT = 0x02
    FORMAT_DEVICE = 0x03
    RIGID_DISK_GEOMETRY = 0x04
    CACHING = 0x08
    CONTROL = 0x0A
    INFORMATIONAL_EXCEPTIONS_CONTROL = 0x1C
    ALL = 0x3F


CONTROL_EXTENSION_SUBPAGE: Final = 0x01
LOGICAL_BLOCK_PROVISIONING_SUBPAGE: Final = 0x02
# Stands for all subpages of a page.
ALL_SUBPAGES: Final = 0xFF


class PowerCondition(IntEnum):
    """The POWER CONDITION field of START STOP UNIT (SBC-4 5.31); START_VALID leaves it to START.

    From IDLE and STANDBY a device comes back by itself when the next command needs it to.
    """

    START_VALID = 0
    ACTIVE = 1
    IDLE = 2
    STANDBY = 3


class PageControl(IntEnum):
    """The PC field of MODE SENSE."""

    CURRENT = 0
    CHANGEABLE = 1
    DEFAULT = 2
    SAVED = 3


def page(code: ModePage, body: bytes) -> bytes:
    """Put the two-byte header before a page's body."""
    return bytes((code, len(body))) + body


def subpage(code: ModePage, subpage_code: int, body: bytes) -> bytes:
    """Put the four-byte header before a subpage's body."""
    return struct.pack(">BBH", SPF_BIT | code, subpage_code, len(body)) + body


def read_write_error_recovery_page(*, reports_thresholds: bool) -> bytes:
    """Page 01h, 12 bytes (SBC-4 6.5.8): LBPERE, and no recovery beyond what the host does."""
    body = bytearray(10)
    body[5] = 0x80 if reports_thresholds else 0
    return page(ModePage.READ_WRITE_ERROR_RECOVERY, bytes(body))


def disconnect_reconnect_page() -> bytes:
    """Page 02h, 16 bytes (SPC-5 7.5.9): none of its limits is in force."""
    return page(ModePage.DISCONNECT_RECONNECT, bytes(14))


# As SCST. There is no geometry, but old software wants one.
HEADS: Final = 255
SECTORS_PER_TRACK: Final = 56
_HSEC_BIT: Final = 0x40
_RMB_BIT: Final = 0x20
_MAX_CYLINDERS: Final = (1 << 24) - 1


def format_device_page(*, block_size_bytes: int, is_removable: bool) -> bytes:
    """Page 03h, 24 bytes (SBC 7.1.3.3): sectors per track, their size, interleave 1."""
    flags = _HSEC_BIT | (_RMB_BIT if is_removable else 0)
    body = struct.pack(">8xHHH4xB3x", SECTORS_PER_TRACK, block_size_bytes, 1, flags)
    return page(ModePage.FORMAT_DEVICE, body)


def rigid_disk_geometry_page(*, block_count: int, rotation_rate_rpm: int) -> bytes:
    """Page 04h, 24 bytes (SBC 7.1.3.7); a count of cylinders that does not fit is all ones."""
    cylinders = min(block_count // (HEADS * SECTORS_PER_TRACK), _MAX_CYLINDERS)
    body = cylinders.to_bytes(3, "big") + struct.pack(">B14xH2x", HEADS, rotation_rate_rpm)
    return page(ModePage.RIGID_DISK_GEOMETRY, body)


def caching_page() -> bytes:
    """Page 08h, 20 bytes (SBC-4 6.5.6)."""
    return page(ModePage.CACHING, bytes(18))


def control_page(*, tst: int) -> bytes:
    """Page 0Ah, 12 bytes (SPC-5 7.5.10): TST, and a busy timeout period of FFFFh, unlimited."""
    return page(ModePage.CONTROL, struct.pack(">B5xH2x", tst << 5, 0xFFFF))


def control_extension_page() -> bytes:
    """Subpage 0Ah/01h, 32 bytes (SPC-5 7.5.11): IALUAE, and sense data as long as they are."""
    return subpage(ModePage.CONTROL, CONTROL_EXTENSION_SUBPAGE, b"\x01" + bytes(27))


def informational_exceptions_control_page() -> bytes:
    """Page 1Ch, 12 bytes (SPC-5 7.5.12): DEXCPT, since there are none to report."""
    return page(ModePage.INFORMATIONAL_EXCEPTIONS_CONTROL, b"\x08" + bytes(9))


# Of the Logical Block Provisioning log page: what an armed decreasing threshold is about.
_AVAILABLE_LBA_MAPPING_RESOURCE: Final = 0x01


def logical_block_provisioning_page(*, threshold_count: int) -> bytes:
    """Subpage 1Ch/02h, 24 bytes (SBC-4 6.5.9): one soft threshold, of which every nexus is told.

    It is reached when no more than so many threshold sets are available (VPD B2h).
    """
    descriptor = struct.pack(">BBxxI", 0x80, _AVAILABLE_LBA_MAPPING_RESOURCE, threshold_count)
    return subpage(
        ModePage.INFORMATIONAL_EXCEPTIONS_CONTROL,
        LOGICAL_BLOCK_PROVISIONING_SUBPAGE,
        bytes(12) + descriptor,
    )


@dataclass(frozen=True, slots=True)
class ModeHeader:
    """What precedes the pages in MODE SENSE data, apart from the lengths."""

    device_specific: int
    block_descriptor: bytes

    def with_pages_6(self, pages: bytes) -> bytes:
        """MODE SENSE(6) parameter data."""
        length = 3 + len(self.block_descriptor) + len(pages)
        head = (length, 0, self.device_specific, len(self.block_descriptor))
        return bytes(head) + self.block_descriptor + pages

    def with_pages_10(self, pages: bytes, *, is_long_lba: bool) -> bytes:
        """MODE SENSE(10) parameter data."""
        length = 6 + len(self.block_descriptor) + len(pages)
        head = struct.pack(
            ">HBBBxH",
            length,
            0,
            self.device_specific,
            is_long_lba,
            len(self.block_descriptor),
        )
        return head + self.block_descriptor + pages


def short_block_descriptor(block_count: int, block_size_bytes: int) -> bytes:
    """The 8-byte descriptor (SBC-4 6.5.2); a count that does not fit is all ones."""
    return struct.pack(">II", min(block_count, 0xFFFFFFFF), block_size_bytes)


def long_block_descriptor(block_count: int, block_size_bytes: int) -> bytes:
    """The 16-byte descriptor of LLBAA."""
    return struct.pack(">Q4xI", block_count, block_size_bytes)
