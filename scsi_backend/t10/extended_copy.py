# SPDX-License-Identifier: GPL-2.0-or-later
"""The records of EXTENDED COPY(LID1): its parameter list, and what tells how it went.

Parameter list: header, CSCD (copy source or copy destination) descriptors, segment descriptors
(SPC-4 6.4.3 to 6.4.6). Parameter data of RECEIVE COPY RESULTS: SPC-3 6.17.2 to 6.17.5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from scsi_backend.t10.designator import Designator

_MAX_DESIGNATOR_LENGTH = 20


class DescriptorType(IntEnum):
    """Descriptor type codes (SPC-4 table 112) of what is implemented here."""

    BLOCK_TO_BLOCK = 0x02
    IDENTIFICATION = 0xE4


class ListIdUsage(IntEnum):
    """LIST ID USAGE (SPC-4 table 110); 01b is reserved."""

    HOLD = 0b00
    DISCARD = 0b10
    NO_LIST_IDENTIFIER = 0b11


@dataclass(frozen=True, slots=True)
class CopyHeader:
    """The first 16 bytes of the parameter list; STR and PRIORITY are hints, and left out."""

    list_identifier: int
    list_id_usage: int
    cscd_list_length_bytes: int
    segment_list_length_bytes: int
    inline_data_length_bytes: int

    # list identifier, STR (bit 5) LIST ID USAGE (4-3) PRIORITY (2-0), CSCD descriptor list length,
    # segment descriptor list length, inline data length.
    _LAYOUT: ClassVar = struct.Struct(">BBH4xII")
    LENGTH: ClassVar = _LAYOUT.size

    @classmethod
    def parse(cls, data: bytes) -> CopyHeader:
        """Read a header; ``data`` must reach its last byte."""
        values = cls._LAYOUT.unpack_from(data)
        return cls(values[0], values[1] >> 3 & 0b11, *values[2:])

    def serialize(self) -> bytes:
        """Return the 16 bytes."""
        return self._LAYOUT.pack(
            self.list_identifier,
            self.list_id_usage << 3,
            self.cscd_list_length_bytes,
            self.segment_list_length_bytes,
            self.inline_data_length_bytes,
        )


@dataclass(frozen=True, slots=True)
class CscdDescriptor:
    """An identification descriptor CSCD descriptor, E4h, of 32 bytes.

    LU ID TYPE and PAD are left out; NUL is SPC-3's. ``designator_length_bytes`` may be more than
    the descriptor holds.
    """

    device_type: int
    is_null: bool
    designator: Designator
    designator_length_bytes: int
    disk_block_length_bytes: int

    # type code, LU ID TYPE (7-6) NUL (5) device type (4-0), relative initiator port, code set,
    # association (5-4) designator type (3-0), reserved, designator length, designator, PAD and
    # disk block length.
    _LAYOUT: ClassVar = struct.Struct(">BBHBBxB20sI")
    LENGTH: ClassVar = _LAYOUT.size

    @classmethod
    def parse(cls, data: bytes) -> CscdDescriptor:
        """Read a descriptor of this type; ``data`` must reach its last byte."""
        _, flags, _, code_set, kind, length, value, tail = cls._LAYOUT.unpack_from(data)
        designator = Designator(code_set & 0x0F, kind >> 4 & 0x03, kind & 0x0F, value[:length])
        return cls(flags & 0x1F, bool(flags & 0x20), designator, length, tail & 0xFFFFFF)

    def serialize(self) -> bytes:
        """Return the 32 bytes; raises struct.error for a value out of range."""
        name = self.designator
        return self._LAYOUT.pack(
            DescriptorType.IDENTIFICATION,
            self.is_null << 5 | self.device_type,
            0,
            name.code_set,
            name.association << 4 | name.designator_type,
            self.designator_length_bytes,
            name.value,
            self.disk_block_length_bytes,
        )

    @property
    def has_whole_designator(self) -> bool:
        """Whether the designator is no longer than the descriptor has room for."""
        return self.designator_length_bytes <= _MAX_DESIGNATOR_LENGTH


@dataclass(frozen=True, slots=True)
class BlockSegment:
    """A block device to block device segment descriptor, 02h, of 28 bytes.

    ``source`` and ``destination`` are CSCD descriptor IDs; ``blocks`` are the destination's with
    DC, else the source's.
    """

    is_destination_count: bool
    source: int
    destination: int
    blocks: int
    source_lba: int
    destination_lba: int

    # type code, DC (bit 1) CAT (bit 0), descriptor length, source, destination, reserved, blocks,
    # source LBA, destination LBA.
    _LAYOUT: ClassVar = struct.Struct(">BBHHHxxHQQ")
    LENGTH: ClassVar = _LAYOUT.size
    # What the DESCRIPTOR LENGTH field says: the bytes that follow it.
    LENGTH_FIELD: ClassVar = LENGTH - 4

    @classmethod
    def parse(cls, data: bytes) -> BlockSegment:
        """Read a descriptor of this type; ``data`` must reach its last byte."""
        _, flags, _, *values = cls._LAYOUT.unpack_from(data)
        return cls(bool(flags & 0x02), *values)

    def serialize(self) -> bytes:
        """Return the 28 bytes; raises struct.error for a value out of range."""
        return self._LAYOUT.pack(
            DescriptorType.BLOCK_TO_BLOCK,
            self.is_destination_count << 1,
            self.LENGTH_FIELD,
            self.source,
            self.destination,
            self.blocks,
            self.source_lba,
            self.destination_lba,
        )


class CopyManagerStatus(IntEnum):
    """COPY MANAGER STATUS (SPC-3 table 163)."""

    IN_PROGRESS = 0x00
    COMPLETED = 0x01
    COMPLETED_WITH_ERRORS = 0x02


_COPY_STATUS = struct.Struct(">IBHBI")
# TRANSFER COUNT UNITS (SPC-3 table 164).
_BYTES, _KIBIBYTES = 0x00, 0x01
_FAILED_SEGMENT_DETAILS = struct.Struct(">I52xBxH")


def copy_status(status: CopyManagerStatus, segments_processed: int, written_bytes: int) -> bytes:
    """COPY STATUS: 12 bytes; no data is held."""
    units, count = _BYTES, written_bytes
    if count >> 32:
        units, count = _KIBIBYTES, count >> 10
    return _COPY_STATUS.pack(_COPY_STATUS.size - 4, status, segments_processed, units, count)


def failed_segment_details(status: int, sense: bytes) -> bytes:
    """FAILED SEGMENT DETAILS: the status and the sense data that ended the EXTENDED COPY."""
    length = _FAILED_SEGMENT_DETAILS.size + len(sense)
    return _FAILED_SEGMENT_DETAILS.pack(length - 4, status, len(sense)) + sense


# AVAILABLE DATA of zero: there are none.
NO_FAILED_SEGMENT_DETAILS = bytes(4)


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """OPERATING PARAMETERS of a copy manager without inline or held data, and without streams."""

    max_cscd_descriptors: int
    max_segment_descriptors: int
    max_descriptor_list_length_bytes: int
    max_segment_length_bytes: int
    max_concurrent_copies: int
    segment_granularity_log2: int

    # available data, SNLID (bit 0), CSCD and segment descriptors, list length, segment length,
    # inline data, held data, stream transfer, total and identified concurrent copies, granularity
    # of segments, inline data and held data, number of implemented descriptor types.
    _LAYOUT: ClassVar = struct.Struct(">IB3xHHIIIII2xHBBBB3xB")

    def serialize(self) -> bytes:
        """Return the parameter data."""
        types = bytes(sorted(DescriptorType))
        return (
            self._LAYOUT.pack(
                self._LAYOUT.size + len(types) - 4,
                1,
                self.max_cscd_descriptors,
                self.max_segment_descriptors,
                self.max_descriptor_list_length_bytes,
                self.max_segment_length_bytes,
                0,
                0,
                0,
                self.max_concurrent_copies,
                self.max_concurrent_copies,
                self.segment_granularity_log2,
                0,
                0,
                len(types),
            )
            + types
        )
