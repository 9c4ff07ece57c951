# SPDX-License-Identifier: GPL-2.0-or-later
"""INQUIRY data: the standard form and the vital product data pages (SPC-5 6.7, 7.7; SBC-4 6.6).

Builders make exact bytes from plain values; readers pick out what initiators here need.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class VpdPage(IntEnum):
    """Vital product data page codes."""

    SUPPORTED_VPD_PAGES = 0x00
    UNIT_SERIAL_NUMBER = 0x80
    DEVICE_IDENTIFICATION = 0x83
    EXTENDED_INQUIRY_DATA = 0x86
    MODE_PAGE_POLICY = 0x87
    SCSI_PORTS = 0x88
    THIRD_PARTY_COPY = 0x8F
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
_RMB = 0x80
_3PC = 0x08
_MULTIP = 0x10
_CMDQUE = 0x02
# Where vendor specific data are: these bytes, or those from the end of the standard ones.
_VENDOR_SPECIFIC = slice(36, 56)
_MAX_VENDOR_SPECIFIC = 160


def ascii_field(text: str, length_bytes: int) -> bytes:
    """Return left-aligned ASCII padded with blanks (SPC-5 4.3.1)."""
    return text.encode("ascii", "replace")[:length_bytes].ljust(length_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardInquiry:
    """Standard INQUIRY data (SPC-5 6.7.2); ``peripheral`` is byte 0, ``tpgs`` its two bits."""

    vendor: str
    product: str
    revision: str
    peripheral: int = 0
    vendor_specific: bytes = b""
    is_removable: bool = False
    is_multiport: bool = False
    has_third_party_copy: bool = False
    tpgs: int = 0

    def serialize(self) -> bytes:
        """Return 96 bytes, or more if the vendor specific data do not fit otherwise."""
        data = bytearray(_STANDARD_LENGTH)
        data[0] = self.peripheral
        data[1] = _RMB if self.is_removable else 0
        data[2] = _VERSION_SPC_4
        data[3] = _HISUP | _RESPONSE_DATA_FORMAT
        data[5] = self.tpgs << 4 | (_3PC if self.has_third_party_copy else 0)
        data[6] = _MULTIP if self.is_multiport else 0
        data[7] = _CMDQUE
        data[8:16] = ascii_field(self.vendor, 8)
        data[16:32] = ascii_field(self.product, 16)
        data[32:36] = ascii_field(self.revision, 4)
        data[58 : 58 + len(_VERSION_DESCRIPTORS)] = _VERSION_DESCRIPTORS
        room = _VENDOR_SPECIFIC.stop - _VENDOR_SPECIFIC.start
        if len(self.vendor_specific) <= room:
            data[_VENDOR_SPECIFIC] = self.vendor_specific.ljust(room, b"\0")
        else:
            data += self.vendor_specific[:_MAX_VENDOR_SPECIFIC]
        data[4] = len(data) - 5
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


def device_identification(descriptors: Iterable[bytes]) -> bytes:
    """VPD 83h of designation descriptors."""
    return page(VpdPage.DEVICE_IDENTIFICATION, b"".join(descriptors))


@dataclass(frozen=True, slots=True)
class ExtendedInquiry:
    """VPD 86h (SPC-5 7.7.7): the claims made here; every other one is zero.

    HEADSUP, ORDSUP, SIMPSUP: task attributes. LUICLR: REPORT LUNS clears the unit attention about
    it on all logical units. V_SUP: there can be a volatile cache.
    """

    has_volatile_cache: bool
    max_sense_bytes: int

    _LENGTH = 0x3C
    _TASK_ATTRIBUTES = 0x07
    _V_SUP = 0x01
    _LUICLR = 0x01

    def serialize(self) -> bytes:
        """Return the whole page of 64 bytes."""
        body = bytearray(self._LENGTH)
        body[1] = self._TASK_ATTRIBUTES
        body[2] = self._V_SUP if self.has_volatile_cache else 0
        body[3] = self._LUICLR
        body[9] = self.max_sense_bytes
        return page(VpdPage.EXTENDED_INQUIRY_DATA, bytes(body))


def mode_page_policy() -> bytes:
    """VPD 87h (SPC-5 7.7.11): all pages and subpages are shared by all I_T nexuses."""
    return page(VpdPage.MODE_PAGE_POLICY, bytes.fromhex("3fff0000"))


def scsi_ports(ports: Iterable[tuple[int, bytes]]) -> bytes:
    """VPD 88h (SPC-5 7.7.14): target ports by relative identifier and designation descriptors."""
    body = b""
    for identifier, descriptors in ports:
        # There is no initiator port transport ID.
        body += struct.pack(">2xH2xH2xH", identifier, 0, len(descriptors)) + descriptors
    return page(VpdPage.SCSI_PORTS, body)


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """VPD B0h; lengths in logical blocks, zero meaning not reported.

    A ``max_compare_and_write`` of zero says that the device has no COMPARE AND WRITE, a
    ``max_atomic`` of zero that it has no WRITE ATOMIC. Atomic writes may begin anywhere, and have
    no boundaries within.
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
    max_atomic: int = 0

    # flags, COMPARE AND WRITE length, granularity, max, optimal, prefetch, unmap count,
    # unmap descriptors, unmap granularity, alignment with UGAVALID, max WRITE SAME, max atomic.
    # Zeros follow: atomic alignment and granularity, and limits with an atomic boundary.
    _LAYOUT = struct.Struct(">BBHIIIIIIIQI")
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
            self.max_atomic,
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
            max_atomic=values[11],
        )


# SBC-4 table 244: 0001h is a non-rotating medium. SCST says 15000 rpm for the others.
NON_ROTATING = 0x0001
ROTATION_RATE_RPM = 15000


# WABEREQ=01b: after SANITIZE BLOCK ERASE, blocks can be read without having been written.
_READS_AFTER_BLOCK_ERASE = 0x40


def block_device_characteristics(*, is_rotational: bool, has_block_erase: bool = False) -> bytes:
    """VPD B1h."""
    rate = ROTATION_RATE_RPM if is_rotational else NON_ROTATING
    body = struct.pack(">HxB", rate, _READS_AFTER_BLOCK_ERASE if has_block_erase else 0)
    return page(VpdPage.BLOCK_DEVICE_CHARACTERISTICS, body.ljust(0x3C, b"\0"))


@dataclass(frozen=True, slots=True)
class Provisioning:
    """VPD B2h: which commands deallocate, and what deallocated blocks read as.

    Thresholds count sets of 1 << ``threshold_exponent`` blocks; there are none if that is zero.
    """

    has_unmap: bool
    has_write_same_16: bool
    has_write_same_10: bool
    reads_zeros: bool
    is_thin: bool
    threshold_exponent: int = 0

    def serialize(self) -> bytes:
        """Return the page: LBPU, LBPWS, LBPWS10, LBPRZ=001b, provisioning type."""
        flags = (
            self.has_unmap << 7
            | self.has_write_same_16 << 6
            | self.has_write_same_10 << 5
            | self.reads_zeros << 2
        )
        body = bytes((self.threshold_exponent, flags, 2 if self.is_thin else 1, 0))
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
            threshold_exponent=body[0],
        )
