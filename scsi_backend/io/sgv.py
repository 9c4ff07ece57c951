# SPDX-License-Identifier: GPL-2.0-or-later
"""The SGV cache: page-aligned buffers kept for reuse, in size classes (SCST's sgv_pool).

Fresh memory costs a page fault every 4 KiB, more than a cached read of the same bytes; a buffer
used again costs none. Buffers are not zeroed between users: whoever takes one sends on only what
it wrote there itself.
"""

from __future__ import annotations

import mmap

PAGE_BYTES = mmap.PAGESIZE
_SMALLEST_CLASS_BYTES = 64 << 10


class SgvBuffer:
    """A writable page-aligned buffer; give it back with ``SgvCache.put``."""

    __slots__ = ("size_bytes", "view")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.view = memoryview(mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class SgvCache:
    """Free buffers by size class, newest first (warm in the processor's cache).

    ``limit_bytes`` bounds the memory kept idle; what is in use is bounded by the users' own limits.
    """

    def __init__(self, limit_bytes: int = 256 << 20) -> None:
        self._limit_bytes = limit_bytes
        self._idle_bytes = 0
        self._free: dict[int, list[SgvBuffer]] = {}

    @property
    def idle_bytes(self) -> int:
        """Memory held for reuse."""
        return self._idle_bytes

    def get(self, size_bytes: int) -> SgvBuffer:
        """Return a buffer of at least ``size_bytes``: the next power of two."""
        size = max(_SMALLEST_CLASS_BYTES, 1 << (size_bytes - 1).bit_length())
        free = self._free.get(size)
        if free:
            self._idle_bytes -= size
            return free.pop()
        return SgvBuffer(size)

    def put(self, buffer: SgvBuffer) -> None:
        """Take a buffer back; no view of it may be used after this."""
        size = buffer.size_bytes
        if self._idle_bytes + size <= self._limit_bytes:
            self._idle_bytes += size
            self._free.setdefault(size, []).append(buffer)
