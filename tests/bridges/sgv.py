# SPDX-License-Identifier: GPL-2.0-or-later
"""An SGV cache that knows which of its buffers are out, so that a test can see a leak."""

from __future__ import annotations

from scsi_backend.io.sgv import SgvBuffer, SgvCache


class CountingSgv(SgvCache):
    """Counts the buffers in use, and refuses one that comes back twice."""

    def __init__(self) -> None:
        super().__init__()
        self.in_use: set[SgvBuffer] = set()
        # Buffers handed out so far.
        self.taken = 0
        self.largest_bytes = 0

    @property
    def in_use_bytes(self) -> int:
        """The size of all buffers that are out."""
        return sum(buffer.size_bytes for buffer in self.in_use)

    def get(self, size_bytes: int) -> SgvBuffer:
        """See ``SgvCache.get``."""
        buffer = super().get(size_bytes)
        self.in_use.add(buffer)
        self.taken += 1
        self.largest_bytes = max(self.largest_bytes, buffer.size_bytes)
        return buffer

    def put(self, buffer: SgvBuffer) -> None:
        """See ``SgvCache.put``."""
        assert buffer in self.in_use, "a buffer was given back twice"
        self.in_use.remove(buffer)
        super().put(buffer)
