# SPDX-License-Identifier: GPL-2.0-or-later
"""INQUIRY data: the standard form and the vital product data pages (SPC-5 6.7, 7.7; SBC-4 6.6).

Builders make exact bytes from plain values; readers pick out what initiators here need.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class VpdPage(IntEnum):
    """Vital product data page codes."""

    SUPPORTED_VPD_PAGES = 0x00
    UNIT_SERIAL_NUMBER = 0x80
    DEVICE_IDENTIFICATION = 0x83
    BLOCK_LIMITS = 0xB0
    BLOCK_DEVICE_CHARACTERISTICS = 0xB1
    LOGICAL_BLOCK_PROVISIONING = 0xB2


# SPC-5 6.7.2: byte 0 for a logical unit that is not there and cannot be.
QUALIFIER_NOT_CAPABLE = 0x7F
# SAM-5, SPC-4, SBC-3 (SPC-5 table 145), no version claimed.
_VERSION_DESCRIPTORS = struct.pack(">3H", 0x00A0, 0x0460, 0x04C0)
_STANDARD_LENGTH = 96
_VERSION_SPC_4 = 0x06
_RESPONSE_DATA_FORMAT = 0x02
_HISUP = 0x10
_CMDQUE = 0x02


def ascii_field(text: str, length_bytes: int) -> bytes:
    """Return left-aligned ASCII padded with blanks (SPC-5 4.3.1)."""
    return text.encode("ascii", "replace")[:length_bytes].ljust(length_bytes)


def standard_inquiry(
    *,
    vendor: str,
    product: str,
    revision: str,
    is_removable: bool,
    peripheral: int = 0,
    tpgs: int = 0,
) -> bytes:
    """Standard INQUIRY data of 96 bytes; ``peripheral`` is byte 0, ``tpgs`` the field TPGS."""
    data = bytearray(_STANDARD_LENGTH)
    data[0] = peripheral
    data[1] = 0x80 if is_removable else 0
    data[2] = _VERSION_SPC_4
    data[3] = _HISUP | _RESPONSE_DATA_FORMAT
    data[4] = _STANDARD_LENGTH - 5
    data[5] = tpgs << 4
    data[7] = _CMDQUE
    data[8:16] = ascii_field(vendor, 8)
    data[16:32] = ascii_field(product, 16)
    data[32:36] = ascii_field(revision, 4)
    data[58 : 58 + len(_VERSION_DESCRIPTORS)] = _VERSION_DESCRIPTORS
    return bytes(data)


def page(code: VpdPage, body: bytes, device_type: int = 0) -> bytes:
    """Put the four-byte header before a page's body."""
    return struct.pack(">BBH", device_type, code, len(body)) + body


def supported_pages(codes: Sequence[VpdPage]) -> bytes:
    """VPD 00h; SPC-5 7.7.16 wants ascending order."""
    return page(VpdPage.SUPPORTED_VPD_PAGES, bytes(sorted(codes)))


def unit_serial_number(serial: str) -> bytes:
    """VPD 80h."""
    return page(VpdPage.UNIT_SERIAL_NUMBER, serial.encode("ascii"))


def device_identification(
    *,
    vendor: str,
    t10_dev_id: str,
    naa_id: bytes | None,
    relative_target_port: int,
    target_port_group: int | None = None,
) -> bytes:
    """VPD 83h: T10 vendor ID, relative target port, its group and NAA if there is one."""
    t10 = ascii_field(vendor, 8) + t10_dev_id.encode("ascii", "replace")
    # Code set 2 is ASCII, 1 binary; association 0 is the logical unit, 1 the target port.
    body = bytes((0x02, 0x01, 0, len(t10))) + t10
    body += bytes((0x01, 0x14, 0, 4)) + struct.pack(">I", relative_target_port)
    if target_port_group is not None:
        body += bytes((0x01, 0x15, 0, 4)) + struct.pack(">I", target_port_group)
    if naa_id is not None:
        body += bytes((0x01, 0x03, 0, len(naa_id))) + naa_id
    return page(VpdPage.DEVICE_IDENTIFICATION, body)


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """VPD B0h; lengths in logical blocks, zero meaning not reported.

    A ``max_compare_and_write`` of zero says that the device has no COMPARE AND WRITE.
    """

    optimal_granularity: int
    max_transfer: int
    optimal_transfer: int
    max_unmap: int
    max_unmap_descriptors: int
    unmap_granularity: int
    max_write_same: int
    is_write_same_non_zero: bool
    max_compare_and_write: int = 0

    # flags, COMPARE AND WRITE length, granularity, max, optimal, prefetch, unmap count,
    # unmap descriptors, unmap granularity, alignment with UGAVALID, max WRITE SAME.
    _LAYOUT = struct.Struct(">BBHIIIIIIIQ")
    _LENGTH = 0x3C

    def serialize(self) -> bytes:
        """Return the whole page of 64 bytes."""
        body = self._LAYOUT.pack(
            self.is_write_same_non_zero,
            self.max_compare_and_write,
            self.optimal_granularity,
            self.max_transfer,
            self.optimal_transfer,
            0,
            self.max_unmap,
            self.max_unmap_descriptors,
            self.unmap_granularity,
            0x80000000 if self.unmap_granularity else 0,
            self.max_write_same,
        )
        return page(VpdPage.BLOCK_LIMITS, body.ljust(self._LENGTH, b"\0"))

    @classmethod
    def parse(cls, data: bytes | memoryview) -> BlockLimits:
        """Read a page that may be shorter than this one; missing fields are zero."""
        body = bytes(data[4:]).ljust(cls._LENGTH, b"\0")
        values = cls._LAYOUT.unpack_from(body)
        return cls(
            optimal_granularity=values[2],
            max_transfer=values[3],
            optimal_transfer=values[4],
            max_unmap=values[6],
            max_unmap_descriptors=values[7],
            unmap_granularity=values[8],
            max_write_same=values[10],
            is_write_same_non_zero=bool(values[0] & 0x01),
            max_compare_and_write=values[1],
        )


# SBC-4 table 244: 0001h is a non-rotating medium. SCST says 15000 rpm for the others.
NON_ROTATING = 0x0001
ROTATION_RATE_RPM = 15000


def block_device_characteristics(*, is_rotational: bool) -> bytes:
    """VPD B1h."""
    rate = ROTATION_RATE_RPM if is_rotational else NON_ROTATING
    return page(VpdPage.BLOCK_DEVICE_CHARACTERISTICS, struct.pack(">H", rate).ljust(0x3C, b"\0"))


@dataclass(frozen=True, slots=True)
class Provisioning:
    """VPD B2h: which commands deallocate, and what deallocated blocks read as."""

    has_unmap: bool
    has_write_same_16: bool
    has_write_same_10: bool
    reads_zeros: bool
    is_thin: bool

    def serialize(self) -> bytes:
        """Return the page: LBPU, LBPWS, LBPWS10, LBPRZ=001b, provisioning type."""
        flags = (
            self.has_unmap << 7
            | self.has_write_same_16 << 6
            | self.has_write_same_10 << 5
            | self.reads_zeros << 2
        )
        body = bytes((0, flags, 2 if self.is_thin else 1, 0))
        return page(VpdPage.LOGICAL_BLOCK_PROVISIONING, body)

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Provisioning:
        """Read a page; missing bytes are zero."""
        body = bytes(data[4:]).ljust(4, b"\0")
        return cls(
            has_unmap=bool(body[1] & 0x80),
            has_write_same_16=bool(body[1] & 0x40),
            has_write_same_10=bool(body[1] & 0x20),
            # SBC-4, LBPRZ: xx1b is zeros; 010b is a pattern of the device's own.
            reads_zeros=bool(body[1] & 0x04),
            is_thin=body[2] & 0x07 == 2,
        )
