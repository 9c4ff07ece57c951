# SPDX-License-Identifier: GPL-2.0-or-later
"""The three forms of requests and replies (proto.md, "Transmission phase"): what is put where.

A session owns one form, by what was negotiated. The header of a successful READ has a fixed
length, so that it can be packed when the request is parsed and the medium read right behind it.
Error text is what a person at the client's end gets to see; it names the SCSI sense data.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import MappingProxyType
from typing import ClassVar

from bridges.nbd import wire
from bridges.nbd.negotiated import ReplyForm
from bridges.nbd.wire import ChunkFlag, ChunkType, Error, ExtentFlag

# What proto.md allows for a text, less room for the other fields.
_MAX_TEXT_BYTES = 1024

Extents = Sequence[tuple[int, ExtentFlag]]


class Replies(ABC):
    """How requests are read and replies are written; offsets and lengths are in bytes."""

    request: ClassVar[struct.Struct] = wire.REQUEST
    request_magic: ClassVar[int] = wire.REQUEST_MAGIC
    is_extended: ClassVar[bool] = False
    read_header_bytes: ClassVar[int]
    success_bytes: ClassVar[int]

    @staticmethod
    @abstractmethod
    def put_read_header(
        view: memoryview, start: int, cookie: int, offset: int, length: int
    ) -> None:
        """Write the header of a whole successful READ to ``view[start:]``; data follow it."""

    @staticmethod
    @abstractmethod
    def put_success(view: memoryview, start: int, cookie: int, offset: int) -> None:
        """Write the reply to a request that succeeded and has no data."""

    @staticmethod
    @abstractmethod
    def failure(
        cookie: int, offset: int, error: Error, text: str, error_offset: int | None = None
    ) -> bytes:
        """The reply to a request that failed, the last one to it if it is in chunks.

        ``offset`` is the request's, ``error_offset`` where it failed, if that is known.
        """


class StructuredOnly(Replies):
    """What only the two newer forms have."""

    @staticmethod
    @abstractmethod
    def read_part_header(cookie: int, offset: int, length: int, at: int, *, is_last: bool) -> bytes:
        """The header of ``length`` bytes of data from ``at``; ``offset`` is the request's."""

    @staticmethod
    @abstractmethod
    def hole(cookie: int, offset: int, length: int, at: int, *, is_last: bool) -> bytes:
        """Say that ``length`` bytes from ``at`` are zeros; ``offset`` is the request's."""

    @staticmethod
    @abstractmethod
    def block_status(cookie: int, offset: int, context: int, extents: Extents) -> bytes:
        """Tell the extents of a metadata context from ``offset`` on, which ends the reply."""

    @staticmethod
    @abstractmethod
    def nothing(cookie: int, offset: int) -> bytes:
        """End a reply that has no (further) content."""


class SimpleReplies(Replies):
    """Simple replies; the only form of which READ errors have no text."""

    read_header_bytes = wire.SIMPLE_REPLY.size
    success_bytes = wire.SIMPLE_REPLY.size

    @staticmethod
    def put_read_header(
        view: memoryview, start: int, cookie: int, offset: int, length: int
    ) -> None:
        """See ``Replies.put_read_header``."""
        _pack_simple(view, start, wire.SIMPLE_REPLY_MAGIC, 0, cookie)

    @staticmethod
    def put_success(view: memoryview, start: int, cookie: int, offset: int) -> None:
        """See ``Replies.put_success``."""
        _pack_simple(view, start, wire.SIMPLE_REPLY_MAGIC, 0, cookie)

    @staticmethod
    def failure(
        cookie: int, offset: int, error: Error, text: str, error_offset: int | None = None
    ) -> bytes:
        """See ``Replies.failure``."""
        return wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, error, cookie)


_pack_simple = wire.SIMPLE_REPLY.pack_into
# A chunk's or an extended reply's header together with the offset of OFFSET_DATA.
_CHUNK_DATA = struct.Struct(wire.CHUNK.format + "Q")
_pack_chunk_data = _CHUNK_DATA.pack_into
_EXTENDED_DATA = struct.Struct(wire.EXTENDED_REPLY.format + "Q")
_pack_extended_data = _EXTENDED_DATA.pack_into
_pack_extended = wire.EXTENDED_REPLY.pack_into
_OFFSET_BYTES = wire.OFFSET_DATA.size
_DONE = int(ChunkFlag.DONE)
_DATA = int(ChunkType.OFFSET_DATA)
_NONE = int(ChunkType.NONE)


class StructuredReplies(StructuredOnly):
    """Structured replies; requests without data are answered by the shorter simple reply.

    proto.md allows that for anything but READ and what has a payload.
    """

    read_header_bytes = _CHUNK_DATA.size
    success_bytes = wire.SIMPLE_REPLY.size

    @staticmethod
    def put_read_header(
        view: memoryview, start: int, cookie: int, offset: int, length: int
    ) -> None:
        """See ``Replies.put_read_header``."""
        _pack_chunk_data(
            view, start, wire.CHUNK_MAGIC, _DONE, _DATA, cookie, _OFFSET_BYTES + length, offset
        )

    put_success = staticmethod(SimpleReplies.put_success)

    @staticmethod
    def failure(
        cookie: int, offset: int, error: Error, text: str, error_offset: int | None = None
    ) -> bytes:
        """See ``Replies.failure``."""
        kind, payload = _error_payload(error, text, error_offset)
        return _chunk(_DONE, kind, cookie, payload)

    @staticmethod
    def read_part_header(cookie: int, offset: int, length: int, at: int, *, is_last: bool) -> bytes:
        """See ``StructuredOnly.read_part_header``."""
        flags = _DONE if is_last else 0
        return _CHUNK_DATA.pack(wire.CHUNK_MAGIC, flags, _DATA, cookie, _OFFSET_BYTES + length, at)

    @staticmethod
    def hole(cookie: int, offset: int, length: int, at: int, *, is_last: bool) -> bytes:
        """See ``StructuredOnly.hole``."""
        payload = wire.OFFSET_HOLE.pack(at, length)
        return _chunk(_DONE if is_last else 0, ChunkType.OFFSET_HOLE, cookie, payload)

    @staticmethod
    def block_status(cookie: int, offset: int, context: int, extents: Extents) -> bytes:
        """See ``StructuredOnly.block_status``; lengths have 32 bits."""
        payload = wire.BLOCK_STATUS.pack(context)
        payload += b"".join(wire.EXTENT.pack(length, flags) for length, flags in extents)
        return _chunk(_DONE, ChunkType.BLOCK_STATUS, cookie, payload)

    @staticmethod
    def nothing(cookie: int, offset: int) -> bytes:
        """See ``StructuredOnly.nothing``."""
        return _chunk(_DONE, ChunkType.NONE, cookie, b"")


class ExtendedReplies(StructuredOnly):
    """Extended headers: 64-bit lengths, and one header for every reply."""

    request = wire.EXTENDED_REQUEST
    request_magic = wire.EXTENDED_REQUEST_MAGIC
    is_extended = True
    read_header_bytes = _EXTENDED_DATA.size
    success_bytes = wire.EXTENDED_REPLY.size

    @staticmethod
    def put_read_header(
        view: memoryview, start: int, cookie: int, offset: int, length: int
    ) -> None:
        """See ``Replies.put_read_header``."""
        magic = wire.EXTENDED_REPLY_MAGIC
        payload = _OFFSET_BYTES + length
        _pack_extended_data(view, start, magic, _DONE, _DATA, cookie, offset, payload, offset)

    @staticmethod
    def put_success(view: memoryview, start: int, cookie: int, offset: int) -> None:
        """See ``Replies.put_success``."""
        _pack_extended(view, start, wire.EXTENDED_REPLY_MAGIC, _DONE, _NONE, cookie, offset, 0)

    @staticmethod
    def failure(
        cookie: int, offset: int, error: Error, text: str, error_offset: int | None = None
    ) -> bytes:
        """See ``Replies.failure``."""
        kind, payload = _error_payload(error, text, error_offset)
        return _extended(_DONE, kind, cookie, offset, payload)

    @staticmethod
    def read_part_header(cookie: int, offset: int, length: int, at: int, *, is_last: bool) -> bytes:
        """See ``StructuredOnly.read_part_header``."""
        flags, payload = _DONE if is_last else 0, _OFFSET_BYTES + length
        magic = wire.EXTENDED_REPLY_MAGIC
        return _EXTENDED_DATA.pack(magic, flags, _DATA, cookie, offset, payload, at)

    @staticmethod
    def hole(cookie: int, offset: int, length: int, at: int, *, is_last: bool) -> bytes:
        """See ``StructuredOnly.hole``."""
        payload = wire.OFFSET_HOLE.pack(at, length)
        return _extended(_DONE if is_last else 0, ChunkType.OFFSET_HOLE, cookie, offset, payload)

    @staticmethod
    def block_status(cookie: int, offset: int, context: int, extents: Extents) -> bytes:
        """See ``StructuredOnly.block_status``; lengths have 64 bits."""
        payload = wire.BLOCK_STATUS_EXT.pack(context, len(extents))
        payload += b"".join(wire.EXTENT_EXT.pack(length, flags) for length, flags in extents)
        return _extended(_DONE, ChunkType.BLOCK_STATUS_EXT, cookie, offset, payload)

    @staticmethod
    def nothing(cookie: int, offset: int) -> bytes:
        """See ``StructuredOnly.nothing``."""
        return _extended(_DONE, ChunkType.NONE, cookie, offset, b"")


def _chunk(flags: int, kind: ChunkType, cookie: int, payload: bytes) -> bytes:
    return wire.CHUNK.pack(wire.CHUNK_MAGIC, flags, kind, cookie, len(payload)) + payload


def _extended(flags: int, kind: ChunkType, cookie: int, offset: int, payload: bytes) -> bytes:
    magic = wire.EXTENDED_REPLY_MAGIC
    head = wire.EXTENDED_REPLY.pack(magic, flags, kind, cookie, offset, len(payload))
    return head + payload


def _error_payload(error: Error, text: str, error_offset: int | None) -> tuple[ChunkType, bytes]:
    encoded = text.encode(errors="replace")[:_MAX_TEXT_BYTES].decode(errors="ignore").encode()
    payload = wire.ERROR.pack(error, len(encoded)) + encoded
    if error_offset is None:
        return ChunkType.ERROR, payload
    return ChunkType.ERROR_OFFSET, payload + wire.OFFSET_DATA.pack(error_offset)


REPLIES = MappingProxyType(
    {
        ReplyForm.SIMPLE: SimpleReplies(),
        ReplyForm.STRUCTURED: StructuredReplies(),
        ReplyForm.EXTENDED: ExtendedReplies(),
    }
)
