# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode pages and mode parameter headers (SPC-5 6.15, 7.5; SBC-4 6.5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

WP_BIT = 0x80
DPOFUA_BIT = 0x10
WCE_BIT = 0x04
D_SENSE_BIT = 0x04


class ModePage(IntEnum):
    """Mode page codes."""

    CACHING = 0x08
    CONTROL = 0x0A
    ALL = 0x3F


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


def caching_page(*, wce: bool) -> bytes:
    """Page 08h, 20 bytes."""
    body = bytearray(18)
    body[0] = WCE_BIT if wce else 0
    return bytes((ModePage.CACHING, len(body))) + bytes(body)


def control_page(*, tst: int, d_sense: bool, swp: bool) -> bytes:
    """Page 0Ah, 12 bytes: TST, unrestricted reordering, no QErr, no TAS."""
    body = bytearray(10)
    body[0] = tst << 5 | (D_SENSE_BIT if d_sense else 0)
    body[1] = 0x10
    body[2] = 0x08 if swp else 0
    # BUSY TIMEOUT PERIOD: FFFFh is an unlimited period.
    body[6:8] = b"\xff\xff"
    return bytes((ModePage.CONTROL, len(body))) + bytes(body)


def changeable_mask(page: bytes) -> bytes:
    """The page that PC=01b returns while no value can be changed: header, then zeros."""
    return page[:2] + bytes(len(page) - 2)


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
