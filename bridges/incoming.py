# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes that a stream has received and its session has not used yet.

They lie in a chunk, in which commands may keep payloads while the stream goes on in the next one.
"""

from __future__ import annotations

from bridges.buffers import CHUNK_BYTES, Chunk
from scsi_backend.io.sgv import SgvCache

_MIN_ROOM_BYTES = 32 << 10


class Incoming:
    """Owns the chunk being received into, and what part of it is still to be used."""

    __slots__ = ("_head", "_kept", "_sgv", "_tail", "chunk", "kept_bytes")

    def __init__(self, sgv: SgvCache) -> None:
        self._sgv = sgv
        self.chunk = Chunk(sgv, CHUNK_BYTES)
        self._head = 0
        self._tail = 0
        # Chunks before this one that commands still use: a payload of some bytes keeps all of one.
        self._kept: list[Chunk] = []
        self.kept_bytes = 0

    @property
    def unused_bytes(self) -> int:
        """How many bytes wait for the session."""
        return self._tail - self._head

    @property
    def unused(self) -> memoryview:
        """The bytes that wait for the session."""
        return self.chunk.view[self._head : self._tail]

    def window(self, limit_bytes: int) -> memoryview:
        """Where to receive, with room for at least a message header.

        ``limit_bytes``, unless zero, is how much to receive at most while nothing waits.
        """
        is_empty = self._head == self._tail
        if is_empty and self.chunk.uses == 1:
            self._head = self._tail = 0
        elif len(self.chunk.view) - self._tail < _MIN_ROOM_BYTES:
            self._go_on()
        end = len(self.chunk.view)
        if limit_bytes and is_empty:
            end = min(end, self._tail + limit_bytes)
        return self.chunk.view[self._tail : end]

    def _go_on(self) -> None:
        """Go on in a fresh chunk; commands may still use the old one."""
        rest = self.unused
        fresh = Chunk(self._sgv, max(CHUNK_BYTES, 2 * len(rest)))
        fresh.view[: len(rest)] = rest
        self._kept.append(self.chunk)
        self.chunk.release()
        self.chunk = fresh
        self._head, self._tail = 0, len(rest)
        self.count_kept()

    def count_kept(self) -> None:
        """Find out how much of ``kept_bytes`` is still in use."""
        self._kept = [chunk for chunk in self._kept if chunk.uses]
        self.kept_bytes = sum(len(chunk.view) for chunk in self._kept)

    def received(self, count_bytes: int) -> None:
        """Take note that the window's first bytes have come."""
        self._tail += count_bytes

    def use(self, count_bytes: int) -> None:
        """Take note that the session has used the first bytes that waited."""
        self._head += count_bytes

    def close(self) -> None:
        """Let go of the chunk."""
        self.chunk.release()
