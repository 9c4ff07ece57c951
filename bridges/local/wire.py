# SPDX-License-Identifier: GPL-2.0-or-later
"""The local bridge's protocol: records, limits and LUN addressing; no sockets, no SCSI state.

The client sends a hello request and gets a hello reply. If its status is OK, frames follow:
commands from the client, responses from the server in whatever order the commands end. A client
may have as many commands outstanding as it likes; it gives each a tag, which the server only
echoes. All integers are big-endian; reserved bytes are sent as zero and not looked at.

    hello request    0  magic, 8 bytes, "SCSTLOCL"
                     8  u16 lowest version spoken      10  u16 highest version spoken
                    12  u16 name length (to 256)       14  u16 label length (to 64)
                    16  name, UTF-8: a target or a device; empty is the only enabled target
                     -  label, UTF-8: the name that a client gives itself; it may be empty

    hello reply      0  magic
                     8  u16 status (HelloStatus)       10  u16 version chosen
                    12  u64 LUN of the device that was named, else 0 (SAM-5 4.7)
                    20  u32 largest data-in or data-out of one command, in bytes
                    24  u16 initiator name length      26  u16 text length
                    28  4 reserved
                    32  initiator name, UTF-8, then text, UTF-8: what was wrong

The label is part of who a client is. Its initiator's name is ``local:uid=N``, N being the user that
the kernel says it runs as, or with a label ``local:uid=N,LABEL``: clients of one user with several
labels are several initiators, and a client that comes again with its label is the same one. So a
label that is to keep reservations has nothing in it that changes, such as a process number. Blanks,
``%``, commas and what is not printable stand in the name as ``%XX`` for each byte. The hello reply
says what the name is.

    command          0  u32 bytes that follow          4  u8 type 1
                     5  u8 task attribute (0 SIMPLE, 1 ORDERED, 2 HEAD OF QUEUE)
                     6  u16 CDB length (1 to 260)      8  u64 tag
                    16  u64 LUN (SAM-5 4.7)
                    24  u32 data-in length: how much the client has room for
                    28  u32 data-out length
                    32  CDB, then data-out

    response         0  u32 bytes that follow          4  u8 type 2     5  u8 SCSI status
                     6  u16 sense length (to 252)      8  u64 tag
                    16  u32 data-in length            20  4 reserved
                    24  data-in, then sense data, in the format of D_SENSE

Data-in lies directly behind a header of fixed size, so that a server reads the medium into the
memory it sends. A command that ends with CHECK CONDITION brings sense data and hardly ever data-in.

    management       0  u32 bytes that follow: 28      4  u8 type 9
                     5  u8 function (TaskManagementFunction)           6  2 reserved
                     8  u64 tag                       16  u64 LUN (SAM-5 4.7)
                    24  u64 tag of the command that ABORT TASK is about, else reserved

A management frame is answered with a response of type 10, which brings no data: its status is a
ManagementResponse. The commands that the function aborted have been answered before it.

    error           as a response, with type 3 and tag 0; instead of data-in a text, UTF-8

An error says how the client broke the protocol. It is the last thing the server sends: commands
that were under way are answered before it, and the connection ends after it.

Version 2 adds memory that both sides map, so that data need not go through the socket. Its frames
(``shared_wire``) are those of version 1 and these:

    area request     0  u32 bytes that follow: 28      4  u8 type 4     5  3 reserved
                     8  u64 bytes wanted, from a page to 64 MiB
                    16  16 reserved

    area reply       0  u32 bytes that follow          4  u8 type 5
                     5  u8 0: granted, 1: refused      6  u16 text length
                     8  u64 bytes of the area         16  text, UTF-8: why it was refused

The first byte of a reply that grants brings a descriptor (SCM_RIGHTS of unix(7)): a memfd of as
many bytes, sealed against another size. A client asks at most once and with no command
outstanding. Refused, it goes on without.

    shared command   0  to 31 as in a command, with type 6; no data-out follows
                    32  u32 offset of data-in          36  u32 offset of data-out
                    40  u32 offset of the record, 0: none
                    44  CDB

    shared response  as a response, with type 7; no data-in follows: it lies in the area

Offsets are bytes from the beginning of the area. The memory belongs to the command until it has
ended; whether commands share some is the client's own affair. A command with a record is answered
there, in 8 bytes of the area, so that a client that looks for it needs no system call:

    record           0  u32 data-in length             4  u8 SCSI status
                     5  u8 1 where a shared response follows on the stream, with sense data
                     6  reserved                       7  u8 1, written last

The client sets byte 7 to zero before it sends the command.

    nudge            0  u32 bytes that follow: 28      4  u8 type 8     5  3 reserved
                     8  u64 tag                       16  16 reserved

With a nudge a client says that it looks at the record of this command no longer. A command that
is still under way gets a shared response in place of the record. Else the server returns the
nudge, in the form of a response with type 8 and no more than the tag: the command had ended.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from scsi_backend.servers.task_attribute import TaskAttribute

MAGIC: Final = b"SCSTLOCL"
# Version 1 is what a client speaks that wants no shared area.
VERSION: Final = 1
SHARED_VERSION: Final = 2

MAX_NAME_BYTES: Final = 256
MAX_LABEL_BYTES: Final = 64
MAX_TEXT_BYTES: Final = 1024
# SPC-5 4.2.3: a variable-length CDB has 8 bytes and up to 252 more.
MAX_CDB_BYTES: Final = 260
# SPC-5 4.4: the limit of ADDITIONAL SENSE LENGTH.
MAX_SENSE_BYTES: Final = 252


class FrameError(Exception):
    """Bytes that are no record of this protocol; says what was expected."""


class FrameType(IntEnum):
    """What a frame is."""

    COMMAND = 1
    RESPONSE = 2
    ERROR = 3
    AREA_REQUEST = 4
    AREA_REPLY = 5
    SHARED_COMMAND = 6
    SHARED_RESPONSE = 7
    NUDGE = 8
    MANAGEMENT = 9
    MANAGEMENT_RESPONSE = 10


# bytes that follow, type, task attribute, CDB length, tag, LUN, data-in and data-out length.
COMMAND: Final = struct.Struct(">IBBHQQII")
# bytes that follow, type, function, reserved, tag, LUN, tag of a command.
MANAGEMENT: Final = struct.Struct(">IBB2xQQQ")
# bytes that follow, type, status, sense length, tag, data-in length, reserved.
RESPONSE: Final = struct.Struct(">IBBHQI4x")

# What the leading u32 of a frame does not count: itself.
LENGTH_BYTES: Final = 4

# The highest task attribute there is.
MAX_ATTRIBUTE: Final = max(TaskAttribute)

_ANSWERS = frozenset(
    {
        FrameType.RESPONSE,
        FrameType.ERROR,
        FrameType.SHARED_RESPONSE,
        FrameType.NUDGE,
        FrameType.MANAGEMENT_RESPONSE,
    }
)
# Those that bring neither data nor sense data.
_BARE_ANSWERS = frozenset({FrameType.NUDGE, FrameType.MANAGEMENT_RESPONSE})


@dataclass(frozen=True, slots=True)
class CommandFrame:
    """Client to server: a CDB; ``data_out_length`` bytes of data-out follow."""

    tag: int
    lun: int
    cdb: bytes
    data_in_length: int = 0
    data_out_length: int = 0
    attribute: int = TaskAttribute.SIMPLE

    def serialize(self) -> bytes:
        """Return everything but the data-out."""
        cdb = self.cdb
        length = COMMAND.size - LENGTH_BYTES + len(cdb) + self.data_out_length
        return (
            COMMAND.pack(
                length,
                FrameType.COMMAND,
                self.attribute,
                len(cdb),
                self.tag,
                encode_lun(self.lun),
                self.data_in_length,
                self.data_out_length,
            )
            + cdb
        )


def check_command(header: bytes | memoryview, max_data_bytes: int) -> None:
    """Raise FrameError unless the fields of a command's header agree and are within limits."""
    length, kind, attribute, cdb_length, tag, _, data_in, data_out = COMMAND.unpack_from(header)
    expected = COMMAND.size - LENGTH_BYTES + cdb_length + data_out
    if kind != FrameType.COMMAND:
        raise FrameError(f"frame type {kind}: expected {FrameType.COMMAND:d}")
    check_attribute(tag, attribute)
    if not 0 < cdb_length <= MAX_CDB_BYTES:
        raise FrameError(f"tag {tag:#x}: CDB of {cdb_length} bytes: expected 1 to {MAX_CDB_BYTES}")
    for what, count in (("data-in", data_in), ("data-out", data_out)):
        if count > max_data_bytes:
            raise FrameError(
                f"tag {tag:#x}: {what} of {count} bytes: expected at most {max_data_bytes}"
            )
    if length != expected:
        raise FrameError(f"tag {tag:#x}: frame length {length}: its parts have {expected}")


def check_attribute(tag: int, attribute: int) -> None:
    """Raise FrameError for a task attribute that does not exist."""
    if attribute > MAX_ATTRIBUTE:
        raise FrameError(
            f"tag {tag:#x}: task attribute {attribute}: expected 0 to {MAX_ATTRIBUTE:d}"
        )


@dataclass(frozen=True, slots=True)
class ManagementFrame:
    """Client to server: a task management function, for which ``task`` is a command's tag."""

    tag: int
    function: int
    lun: int
    task: int = 0

    def serialize(self) -> bytes:
        """Return the frame."""
        length = MANAGEMENT.size - LENGTH_BYTES
        lun = encode_lun(self.lun)
        return MANAGEMENT.pack(
            length, FrameType.MANAGEMENT, self.function, self.tag, lun, self.task
        )


def parse_management(frame: bytes | memoryview) -> tuple[int, int, int, int]:
    """Return function, tag, raw LUN and the tag of a command; raises FrameError."""
    length, _, function, tag, raw_lun, task = MANAGEMENT.unpack_from(frame)
    if length != MANAGEMENT.size - LENGTH_BYTES:
        raise FrameError(f"tag {tag:#x}: frame length {length}: expected {MANAGEMENT.size - 4}")
    return function, tag, raw_lun, task


@dataclass(frozen=True, slots=True)
class ResponseFrame:
    """Server to client: how a command ended; data-in and sense data follow."""

    tag: int
    status: int
    data_in_length: int = 0
    sense_length: int = 0
    kind: int = FrameType.RESPONSE

    def serialize(self) -> bytes:
        """Return the header."""
        length = RESPONSE.size - LENGTH_BYTES + self.sense_length
        if self.kind != FrameType.SHARED_RESPONSE:
            length += self.data_in_length
        return RESPONSE.pack(
            length, self.kind, self.status, self.sense_length, self.tag, self.data_in_length
        )

    @classmethod
    def parse(cls, header: bytes | memoryview) -> ResponseFrame:
        """Read a whole header; raises FrameError where its fields do not agree."""
        length, kind, status, sense_length, tag, data_in_length = RESPONSE.unpack_from(header)
        if kind not in _ANSWERS:
            raise FrameError(f"frame type {kind}: expected a response")
        if sense_length > MAX_SENSE_BYTES:
            raise FrameError(f"sense data of {sense_length} bytes: expected to {MAX_SENSE_BYTES}")
        if kind == FrameType.ERROR and data_in_length > MAX_TEXT_BYTES:
            raise FrameError(f"text of {data_in_length} bytes: expected to {MAX_TEXT_BYTES}")
        if kind in _BARE_ANSWERS and (data_in_length or sense_length):
            raise FrameError(f"frame type {kind} with data: expected none")
        expected = RESPONSE.size - LENGTH_BYTES + sense_length
        if kind != FrameType.SHARED_RESPONSE:
            expected += data_in_length
        if length != expected:
            raise FrameError(f"frame length {length}: its parts have {expected}")
        return cls(tag, status, data_in_length, sense_length, kind)


def error_frame(text: str) -> bytes:
    """Return a whole error frame."""
    data = clip_text(text)
    return ResponseFrame(0, 0, len(data), kind=FrameType.ERROR).serialize() + data


def clip_text(text: str) -> bytes:
    """Encode a text, cut to MAX_TEXT_BYTES between two characters."""
    data = text.encode(errors="replace")[:MAX_TEXT_BYTES]
    return data.decode(errors="ignore").encode()


_FLAT_SPACE: Final = 0x4000
_MAX_PERIPHERAL_LUN: Final = 0xFF
_MAX_LUN: Final = 0x3FFF
_FIRST_LEVEL_SHIFT: Final = 48


def encode_lun(lun: int) -> int:
    """A single-level LUN (SAM-5 4.7): peripheral addressing to 255, flat space to 16383.

    Raises ValueError.
    """
    if not 0 <= lun <= _MAX_LUN:
        raise ValueError(f"LUN {lun}: expected 0 to {_MAX_LUN}")
    first_level = lun if lun <= _MAX_PERIPHERAL_LUN else _FLAT_SPACE | lun
    return first_level << _FIRST_LEVEL_SHIFT


def decode_lun(raw: int) -> int | None:
    """Return the number in a LUN field, None for the forms that no logical unit has here.

    Those are more than one level, bus numbers other than zero, and the other addressing methods.
    """
    first_level = raw >> _FIRST_LEVEL_SHIFT
    if raw & ((1 << _FIRST_LEVEL_SHIFT) - 1):
        return None
    if first_level <= _MAX_PERIPHERAL_LUN:
        return first_level
    if _FLAT_SPACE <= first_level <= _FLAT_SPACE | _MAX_LUN:
        return first_level & _MAX_LUN
    return None
