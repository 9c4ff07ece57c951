# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server must answer to any bytes whatsoever: proto.md's transmission phase, said plainly.

A second implementation for the fuzz tests, slow and without any regard for memory, of a server
whose requests end in the order in which they came.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.bridges.nbd import proto
from tests.bridges.nbd.proto import (
    CACHE,
    DISC,
    EINVAL,
    ENOSPC,
    ENOTSUP,
    EPERM,
    FAST_ZERO,
    FLUSH,
    FUA,
    NO_HOLE,
    READ,
    TRIM,
    WRITE,
    WRITE_ZEROES,
)

_HEADER = struct.Struct(">IHHQQI")
_FLAGS = {
    READ: FUA,
    WRITE: FUA,
    FLUSH: FUA,
    TRIM: FUA,
    CACHE: FUA,
    WRITE_ZEROES: FUA | NO_HOLE | FAST_ZERO,
}
_MAX_PAYLOAD = 32 << 20
# Longer ones that are refused anyway are not waited for.
_MAX_SKIPPED = 128 << 20
BLOCK = 512


@dataclass
class Model:
    """A disk and what is said about it; TRIM is a hint that this one does not take."""

    image: bytearray
    is_read_only: bool = False
    has_peer_error: bool = False

    def answer(self, stream: bytes) -> bytes:
        """The replies to a stream of requests, up to where it breaks off."""
        replies = []
        position = 0
        while len(stream) - position >= _HEADER.size:
            magic, flags, kind, cookie, offset, length = _HEADER.unpack_from(stream, position)
            position += _HEADER.size
            if magic != 0x25609513:
                self.has_peer_error = True
                break
            if kind == DISC:
                break
            error = self._error(flags, kind, offset, length)
            payload = b""
            if kind == WRITE:
                if error and length > _MAX_SKIPPED:
                    self.has_peer_error = True
                    break
                payload = stream[position : position + length]
                if len(payload) < length:
                    break
                position += length
            data = b"" if error else self._execute(kind, offset, length, payload)
            replies.append(proto.reply(cookie, error, data))
        return b"".join(replies)

    def _error(self, flags: int, kind: int, offset: int, length: int) -> int:
        if kind not in _FLAGS or flags & ~_FLAGS[kind]:
            return EINVAL
        if self.is_read_only and kind in (WRITE, TRIM, WRITE_ZEROES):
            return EPERM
        if kind == FLUSH:
            return 0
        if offset + length > len(self.image):
            return ENOSPC if kind in (WRITE, WRITE_ZEROES) else EINVAL
        if kind in (READ, WRITE) and length > _MAX_PAYLOAD:
            return EINVAL
        if offset % BLOCK or length % BLOCK:
            return EINVAL
        # This disk cannot deallocate, which is what is fast.
        return ENOTSUP if flags & FAST_ZERO and length else 0

    def _execute(self, kind: int, offset: int, length: int, payload: bytes) -> bytes:
        if kind == READ:
            return bytes(self.image[offset : offset + length])
        if kind == WRITE:
            self.image[offset : offset + length] = payload
        elif kind == WRITE_ZEROES:
            self.image[offset : offset + length] = bytes(length)
        return b""
