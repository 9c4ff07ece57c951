# SPDX-License-Identifier: GPL-2.0-or-later
"""Sense data: a record, and its fixed and descriptor wire forms (SPC-5 4.4).

Parsing is total: whatever bytes a device sends become a record, because sense data is read
while an error is being reported, and reporting must not fail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from scsi_backend.t10.additional_sense import AdditionalSense, additional_sense_text

FIXED_LENGTH = 18
MAX_LENGTH = 252
# The most that ``Sense.encode`` makes, in either format.
MAX_ENCODED_LENGTH = 64

_RESPONSE_FIXED = 0x70
_RESPONSE_DESCRIPTOR = 0x72
_DEFERRED = 0x01

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
    """The first byte (and bit, if known) in error of a CDB or of a parameter list."""

    byte: int
    bit: int | None = None
    in_cdb: bool = True

    def encode(self) -> bytes:
        """Return the three sense key specific bytes (SPC-5 table 38)."""
        flags = 0x80 | (0x40 if self.in_cdb else 0)
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
    """

    key: int
    code: int
    information: int | None = None
    field_pointer: FieldPointer | None = None
    deferred: bool = False

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
        if self.field_pointer is not None:
            data[15:18] = self.field_pointer.encode()
        return bytes(data)

    def _descriptor_format(self) -> bytes:
        body = bytearray()
        if self.information is not None:
            body += bytes((_DESCRIPTOR_INFORMATION, 0x0A, 0x80, 0))
            body += self.information.to_bytes(8, "big")
        if self.field_pointer is not None:
            body += bytes((_DESCRIPTOR_SENSE_KEY_SPECIFIC, 0x06, 0, 0))
            body += self.field_pointer.encode() + b"\0"
        head = (_RESPONSE_DESCRIPTOR | self.deferred, self.key, self.asc, self.ascq, 0, 0, 0)
        return bytes(head) + bytes((len(body),)) + bytes(body)

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
            text += f" ({where} byte {self.field_pointer.byte}"
            text += f" bit {self.field_pointer.bit})" if self.field_pointer.bit is not None else ")"
        return "deferred " + text if self.deferred else text


def _decode_field_pointer(key: int, data: bytes) -> FieldPointer | None:
    # With other keys the same bytes are a progress indication, a retry count or the like.
    return FieldPointer.decode(data) if key == SenseKey.ILLEGAL_REQUEST else None


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
    )


def _decode_descriptor(raw: bytes) -> Sense:
    key = raw[1] & 0x0F
    information: int | None = None
    pointer: FieldPointer | None = None
    position = 8
    while position + 2 <= len(raw):
        kind, length = raw[position], raw[position + 1]
        body = raw[position + 2 : position + 2 + length]
        if kind == _DESCRIPTOR_INFORMATION and len(body) >= 10 and body[0] & 0x80:
            information = int.from_bytes(body[2:10], "big")
        elif kind == _DESCRIPTOR_SENSE_KEY_SPECIFIC and len(body) >= 5:
            pointer = _decode_field_pointer(key, body[2:5])
        position += 2 + length
    return Sense(
        key=key,
        code=raw[2] << 8 | raw[3],
        information=information,
        field_pointer=pointer,
        deferred=bool(raw[0] & _DEFERRED),
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
SPACE_ALLOCATION_FAILED = Sense(
    SenseKey.DATA_PROTECT, AdditionalSense.SPACE_ALLOCATION_FAILED_WRITE_PROTECT
)
FAILED_SELF_TEST = Sense(SenseKey.HARDWARE_ERROR, AdditionalSense.LOGICAL_UNIT_FAILED_SELF_TEST)
INTERNAL_TARGET_FAILURE = Sense(SenseKey.HARDWARE_ERROR, AdditionalSense.INTERNAL_TARGET_FAILURE)
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
CAPACITY_CHANGED = Sense(SenseKey.UNIT_ATTENTION, AdditionalSense.CAPACITY_DATA_HAS_CHANGED)
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
