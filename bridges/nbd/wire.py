# SPDX-License-Identifier: GPL-2.0-or-later
"""The NBD protocol's numbers and records (NBD proto.md). All integers are big-endian."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Final

DEFAULT_PORT: Final = 10809

# Greeting: magic, magic, handshake flags.
NBDMAGIC: Final = 0x4E42444D41474943
IHAVEOPT: Final = 0x49484156454F5054
GREETING: Final = struct.Struct(">QQH")
CLIENT_FLAGS: Final = struct.Struct(">I")

# Option request: IHAVEOPT, option, length of the data that follows.
OPTION: Final = struct.Struct(">QII")
# Option reply: magic, option, reply type, length of the data that follows.
OPTION_REPLY_MAGIC: Final = 0x3E889045565A9
OPTION_REPLY: Final = struct.Struct(">QIII")
# Answer to EXPORT_NAME: size in bytes, transmission flags, then 124 zeros unless NO_ZEROES.
EXPORT_NAME_REPLY: Final = struct.Struct(">QH")
EXPORT_NAME_PADDING: Final = bytes(124)
# INFO replies: type, then size in bytes and transmission flags; type, then three block sizes.
INFO_EXPORT: Final = struct.Struct(">HQH")
INFO_BLOCK_SIZE: Final = struct.Struct(">HIII")
# NAME and DESCRIPTION: type, then text up to the end.
INFO_TEXT: Final = struct.Struct(">H")
# META_CONTEXT replies: context id, then its name up to the end.
META_CONTEXT: Final = struct.Struct(">I")

# Request: magic, command flags, type, cookie, offset and length in bytes; a payload may follow.
REQUEST_MAGIC: Final = 0x25609513
REQUEST: Final = struct.Struct(">IHHQQI")
# Simple reply: magic, error, cookie; data follows a successful READ.
SIMPLE_REPLY_MAGIC: Final = 0x67446698
SIMPLE_REPLY: Final = struct.Struct(">IIQ")
# Structured reply chunk: magic, flags, type, cookie, length of the payload that follows.
CHUNK_MAGIC: Final = 0x668E33EF
CHUNK: Final = struct.Struct(">IHHQI")
# Extended request and reply: magic, flags, type, cookie, offset and length in bytes.
EXTENDED_REQUEST_MAGIC: Final = 0x21E41C71
EXTENDED_REQUEST: Final = struct.Struct(">IHHQQQ")
EXTENDED_REPLY_MAGIC: Final = 0x6E8A278C
EXTENDED_REPLY: Final = struct.Struct(">IHHQQQ")
# Payloads of chunks. OFFSET_DATA: offset, then data; OFFSET_HOLE: offset and length in bytes.
OFFSET_DATA: Final = struct.Struct(">Q")
OFFSET_HOLE: Final = struct.Struct(">QI")
# BLOCK_STATUS: context id, then extents of length in bytes and flags.
BLOCK_STATUS: Final = struct.Struct(">I")
EXTENT: Final = struct.Struct(">II")
# BLOCK_STATUS_EXT: context id and number of extents, then extents of length in bytes and flags.
BLOCK_STATUS_EXT: Final = struct.Struct(">II")
EXTENT_EXT: Final = struct.Struct(">QQ")
# ERROR: error, length of the text that follows; ERROR_OFFSET adds an offset behind the text.
ERROR: Final = struct.Struct(">IH")
# Payload of a BLOCK_STATUS request: effect length in bytes, then u32 context ids.
BLOCK_STATUS_PAYLOAD: Final = struct.Struct(">Q")

BASE_ALLOCATION: Final = "base:allocation"

MAX_STRING_BYTES: Final = 4096
# proto.md: without other agreement a client may send payloads up to 32 MiB.
MAX_PAYLOAD_BYTES: Final = 32 << 20


class HandshakeFlag(IntFlag):
    """Server's flags in the greeting; the client's have the same bits."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class Option(IntEnum):
    """Option types; 4 was PEEK_EXPORT, withdrawn."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


_ERROR = 1 << 31


class OptionReply(IntEnum):
    """Option reply types."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = _ERROR + 1
    ERR_POLICY = _ERROR + 2
    ERR_INVALID = _ERROR + 3
    ERR_PLATFORM = _ERROR + 4
    ERR_TLS_REQD = _ERROR + 5
    ERR_UNKNOWN = _ERROR + 6
    ERR_SHUTDOWN = _ERROR + 7
    ERR_BLOCK_SIZE_REQD = _ERROR + 8
    ERR_TOO_BIG = _ERROR + 9
    ERR_EXT_HEADER_REQD = _ERROR + 10


class Info(IntEnum):
    """Information types of INFO and GO."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class TransmissionFlag(IntFlag):
    """What an export can do."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11
    BLOCK_STATUS_PAYLOAD = 1 << 12


class Command(IntEnum):
    """Request types; 8 is the RESIZE of a stale extension."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    """Command flags."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4
    PAYLOAD_LEN = 1 << 5


class ChunkFlag(IntFlag):
    """Flags of a structured or extended reply."""

    DONE = 1 << 0


class ChunkType(IntEnum):
    """Types of structured and extended replies."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    BLOCK_STATUS_EXT = 6
    ERROR = (1 << 15) + 1
    ERROR_OFFSET = (1 << 15) + 2


class ExtentFlag(IntFlag):
    """Flags of an extent in the context base:allocation."""

    HOLE = 1 << 0
    ZERO = 1 << 1


class Error(IntEnum):
    """Error values of replies; they are Linux's errnos."""

    OK = 0
    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108


def option_reply(option: int, reply: OptionReply, data: bytes = b"") -> bytes:
    """Return one reply to an option; for errors ``data`` is text for a person."""
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, reply, len(data)) + data
