# SPDX-License-Identifier: GPL-2.0-or-later
"""The parameter list of EXTENDED COPY(LID1), checked before anything of it is done (SPC-4 6.4.3).

What is wrong here is an ILLEGAL REQUEST. What can only be known of the devices is found while the
segments are processed, and is COPY ABORTED.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from scsi_backend.servers.command import CheckCondition
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.cdb import Field
from scsi_backend.t10.extended_copy import (
    BlockSegment,
    CopyHeader,
    CopyLimits,
    CscdDescriptor,
    DescriptorType,
    ListIdUsage,
)
from scsi_backend.t10.sense import (
    PARAMETER_LIST_LENGTH_ERROR,
    FieldPointer,
    Sense,
    SenseKey,
)

_MAX_DESCRIPTORS = 16
# Block counts have 16 bits, and blocks at most 4096 bytes.
_MAX_SEGMENT_BYTES = 1 << 28
_SMALLEST_BLOCK_LOG2 = 9

COPY_LIMITS: Final = CopyLimits(
    max_cscd_descriptors=_MAX_DESCRIPTORS,
    max_segment_descriptors=_MAX_DESCRIPTORS,
    max_descriptor_list_length_bytes=_MAX_DESCRIPTORS
    * (CscdDescriptor.LENGTH + BlockSegment.LENGTH),
    max_segment_length_bytes=_MAX_SEGMENT_BYTES,
    max_concurrent_copies=1,
    segment_granularity_log2=_SMALLEST_BLOCK_LOG2,
)
MAX_PARAMETER_LIST_LENGTH = CopyHeader.LENGTH + COPY_LIMITS.max_descriptor_list_length_bytes

_LIST_IDENTIFIER = Field(0, 7, 8)
_LIST_ID_USAGE = Field(1, 4, 2)
_CSCD_LIST_LENGTH = Field(2, 7, 16)
_INLINE_DATA_LENGTH = Field(12, 7, 32)
# Of a descriptor.
_TYPE_CODE = Field(0, 7, 8)
_DESIGNATOR_LENGTH = Field(7, 7, 8)
_DESCRIPTOR_LENGTH = Field(2, 7, 16)


@dataclass(frozen=True, slots=True)
class CopyList:
    """A valid parameter list; ``list_identifier`` is None where the operation has none."""

    list_identifier: int | None
    descriptors: tuple[CscdDescriptor, ...]
    segments: tuple[BlockSegment, ...]


def cscd_offset(index: int) -> int:
    """Where in the parameter list a CSCD descriptor begins."""
    return CopyHeader.LENGTH + index * CscdDescriptor.LENGTH


def parse_copy_list(data: bytes) -> CopyList:
    """Read a whole parameter list; raises CheckCondition with the ILLEGAL REQUEST it deserves."""
    if not CopyHeader.LENGTH <= len(data) <= MAX_PARAMETER_LIST_LENGTH:
        raise CheckCondition(PARAMETER_LIST_LENGTH_ERROR)
    header = CopyHeader.parse(data)
    _check_header(header, len(data))
    segments_at = CopyHeader.LENGTH + header.cscd_list_length_bytes
    end = segments_at + header.segment_list_length_bytes
    return CopyList(
        _list_identifier(header),
        tuple(_cscd_descriptors(data[:segments_at])),
        tuple(_segments(data[:end], segments_at)),
    )


def _check_header(header: CopyHeader, length_bytes: int) -> None:
    if header.inline_data_length_bytes:
        raise _refused(AdditionalSense.INLINE_DATA_LENGTH_EXCEEDED, _INLINE_DATA_LENGTH)
    if header.cscd_list_length_bytes % CscdDescriptor.LENGTH:
        raise _refused(AdditionalSense.INVALID_FIELD_IN_PARAMETER_LIST, _CSCD_LIST_LENGTH)
    described = header.cscd_list_length_bytes + header.segment_list_length_bytes
    # Longer than described is an error as shorter is: it would be inline data.
    if CopyHeader.LENGTH + described != length_bytes:
        raise CheckCondition(PARAMETER_LIST_LENGTH_ERROR)
    if header.cscd_list_length_bytes // CscdDescriptor.LENGTH > COPY_LIMITS.max_cscd_descriptors:
        raise _refused(AdditionalSense.TOO_MANY_TARGET_DESCRIPTORS, _CSCD_LIST_LENGTH)


def _list_identifier(header: CopyHeader) -> int | None:
    try:
        usage = ListIdUsage(header.list_id_usage)
    except ValueError:
        raise _refused(AdditionalSense.INVALID_FIELD_IN_PARAMETER_LIST, _LIST_ID_USAGE) from None
    if usage is not ListIdUsage.NO_LIST_IDENTIFIER:
        return header.list_identifier
    if header.list_identifier:
        raise _refused(AdditionalSense.INVALID_FIELD_IN_PARAMETER_LIST, _LIST_IDENTIFIER)
    return None


def _cscd_descriptors(data: bytes) -> Iterator[CscdDescriptor]:
    for position in range(CopyHeader.LENGTH, len(data), CscdDescriptor.LENGTH):
        if data[position] != DescriptorType.IDENTIFICATION:
            raise _refused(
                AdditionalSense.UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE, _TYPE_CODE, position
            )
        descriptor = CscdDescriptor.parse(data[position : position + CscdDescriptor.LENGTH])
        if not descriptor.has_whole_designator:
            raise _refused(
                AdditionalSense.INVALID_FIELD_IN_PARAMETER_LIST, _DESIGNATOR_LENGTH, position
            )
        yield descriptor


def _segments(data: bytes, start: int) -> Iterator[BlockSegment]:
    for number, position in enumerate(range(start, len(data), BlockSegment.LENGTH)):
        if number == COPY_LIMITS.max_segment_descriptors:
            raise _refused(AdditionalSense.TOO_MANY_SEGMENT_DESCRIPTORS, _TYPE_CODE, position)
        if data[position] != DescriptorType.BLOCK_TO_BLOCK:
            raise _refused(
                AdditionalSense.UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE, _TYPE_CODE, position
            )
        descriptor = data[position : position + BlockSegment.LENGTH]
        if len(descriptor) < BlockSegment.LENGTH:
            raise CheckCondition(PARAMETER_LIST_LENGTH_ERROR)
        if _DESCRIPTOR_LENGTH.read(descriptor) != BlockSegment.LENGTH_FIELD:
            raise _refused(
                AdditionalSense.INVALID_FIELD_IN_PARAMETER_LIST, _DESCRIPTOR_LENGTH, position
            )
        yield BlockSegment.parse(descriptor)


def _refused(code: AdditionalSense, field: Field, position: int = 0) -> CheckCondition:
    """ILLEGAL REQUEST with a pointer to a field of the descriptor that begins at ``position``."""
    pointer = FieldPointer(position + field.byte, field.msb, in_cdb=False)
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, code, field_pointer=pointer))
