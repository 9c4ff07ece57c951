# SPDX-License-Identifier: GPL-2.0-or-later
"""Sense data: a record, and its fixed and descriptor wire forms (SPC-5 4.4).

Parsing is total: whatever bytes a device sends become a record, because sense data is read
while an error is being reported, and reporting must not fail.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum

from scsi_backend.t10.additional_sense import AdditionalSense, additional_sense_text
from scsi_backend.t10.copy_failure import FIXED_LENGTH, CopyFailure

MAX_LENGTH = 252
# The most that ``Sense.encode`` makes, in either format.
MAX_ENCODED_LENGTH = 96

_RESPONSE_FIXED = 0x70
_RESPONSE_DESCRIPTOR = 0x72
_DEFERRED = 0x01

# SPC-5 4.4.2.4.4: what PROGRESS INDICATION would be when all is done.
PROGRESS_END = 0x10000
_SKSV = 0x80
_PROGRESS_INDICATION = struct.Struct(">BH")

_DESCRIPTOR_INFORMATION = 0x00
_DESCRIPTOR_SENSE_KEY_SPECIFIC = 0x02


class SenseKey(IntEnum):
    """SPC-5 table 48."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    RESERVED_C = 0xC
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


@dataclass(frozen=True, slots=True)
class FieldPointer:
    """The first byte (and bit, if known) in error of a CDB or of a parameter list.

    ``in_segment`` (SD): the byte is counted from the segment descriptor of an EXTENDED COPY.
    """

    byte: int
    bit: int | None = None
    in_cdb: bool = True
    in_segment: bool = False

    def encode(self) -> bytes:
        """Return the three sense key specific bytes (SPC-5 tables 38 and 41)."""
        flags = 0x80 | (0x40 if self.in_cdb else 0) | (0x20 if self.in_segment else 0)
        if self.bit is not None:
            flags |= 0x08 | self.bit
        return bytes((flags, self.byte >> 8 & 0xFF, self.byte & 0xFF))

    @classmethod
    def decode(cls, data: bytes) -> FieldPointer | None:
        """Return the pointer in sense key specific bytes, None where SKSV is zero."""
        if len(data) < 3 or not data[0] & 0x80:
            return None
        bit = data[0] & 0x07 if data[0] & 0x08 else None
        return cls(data[1] << 8 | data[2], bit, bool(data[0] & 0x40))


@dataclass(frozen=True, slots=True)
class Sense:
    """What a device server says of a command that did not simply succeed.

    ``code`` is ``asc << 8 | ascq``; ``information`` is the LBA or difference of the INFORMATION
    field. A ``deferred`` error belongs to an earlier command that had already got GOOD.
    ``progress``, which takes the place of a field pointer, counts in parts of 65536 how much of an
    operation is done. ``copy_failure`` is encoded, and not decoded again.
    """

    key: int
    code: int
    information: int | None = None
    field_pointer: FieldPointer | None = None
    deferred: bool = False
    progress: int | None = None
    copy_failure: CopyFailure | None = None

    @property
    def asc(self) -> int:
        """The additional sense code."""
        return self.code >> 8

    @property
    def ascq(self) -> int:
        """The additional sense code qualifier."""
        return self.code & 0xFF

    def encode(self, *, descriptor: bool = False) -> bytes:
        """Return the wire form that D_SENSE of the control mode page selects."""
        return self._descriptor_format() if descriptor else self._fixed_format()

    def _fixed_format(self) -> bytes:
        data = bytearray(FIXED_LENGTH)
        data[0] = _RESPONSE_FIXED | self.deferred
        data[2] = self.key
        # SPC-5 4.4.2: a value that does not fit the four bytes leaves VALID at zero.
        if self.information is not None and self.information < 1 << 32:
            data[0] |= 0x80
            data[3:7] = self.information.to_bytes(4, "big")
        data[7] = FIXED_LENGTH - 8
        data[12] = self.asc
        data[13] = self.ascq
        data[15:18] = self._sense_key_specific() or bytes(3)
        if self.copy_failure is not None:
            data[8:12], forwarded = self.copy_failure.fixed_format()
            data[7] += len(forwarded)
            data += forwarded
        return bytes(data)

    def _descriptor_format(self) -> bytes:
        body = bytearray()
        if self.information is not None:
            body += bytes((_DESCRIPTOR_INFORMATION, 0x0A, 0x80, 0))
            body += self.information.to_bytes(8, "big")
        specific = self._sense_key_specific()
        if specific:
            body += bytes((_DESCRIPTOR_SENSE_KEY_SPECIFIC, 0x06, 0, 0)) + specific + b"\0"
        if self.copy_failure is not None:
            body += self.copy_failure.descriptors()
        head = (_RESPONSE_DESCRIPTOR | self.deferred, self.key, self.asc, self.ascq, 0, 0, 0)
        return bytes(head) + bytes((len(body),)) + bytes(body)

    def _sense_key_specific(self) -> bytes:
        if self.field_pointer is not None:
            return self.field_pointer.encode()
        if self.progress is not None:
            return _PROGRESS_INDICATION.pack(_SKSV, self.progress)
        return b""

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Sense:
        """Read either form, however short; unreadable bytes give NO SENSE 00/00."""
        raw = bytes(data)
        if len(raw) > 7:
            # ADDITIONAL SENSE LENGTH: what lies beyond is not sense data.
            raw = raw[: 8 + raw[7]]
        response = raw[0] & 0x7E if raw else 0
        if response == _RESPONSE_DESCRIPTOR and len(raw) >= 4:
            return _decode_descriptor(raw)
        if response == _RESPONSE_FIXED and len(raw) >= 3:
            return _decode_fixed(raw)
        return cls(SenseKey.NO_SENSE, AdditionalSense.NO_ADDITIONAL_SENSE_INFORMATION)

    def as_deferred(self) -> Sense:
        """Return the same error, marked as belonging to an earlier command."""
        return replace(self, deferred=True)

    def __str__(self) -> str:
        name = SenseKey(self.key & 0x0F).name.replace("_", " ")
        text = f"{name} {self.asc:02X}/{self.ascq:02X} {additional_sense_text(self.code)}"
        if self.information is not None:
            text += f" information={self.information:#x}"
        if self.field_pointer is not None:
            where = "CDB" if self.field_pointer.in_cdb else "parameter list"
            where = "segment descriptor" if self.field_pointer.in_segment else where
            text += f" ({where} byte {self.field_pointer.byte}"
            text += f" bit {self.field_pointer.bit})" if self.field_pointer.bit is not None else ")"
        if self.progress is not None:
            text += f" ({self.progress * 100 // PROGRESS_END} % done)"
        if self.copy_failure is not None:
            text += f" segment={self.copy_failure.segment}"
            if self.copy_failure.sense is not None:
                text += f" [{self.copy_failure.sense}]"
        return "deferred " + text if self.deferred else text


# What the sense key specific bytes are depends on the sense key (SPC-5 4.4.2.4). With keys other
# than these they are a retry count or the like.
_KEYS_WITH_PROGRESS = frozenset({SenseKey.NO_SENSE, SenseKey.NOT_READY})


def _decode_field_pointer(key: int, data: bytes) -> FieldPointer | None:
    return FieldPointer.decode(data) if key == SenseKey.ILLEGAL_REQUEST else None


def _decode_progress(key: int, data: bytes) -> int | None:
    if key not in _KEYS_WITH_PROGRESS or len(data) < 3:
        return None
    flags, progress = _PROGRESS_INDICATION.unpack(data)
    return progress if flags & _SKSV else None


def _decode_fixed(raw: bytes) -> Sense:
    padded = raw.ljust(FIXED_LENGTH, b"\0")
    has_information = padded[0] & 0x80 and len(raw) >= 7
    key = padded[2] & 0x0F
    return Sense(
        key=key,
        code=padded[12] << 8 | padded[13],
        information=int.from_bytes(padded[3:7], "big") if has_information else None,
        field_pointer=_decode_field_pointer(key, padded[15:18]),
        deferred=bool(padded[0] & _DEFERRED),
        progress=_decode_progress(key, padded[15:18]),
    )


def _decode_descriptor(raw: bytes) -> Sense:
    key = raw[1] & 0x0F
    information: int | None = None
    pointer: FieldPointer | None = None
    progress: int | None = None
    position = 8
    while position + 2 <= len(raw):
        kind, length = raw[position], raw[position + 1]
        body = raw[position + 2 : position + 2 + length]
        if kind == _DESCRIPTOR_INFORMATION and len(body) >= 10 and body[0] & 0x80:
            information = int.from_bytes(body[2:10], "big")
        elif kind == _DESCRIPTOR_SENSE_KEY_SPECIFIC and len(body) >= 5:
            pointer = _decode_field_pointer(key, body[2:5])
            progress = _decode_progress(key, body[2:5])
        position += 2 + length
    return Sense(
        key=key,
        code=raw[2] << 8 | raw[3],
        information=information,
        field_pointer=pointer,
        deferred=bool(raw[0] & _DEFERRED),
        progress=progress,
    )


NO_SENSE = Sense(SenseKey.NO_SENSE, AdditionalSense.NO_ADDITIONAL_SENSE_INFORMATION)
INVALID_OPCODE = Sense(
    SenseKey.ILLEGAL_REQUEST,
    AdditionalSense.INVALID_COMMAND_OPERATION_CODE,
    field_pointer=FieldPointer(0),
)
LUN_NOT_SUPPORTED = Sense(SenseKey.ILLEGAL_REQUEST, AdditionalSense.LOGICAL_UNIT_NOT_SUPPORTED)
PARAMETER_LIST_LENGTH_ERROR = Sense(
    SenseKey.ILLEGAL_REQUEST, AdditionalSense.PARAMETER_LIST_LENGTH_ERROR
)
SAVING_PARAMETERS_NOT_SUPPORTED = Sense(
    SenseKey.ILLEGAL_REQUEST, AdditionalSense.SAVING_PARAMETERS_NOT_SUPPORTED
)
READ_ERROR = Sense(SenseKey.MEDIUM_ERROR, AdditionalSense.UNRECOVERED_READ_ERROR)
# As SCST; T10 keeps 0C/00, WRITE ERROR, for tapes and optical media.
WRITE_ERROR = Sense(SenseKey.MEDIUM_ERROR, AdditionalSense.PERIPHERAL_DEVICE_WRITE_FAULT)
WRITE_PROTECTED = Sense(SenseKey.DATA_PROTECT, AdditionalSense.WRITE_PROTECTED)
SOFTWARE_WRITE_PROTECTED = Sense(
    SenseKey.DATA_PROTECT, AdditionalSense.LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED
)
SPACE_ALLOCATION_FAILED = Sense(
    SenseKey.DATA_PROTECT, AdditionalSense.SPACE_ALLOCATION_FAILED_WRITE_PROTECT
)
FORMAT_IN_PROGRESS = Sense(
    SenseKey.NOT_READY, AdditionalSense.LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS
)
SANITIZE_IN_PROGRESS = Sense(
    SenseKey.NOT_READY, AdditionalSense.LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS
)
MEDIUM_FORMAT_CORRUPTED = Sense(SenseKey.MEDIUM_ERROR, AdditionalSense.MEDIUM_FORMAT_CORRUPTED)
FORMAT_COMMAND_FAILED = Sense(SenseKey.MEDIUM_ERROR, AdditionalSense.FORMAT_COMMAND_FAILED)
SANITIZE_COMMAND_FAILED = Sense(SenseKey.MEDIUM_ERROR, AdditionalSense.SANITIZE_COMMAND_FAILED)
FAILED_SELF_TEST = Sense(SenseKey.HARDWARE_ERROR, AdditionalSense.LOGICAL_UNIT_FAILED_SELF_TEST)
INTERNAL_TARGET_FAILURE = Sense(SenseKey.HARDWARE_ERROR, AdditionalSense.INTERNAL_TARGET_FAILURE)
MEDIUM_NOT_PRESENT = Sense(SenseKey.NOT_READY, AdditionalSense.MEDIUM_NOT_PRESENT)
MEDIUM_REMOVAL_PREVENTED = Sense(SenseKey.ILLEGAL_REQUEST, AdditionalSense.MEDIUM_REMOVAL_PREVENTED)
MEDIUM_MAY_HAVE_CHANGED = Sense(
    SenseKey.UNIT_ATTENTION, AdditionalSense.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED
)
RESET_OCCURRED = Sense(
    SenseKey.UNIT_ATTENTION, AdditionalSense.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
)
BUS_DEVICE_RESET = Sense(
    SenseKey.UNIT_ATTENTION, AdditionalSense.BUS_DEVICE_RESET_FUNCTION_OCCURRED
)
NEXUS_LOSS = Sense(SenseKey.UNIT_ATTENTION, AdditionalSense.I_T_NEXUS_LOSS_OCCURRED)
COMMANDS_CLEARED = Sense(
    SenseKey.UNIT_ATTENTION, AdditionalSense.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR
)
INVALID_RELEASE = Sense(
    SenseKey.ILLEGAL_REQUEST, AdditionalSense.INVALID_RELEASE_OF_PERSISTENT_RESERVATION
)
INSUFFICIENT_REGISTRATION_RESOURCES = Sense(
    SenseKey.ILLEGAL_REQUEST, AdditionalSense.INSUFFICIENT_REGISTRATION_RESOURCES
)
RESERVATIONS_PREEMPTED = Sense(SenseKey.UNIT_ATTENTION, AdditionalSense.RESERVATIONS_PREEMPTED)
RESERVATIONS_RELEASED = Sense(SenseKey.UNIT_ATTENTION, AdditionalSense.RESERVATIONS_RELEASED)
REGISTRATIONS_PREEMPTED = Sense(SenseKey.UNIT_ATTENTION, AdditionalSense.REGISTRATIONS_PREEMPTED)
CAPACITY_CHANGED = Sense(SenseKey.UNIT_ATTENTION, AdditionalSense.CAPACITY_DATA_HAS_CHANGED)
COMMAND_SEQUENCE_ERROR = Sense(SenseKey.ILLEGAL_REQUEST, AdditionalSense.COMMAND_SEQUENCE_ERROR)
LOG_PARAMETERS_CHANGED = Sense(SenseKey.UNIT_ATTENTION, AdditionalSense.LOG_PARAMETERS_CHANGED)
MODE_PARAMETERS_CHANGED = Sense(SenseKey.UNIT_ATTENTION, AdditionalSense.MODE_PARAMETERS_CHANGED)
ACCESS_STATE_CHANGED = Sense(
    SenseKey.UNIT_ATTENTION, AdditionalSense.ASYMMETRIC_ACCESS_STATE_CHANGED
)
ACCESS_STATE_TRANSITION = Sense(
    SenseKey.NOT_READY,
    AdditionalSense.LOGICAL_UNIT_NOT_ACCESSIBLE_ASYMMETRIC_ACCESS_STATE_TRANSITION,
)
PORT_IN_STANDBY = Sense(
    SenseKey.NOT_READY, AdditionalSense.LOGICAL_UNIT_NOT_ACCESSIBLE_TARGET_PORT_IN_STANDBY_STATE
)
PORT_UNAVAILABLE = Sense(
    SenseKey.NOT_READY,
    AdditionalSense.LOGICAL_UNIT_NOT_ACCESSIBLE_TARGET_PORT_IN_UNAVAILABLE_STATE,
)
SET_TARGET_PORT_GROUPS_FAILED = Sense(
    SenseKey.HARDWARE_ERROR, AdditionalSense.SET_TARGET_PORT_GROUPS_COMMAND_FAILED
)
THIN_PROVISIONING_SOFT_THRESHOLD_REACHED = Sense(
    SenseKey.UNIT_ATTENTION, AdditionalSense.THIN_PROVISIONING_SOFT_THRESHOLD_REACHED
)
INQUIRY_DATA_CHANGED = Sense(SenseKey.UNIT_ATTENTION, AdditionalSense.INQUIRY_DATA_HAS_CHANGED)
REPORTED_LUNS_CHANGED = Sense(
    SenseKey.UNIT_ATTENTION, AdditionalSense.REPORTED_LUNS_DATA_HAS_CHANGED
)


def out_of_range(lba: int, pointer: FieldPointer) -> Sense:
    """LOGICAL BLOCK ADDRESS OUT OF RANGE, with the first bad LBA as information."""
    return Sense(
        SenseKey.ILLEGAL_REQUEST,
        AdditionalSense.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE,
        information=lba if lba < 1 << 64 else None,
        field_pointer=pointer,
    )


def in_progress(sense: Sense, done: int, total: int) -> Sense:
    """``sense`` with the part that is done of an operation of ``total`` units."""
    progress = done * PROGRESS_END // total if total else 0
    return replace(sense, progress=min(progress, PROGRESS_END - 1))


def invalid_field_in_cdb(byte: int, bit: int | None = None) -> Sense:
    """INVALID FIELD IN CDB pointing at a byte, and at the field's most significant bit."""
    return Sense(
        SenseKey.ILLEGAL_REQUEST,
        AdditionalSense.INVALID_FIELD_IN_CDB,
        field_pointer=FieldPointer(byte, bit),
    )


def invalid_field_in_parameter_list(byte: int, bit: int | None = None) -> Sense:
    """INVALID FIELD IN PARAMETER LIST pointing into the data-out buffer."""
    return Sense(
        SenseKey.ILLEGAL_REQUEST,
        AdditionalSense.INVALID_FIELD_IN_PARAMETER_LIST,
        field_pointer=FieldPointer(byte, bit, in_cdb=False),
    )


def miscompare(offset_bytes: int) -> Sense:
    """MISCOMPARE DURING VERIFY, with the offset of the first differing byte as information."""
    return Sense(
        SenseKey.MISCOMPARE,
        AdditionalSense.MISCOMPARE_DURING_VERIFY_OPERATION,
        information=offset_bytes,
    )
