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
                     -  label, UTF-8: what the client calls itself, for the server's log

    hello reply      0  magic
                     8  u16 status (HelloStatus)       10  u16 version chosen
                    12  u64 LUN of the device that was named, else 0 (SAM-5 4.7)
                    20  u32 largest data-in or data-out of one command, in bytes
                    24  u16 initiator name length      26  u16 text length
                    28  4 reserved
                    32  initiator name, UTF-8, then text, UTF-8: what was wrong

    command          0  u32 bytes that follow          4  u8 type 1     5  reserved
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


class HelloStatus(IntEnum):
    """How a server answers a hello."""

    OK = 0
    NO_SUCH_TARGET = 1
    VERSION_NOT_SPOKEN = 2
    REFUSED = 3


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


# magic, lowest and highest version, name length, label length.
HELLO_REQUEST: Final = struct.Struct(">8sHHHH")
# magic, status, version, LUN, maximum data length, initiator name length, text length, reserved.
HELLO_REPLY: Final = struct.Struct(">8sHHQIHH4x")
# bytes that follow, type, reserved, CDB length, tag, LUN, data-in length, data-out length.
COMMAND: Final = struct.Struct(">IBxHQQII")
# bytes that follow, type, status, sense length, tag, data-in length, reserved.
RESPONSE: Final = struct.Struct(">IBBHQI4x")

# What the leading u32 of a frame does not count: itself.
LENGTH_BYTES: Final = 4

_ANSWERS = frozenset(
    {FrameType.RESPONSE, FrameType.ERROR, FrameType.SHARED_RESPONSE, FrameType.NUDGE}
)


@dataclass(frozen=True, slots=True)
class HelloRequest:
    """Client to server, once, first."""

    name: str = ""
    label: str = ""
    lowest_version: int = VERSION
    highest_version: int = VERSION

    def serialize(self) -> bytes:
        """Return the record; raises ValueError if name or label is too long."""
        name, label = self.name.encode(), self.label.encode()
        for what, data, limit in (
            ("name", name, MAX_NAME_BYTES),
            ("label", label, MAX_LABEL_BYTES),
        ):
            if len(data) > limit:
                raise ValueError(f"{what} of {len(data)} bytes: expected at most {limit}")
        head = HELLO_REQUEST.pack(
            MAGIC, self.lowest_version, self.highest_version, len(name), len(label)
        )
        return head + name + label

    @classmethod
    def parse(cls, data: bytes | memoryview) -> tuple[HelloRequest, int] | None:
        """Return the record and its length in bytes, None while more are needed.

        Raises FrameError as soon as the bytes cannot be a hello.
        """
        if bytes(data[: len(MAGIC)]) != MAGIC[: len(data)]:
            raise FrameError(f"hello does not begin with {MAGIC.decode()}")
        if len(data) < HELLO_REQUEST.size:
            return None
        _, lowest, highest, name_length, label_length = HELLO_REQUEST.unpack_from(data)
        if name_length > MAX_NAME_BYTES:
            raise FrameError(f"name of {name_length} bytes: expected at most {MAX_NAME_BYTES}")
        if label_length > MAX_LABEL_BYTES:
            raise FrameError(f"label of {label_length} bytes: expected at most {MAX_LABEL_BYTES}")
        label_at = HELLO_REQUEST.size + name_length
        end = label_at + label_length
        if len(data) < end:
            return None
        name = _decode(data[HELLO_REQUEST.size : label_at], "name")
        label = _decode(data[label_at:end], "label")
        return cls(name, label, lowest, highest), end


@dataclass(frozen=True, slots=True)
class HelloReply:
    """Server to client; frames follow where ``status`` is OK, else the connection ends."""

    status: int
    version: int = 0
    lun: int = 0
    max_data_bytes: int = 0
    initiator_name: str = ""
    text: str = ""

    def serialize(self) -> bytes:
        """Return the record; a long text is cut."""
        name, text = self.initiator_name.encode(), clip_text(self.text)
        head = HELLO_REPLY.pack(
            MAGIC,
            self.status,
            self.version,
            encode_lun(self.lun),
            self.max_data_bytes,
            len(name),
            len(text),
        )
        return head + name + text

    @classmethod
    def parse(cls, data: bytes | memoryview) -> tuple[HelloReply, int] | None:
        """Return the record and its length in bytes, None while more are needed.

        Raises FrameError.
        """
        if bytes(data[: len(MAGIC)]) != MAGIC[: len(data)]:
            raise FrameError(f"reply to hello does not begin with {MAGIC.decode()}")
        if len(data) < HELLO_REPLY.size:
            return None
        fields = HELLO_REPLY.unpack_from(data)
        _, status, version, raw_lun, max_data_bytes, name_length, text_length = fields
        lun = decode_lun(raw_lun)
        if lun is None or name_length > MAX_NAME_BYTES or text_length > MAX_TEXT_BYTES:
            raise FrameError("reply to hello has fields out of range")
        text_at = HELLO_REPLY.size + name_length
        end = text_at + text_length
        if len(data) < end:
            return None
        name = _decode(data[HELLO_REPLY.size : text_at], "initiator name")
        text = _decode(data[text_at:end], "text")
        return cls(status, version, lun, max_data_bytes, name, text), end

    @staticmethod
    def missing_bytes(data: bytes | memoryview) -> int:
        """How many bytes a record that begins like this lacks at least."""
        if len(data) < HELLO_REPLY.size:
            return HELLO_REPLY.size - len(data)
        *_, name_length, text_length = HELLO_REPLY.unpack_from(data)
        end: int = HELLO_REPLY.size + name_length + text_length
        return end - len(data)


@dataclass(frozen=True, slots=True)
class CommandFrame:
    """Client to server: a CDB; ``data_out_length`` bytes of data-out follow."""

    tag: int
    lun: int
    cdb: bytes
    data_in_length: int = 0
    data_out_length: int = 0

    def serialize(self) -> bytes:
        """Return everything but the data-out."""
        cdb = self.cdb
        length = COMMAND.size - LENGTH_BYTES + len(cdb) + self.data_out_length
        return (
            COMMAND.pack(
                length,
                FrameType.COMMAND,
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
    length, kind, cdb_length, tag, _, data_in, data_out = COMMAND.unpack_from(header)
    expected = COMMAND.size - LENGTH_BYTES + cdb_length + data_out
    if kind != FrameType.COMMAND:
        raise FrameError(f"frame type {kind}: expected {FrameType.COMMAND:d}")
    if not 0 < cdb_length <= MAX_CDB_BYTES:
        raise FrameError(f"tag {tag:#x}: CDB of {cdb_length} bytes: expected 1 to {MAX_CDB_BYTES}")
    for what, count in (("data-in", data_in), ("data-out", data_out)):
        if count > max_data_bytes:
            raise FrameError(
                f"tag {tag:#x}: {what} of {count} bytes: expected at most {max_data_bytes}"
            )
    if length != expected:
        raise FrameError(f"tag {tag:#x}: frame length {length}: its parts have {expected}")


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
        if kind == FrameType.NUDGE and (data_in_length or sense_length):
            raise FrameError("nudge with data: expected none")
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


def _decode(data: bytes | memoryview, what: str) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise FrameError(f"{what} is not UTF-8") from error


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
