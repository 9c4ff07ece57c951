# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server must answer to any bytes whatsoever: proto.md's transmission phase, said plainly.

A second implementation for the fuzz tests, slow and without any regard for memory, of a server
whose requests end in the order in which they came. Errors have no text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from tests.bridges.nbd.forms import BASE_ALLOCATION, PAYLOAD_LEN, Form
from tests.bridges.nbd.proto import (
    BLOCK_STATUS,
    CACHE,
    DF,
    DISC,
    EINVAL,
    EIO,
    ENOSPC,
    ENOTSUP,
    EPERM,
    FAST_ZERO,
    FLUSH,
    FUA,
    NO_HOLE,
    READ,
    REQ_ONE,
    TRIM,
    WRITE,
    WRITE_ZEROES,
)

EOVERFLOW = 75
_FLAGS = {
    READ: FUA,
    WRITE: FUA,
    FLUSH: FUA,
    TRIM: FUA,
    CACHE: FUA,
    WRITE_ZEROES: FUA | NO_HOLE | FAST_ZERO,
    BLOCK_STATUS: FUA | REQ_ONE,
}
_MAX_PAYLOAD = 32 << 20
# Longer ones that are refused anyway are not waited for.
_MAX_SKIPPED = 128 << 20
_LONG_READ = 32 << 10
_MAX_FILTER = 8 + 4 * 1024
_HOLE_AND_ZERO = 3


@dataclass(frozen=True, slots=True)
class World:
    """A kind of disk, and what its client has negotiated."""

    form: Form = Form.SIMPLE
    knows_block_sizes: bool = True
    has_contexts: bool = True
    is_read_only: bool = False
    is_thin: bool = False
    blocks: int = 32
    block: int = 512
    # The number of a block that cannot be read.
    bad_block: int | None = None
    # Whether long READs need not copy what they send.
    can_send_files: bool = False

    @property
    def hole(self) -> range:
        """The blocks that are not allocated in the beginning."""
        return range(self.blocks // 4, self.blocks // 4 * 3) if self.is_thin else range(0)


@dataclass(frozen=True, slots=True)
class _Request:
    """A request; ``payload`` as far as it has come."""

    flags: int
    kind: int
    cookie: int
    offset: int
    length: int
    has_payload: bool
    payload: bytes


class _MediumError(Exception):
    """The block that cannot be read was to be read."""


@dataclass
class Model:
    """A disk and what is said about it."""

    world: World
    image: bytearray
    is_mapped: list[bool] = field(init=False)
    has_peer_error: bool = False

    def __post_init__(self) -> None:
        self.is_mapped = [number not in self.world.hole for number in range(self.world.blocks)]

    def answer(self, stream: bytes) -> bytes:
        """The replies to a stream of requests, up to where it breaks off."""
        return b"".join(self._replies(stream))

    def _replies(self, stream: bytes) -> Iterator[bytes]:
        is_extended = self.world.form is Form.EXTENDED
        header = struct.Struct(">IHHQQQ" if is_extended else ">IHHQQI")
        good_magic = 0x21E41C71 if is_extended else 0x25609513
        position = 0
        while len(stream) - position >= header.size:
            magic, flags, kind, cookie, offset, length = header.unpack_from(stream, position)
            position += header.size
            if magic != good_magic:
                self.has_peer_error = True
                return
            if kind == DISC:
                return
            has_payload = kind == WRITE or bool(is_extended and flags & PAYLOAD_LEN)
            payload = stream[position : position + length] if has_payload else b""
            request = _Request(flags, kind, cookie, offset, length, has_payload, payload)
            if has_payload:
                if length > _MAX_SKIPPED:
                    self.has_peer_error = True
                    return
                if len(payload) < length:
                    return
                position += length
            yield self._reply(request)

    def _reply(self, request: _Request) -> bytes:
        error = self._error(request)
        if error:
            return self._failure(request, error)
        if request.kind == READ:
            return self._read(request)
        if request.kind == BLOCK_STATUS:
            return self._status(request)
        try:
            self._change(request)
        except _MediumError:
            return self._failure(request, EIO)
        return self._success(request)

    # What is wrong.

    def _error(self, request: _Request) -> int:
        world, kind, flags = self.world, request.kind, request.flags
        if kind not in _FLAGS:
            return EINVAL
        allowed = _FLAGS[kind]
        if kind == READ and world.form is not Form.SIMPLE:
            allowed |= DF
        if world.form is Form.EXTENDED and kind in (WRITE, BLOCK_STATUS):
            allowed |= PAYLOAD_LEN
        if flags & ~allowed:
            return EINVAL
        length = request.length
        if kind == BLOCK_STATUS:
            if not world.has_contexts or world.form is Form.SIMPLE:
                return EINVAL
            if request.has_payload:
                if not _is_filter(request.payload):
                    return EINVAL
                length = int.from_bytes(request.payload[:8], "big")
            if length == 0:
                return EINVAL
        if world.is_read_only and kind in (WRITE, TRIM, WRITE_ZEROES):
            return EPERM
        return 0 if kind == FLUSH else self._range_error(request, length)

    def _range_error(self, request: _Request, length: int) -> int:
        kind, flags, block = request.kind, request.flags, self.world.block
        if request.offset + length > len(self.image):
            return ENOSPC if kind in (WRITE, WRITE_ZEROES) else EINVAL
        if kind in (READ, WRITE) and length > _MAX_PAYLOAD:
            return EOVERFLOW if flags & DF else EINVAL
        is_whole = request.offset % block == 0 == length % block
        if self.world.knows_block_sizes and not is_whole:
            return EINVAL
        # Deallocating whole blocks is what is fast.
        is_fast = self.world.is_thin and is_whole and not flags & NO_HOLE
        return ENOTSUP if flags & FAST_ZERO and length and not is_fast else 0

    # What is done.

    def _parts(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """The blocks that a range touches: (block, first byte, end byte), counted from 0."""
        block = self.world.block
        while length:
            end = min(offset + length, (offset // block + 1) * block)
            yield offset // block, offset, end
            length -= end - offset
            offset = end

    def _change(self, request: _Request) -> None:
        kind, offset, length = request.kind, request.offset, request.length
        if kind not in (WRITE, TRIM, WRITE_ZEROES) or (kind == TRIM and not self.world.is_thin):
            return
        deallocates = kind == TRIM or (self.world.is_thin and not request.flags & NO_HOLE)
        for number, start, end in self._parts(offset, length):
            is_whole = end - start == self.world.block
            if kind == TRIM and not is_whole:
                continue
            if not is_whole and number == self.world.bad_block:
                raise _MediumError
            data = request.payload[start - offset : end - offset]
            self.image[start:end] = data if kind == WRITE else bytes(end - start)
            self.is_mapped[number] = kind == WRITE or not (deallocates and is_whole)

    def _read(self, request: _Request) -> bytes:
        offset, length, bad = request.offset, request.length, self.world.bad_block
        data = bytes(self.image[offset : offset + length])
        is_plain = not (offset | length) % self.world.block and not request.flags & DF
        is_long = self.world.can_send_files and is_plain and length >= _LONG_READ
        if is_long and self._is_hole(offset, length):
            # What is not there cannot be bad.
            if self.world.form is Form.SIMPLE:
                return self._data(request, data)
            return self._chunk(request, 1, 2, struct.pack(">QI", offset, length))
        if all(number != bad for number, _, _ in self._parts(offset, length)):
            return self._data(request, data)
        assert bad is not None
        if self.world.form is Form.SIMPLE or not is_plain:
            return self._failure(request, EIO)
        bad_offset = bad * self.world.block
        good = data[: bad_offset - offset]
        part = self._chunk(request, 0, 1, struct.pack(">Q", offset) + good) if good else b""
        return part + self._failure(request, EIO, bad_offset)

    def _is_hole(self, offset: int, length: int) -> bool:
        return not any(self.is_mapped[number] for number, _, _ in self._parts(offset, length))

    def _status(self, request: _Request) -> bytes:
        offset, length = request.offset, request.length
        if request.has_payload:
            length = int.from_bytes(request.payload[:8], "big")
            if len(request.payload) == 8:
                return self._chunk(request, 1, 0, b"")
        flags = [
            (0 if self.is_mapped[number] or not self.world.is_thin else _HOLE_AND_ZERO, end - start)
            for number, start, end in self._parts(offset, length)
        ]
        runs = [
            (sum(size for _, size in run), value)
            for value, run in groupby(flags, key=lambda each: each[0])
        ]
        if request.flags & REQ_ONE:
            del runs[1:]
        if self.world.form is Form.EXTENDED:
            head = struct.pack(">II", BASE_ALLOCATION, len(runs))
            return self._chunk(request, 1, 6, head + b"".join(struct.pack(">QQ", *r) for r in runs))
        head = struct.pack(">I", BASE_ALLOCATION)
        return self._chunk(request, 1, 5, head + b"".join(struct.pack(">II", *r) for r in runs))

    # How it is said.

    def _simple(self, request: _Request, error: int = 0, data: bytes = b"") -> bytes:
        return struct.pack(">IIQ", 0x67446698, error, request.cookie) + data

    def _chunk(self, request: _Request, flags: int, kind: int, payload: bytes) -> bytes:
        cookie, size = request.cookie, len(payload)
        if self.world.form is Form.EXTENDED:
            fields = (0x6E8A278C, flags, kind, cookie, request.offset, size)
            return struct.pack(">IHHQQQ", *fields) + payload
        return struct.pack(">IHHQI", 0x668E33EF, flags, kind, cookie, size) + payload

    def _success(self, request: _Request) -> bytes:
        if self.world.form is Form.EXTENDED:
            return self._chunk(request, 1, 0, b"")
        return self._simple(request)

    def _data(self, request: _Request, data: bytes) -> bytes:
        if self.world.form is Form.SIMPLE:
            return self._simple(request, 0, data)
        if not data:
            return self._chunk(request, 1, 0, b"")
        return self._chunk(request, 1, 1, struct.pack(">Q", request.offset) + data)

    def _failure(self, request: _Request, error: int, error_offset: int | None = None) -> bytes:
        if self.world.form is Form.SIMPLE:
            return self._simple(request, error)
        payload = struct.pack(">IH", error, 0)
        if error_offset is None:
            return self._chunk(request, 1, 0x8001, payload)
        return self._chunk(request, 1, 0x8002, payload + struct.pack(">Q", error_offset))


def _is_filter(payload: bytes) -> bool:
    """Whether a payload is a length and context ids, each known and at most once."""
    size = len(payload)
    ids = payload[8:]
    return 8 <= size <= _MAX_FILTER and ids in (b"", BASE_ALLOCATION.to_bytes(4, "big"))
