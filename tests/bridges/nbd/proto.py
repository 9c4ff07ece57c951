# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD messages for tests, written from proto.md and not with the records of the code under test."""

from __future__ import annotations

import struct
from dataclasses import dataclass

GREETING = b"NBDMAGICIHAVEOPT\x00\x03"
FIXED_NEWSTYLE = bytes.fromhex("00000001")
FIXED_NEWSTYLE_NO_ZEROES = bytes.fromhex("00000003")

EXPORT_NAME, ABORT, LIST, PEEK_EXPORT, STARTTLS, INFO, GO, STRUCTURED_REPLY = range(1, 9)
LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS = 9, 10, 11
ACK, SERVER, REP_INFO, META_CONTEXT = 1, 2, 3, 4
ERR_UNSUP, ERR_POLICY, ERR_INVALID = 0x80000001, 0x80000002, 0x80000003
ERR_TLS_REQD, ERR_UNKNOWN, ERR_TOO_BIG = 0x80000005, 0x80000006, 0x80000009
ERR_EXT_HEADER_REQD = 0x8000000A

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = 1, 2, 4, 8, 16
EPERM, EIO, EINVAL, ENOSPC, ENOTSUP = 1, 5, 22, 28, 95

_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_OPTION_REPLY = struct.Struct(">QIII")
REQUEST_BYTES = 28
REPLY_BYTES = 16
OPTION_REPLY_BYTES = 20


def option(number: int, data: bytes = b"") -> bytes:
    """An option request."""
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def information(name: str, *kinds: int) -> bytes:
    """The data of INFO and GO."""
    encoded = name.encode()
    count = struct.pack(f">H{len(kinds)}H", len(kinds), *kinds)
    return struct.pack(">I", len(encoded)) + encoded + count


def go(name: str) -> bytes:
    """The GO option for an export."""
    return option(GO, information(name))


def meta_query(name: str, *queries: str) -> bytes:
    """The data of LIST_META_CONTEXT and SET_META_CONTEXT."""
    strings = [text.encode() for text in (name, *queries)]
    prefixed = [struct.pack(">I", len(text)) + text for text in strings]
    return prefixed[0] + struct.pack(">I", len(queries)) + b"".join(prefixed[1:])


def option_reply(number: int, kind: int, data: bytes = b"") -> bytes:
    """One reply to an option."""
    return _OPTION_REPLY.pack(0x3E889045565A9, number, kind, len(data)) + data


def request(
    kind: int, cookie: int, offset: int = 0, length: int = 0, flags: int = 0, payload: bytes = b""
) -> bytes:
    """A request; the payload of a WRITE follows its header."""
    return _REQUEST.pack(0x25609513, flags, kind, cookie, offset, length) + payload


def write(cookie: int, offset: int, payload: bytes, flags: int = 0) -> bytes:
    """A WRITE with its payload."""
    return request(WRITE, cookie, offset, len(payload), flags, payload)


def reply(cookie: int, error: int = 0, data: bytes = b"") -> bytes:
    """A simple reply, with the data of a READ."""
    return _REPLY.pack(0x67446698, error, cookie) + data


@dataclass(frozen=True, slots=True)
class OptionReply:
    """A decoded option reply."""

    option: int
    kind: int
    data: bytes


def parse_option_replies(data: bytes) -> list[OptionReply]:
    """Decode option replies; anything malformed or incomplete fails the test."""
    found = []
    while data:
        magic, number, kind, length = _OPTION_REPLY.unpack_from(data)
        assert magic == 0x3E889045565A9
        assert len(data) >= OPTION_REPLY_BYTES + length
        found.append(OptionReply(number, kind, data[OPTION_REPLY_BYTES:][:length]))
        data = data[OPTION_REPLY_BYTES + length :]
    return found


def parse_replies(data: bytes, read_lengths: dict[int, int]) -> list[tuple[int, int, bytes]]:
    """Decode simple replies to (cookie, error, data); anything malformed fails the test.

    ``read_lengths`` tells how much data the reply to a successful READ carries, by cookie.
    """
    found = []
    while data:
        magic, error, cookie = _REPLY.unpack_from(data)
        assert magic == 0x67446698
        length = 0 if error else read_lengths.get(cookie, 0)
        assert len(data) >= REPLY_BYTES + length
        found.append((cookie, error, data[REPLY_BYTES:][:length]))
        data = data[REPLY_BYTES + length :]
    return found
