# SPDX-License-Identifier: GPL-2.0-or-later
"""The frames that version 2 of the local bridge's protocol adds; ``wire`` is their specification.

Records and their checks only: no sockets, no memory. All frames of a client begin with a header
as long as a command's, so that a server reads them alike.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Final

from bridges.local.wire import (
    COMMAND,
    LENGTH_BYTES,
    MAX_CDB_BYTES,
    MAX_TEXT_BYTES,
    FrameError,
    FrameType,
    check_attribute,
    clip_text,
    encode_lun,
)
from scsi_backend.servers.task_attribute import TaskAttribute

MIN_AREA_BYTES: Final = mmap.PAGESIZE
MAX_AREA_BYTES: Final = 64 << 20

# bytes that follow, type, reserved, u64, reserved.
_SHORT: Final = struct.Struct(">IB3xQ16x")
# bytes that follow, type, whether it was refused, text length, bytes of the area.
AREA_REPLY: Final = struct.Struct(">IBBHQ")
# As a command: bytes that follow, type, task attribute, CDB length, tag, LUN, data-in and data-out
# length; then the offsets of data-in, data-out and the record.
SHARED_COMMAND: Final = struct.Struct(">IBBHQQIIIII")
# data-in length, status, whether a response follows; without the byte that is written last.
RECORD: Final = struct.Struct(">IBBx")
RECORD_BYTES: Final = 8
RECORD_DONE_AT: Final = 7

SHORT_BYTES: Final = COMMAND.size


def area_request(length_bytes: int) -> bytes:
    """Return a whole area request."""
    return _SHORT.pack(SHORT_BYTES - LENGTH_BYTES, FrameType.AREA_REQUEST, length_bytes)


def nudge(tag: int) -> bytes:
    """Return a whole nudge."""
    return _SHORT.pack(SHORT_BYTES - LENGTH_BYTES, FrameType.NUDGE, tag)


def parse_short(frame: bytes | memoryview) -> int:
    """Return the number in an area request or a nudge; raises FrameError."""
    length, kind, number = _SHORT.unpack_from(frame)
    if length != SHORT_BYTES - LENGTH_BYTES:
        raise FrameError(f"frame length {length} of type {kind}: expected {SHORT_BYTES - 4}")
    return int(number)


@dataclass(frozen=True, slots=True)
class AreaReply:
    """Server to client: how large the area is, zero and a text where there is none."""

    length_bytes: int
    text: str = ""

    def serialize(self) -> bytes:
        """Return the record; a long text is cut."""
        text = clip_text(self.text)
        length = AREA_REPLY.size - LENGTH_BYTES + len(text)
        is_refused = self.length_bytes == 0
        return (
            AREA_REPLY.pack(length, FrameType.AREA_REPLY, is_refused, len(text), self.length_bytes)
            + text
        )

    @classmethod
    def parse(cls, data: bytes) -> AreaReply | None:
        """Return the record, None while more is needed; raises FrameError."""
        if len(data) < AREA_REPLY.size:
            return None
        length, kind, is_refused, text_length, length_bytes = AREA_REPLY.unpack_from(data)
        if (
            kind != FrameType.AREA_REPLY
            or text_length > MAX_TEXT_BYTES
            or length != AREA_REPLY.size - LENGTH_BYTES + text_length
            or bool(is_refused) != (length_bytes == 0)
        ):
            raise FrameError("reply to the area request has fields out of range")
        if len(data) < AREA_REPLY.size + text_length:
            return None
        text = data[AREA_REPLY.size : AREA_REPLY.size + text_length]
        return cls(length_bytes, text.decode(errors="replace"))

    @staticmethod
    def missing_bytes(data: bytes) -> int:
        """How many bytes a record that begins like this lacks at least."""
        if len(data) < AREA_REPLY.size:
            return AREA_REPLY.size - len(data)
        text_length: int = AREA_REPLY.unpack_from(data)[3]
        return AREA_REPLY.size + text_length - len(data)


@dataclass(frozen=True, slots=True)
class SharedCommandFrame:
    """Client to server: a CDB whose data lies in the area."""

    tag: int
    lun: int
    cdb: bytes
    data_in_length: int = 0
    data_out_length: int = 0
    data_in_offset: int = 0
    data_out_offset: int = 0
    record_offset: int = 0
    attribute: int = TaskAttribute.SIMPLE

    def serialize(self) -> bytes:
        """Return the frame."""
        return (
            SHARED_COMMAND.pack(
                SHARED_COMMAND.size - LENGTH_BYTES + len(self.cdb),
                FrameType.SHARED_COMMAND,
                self.attribute,
                len(self.cdb),
                self.tag,
                encode_lun(self.lun),
                self.data_in_length,
                self.data_out_length,
                self.data_in_offset,
                self.data_out_offset,
                self.record_offset,
            )
            + self.cdb
        )


def check_shared_command(header: bytes | memoryview, area_bytes: int, max_data_bytes: int) -> None:
    """Raise FrameError unless a header's fields agree and lie within the area and the limits."""
    fields = SHARED_COMMAND.unpack_from(header)
    length, _, attribute, cdb_length, tag, _, data_in, data_out, *offsets = fields
    check_attribute(tag, attribute)
    if not 0 < cdb_length <= MAX_CDB_BYTES:
        raise FrameError(f"tag {tag:#x}: CDB of {cdb_length} bytes: expected 1 to {MAX_CDB_BYTES}")
    parts = (data_in, data_out, RECORD_BYTES if offsets[2] else 0)
    for what, count, offset in zip(("data-in", "data-out", "record"), parts, offsets, strict=True):
        if count > max_data_bytes:
            raise FrameError(
                f"tag {tag:#x}: {what} of {count} bytes: expected at most {max_data_bytes}"
            )
        if offset + count > area_bytes:
            raise FrameError(
                f"tag {tag:#x}: {what} of {count} bytes at {offset}: the area has {area_bytes}"
            )
    expected = SHARED_COMMAND.size - LENGTH_BYTES + cdb_length
    if length != expected:
        raise FrameError(f"tag {tag:#x}: frame length {length}: its parts have {expected}")
