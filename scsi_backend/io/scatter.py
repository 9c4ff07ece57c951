# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of one transfer that lies in several places: SCST's scatter/gather list.

Whoever merges neighbouring requests into one command has a buffer for each of them. Storage takes
them all in one system call (preadv(2), pwritev(2)), so nothing is copied together or apart.
"""

from __future__ import annotations

from collections.abc import Sequence


class ScatterList:
    """Buffers of bytes that are one behind the other on the medium; at most IOV_MAX (1024) of them.

    It has a length and can be sliced and assigned to like a memoryview.
    """

    __slots__ = ("_length_bytes", "segments")

    def __init__(self, segments: Sequence[memoryview], length_bytes: int) -> None:
        """``length_bytes`` is the sum of the segments' lengths, which whoever merges knows."""
        self.segments = segments
        self._length_bytes = length_bytes

    def __len__(self) -> int:
        return self._length_bytes

    def __getitem__(self, part: slice) -> ScatterList:
        start, stop, step = part.indices(self._length_bytes)
        if step != 1:
            raise ValueError("expected a part without gaps")
        pieces = []
        position = 0
        for segment in self.segments:
            piece = segment[max(start - position, 0) : max(stop - position, 0)]
            position += len(segment)
            if piece:
                pieces.append(piece)
        return ScatterList(pieces, max(stop - start, 0))

    def __setitem__(self, part: slice, data: bytes | bytearray | memoryview) -> None:
        target = self[part]
        if len(target) != len(data):
            raise ValueError(f"{len(data)} bytes: expected {len(target)}")
        position = 0
        for segment in target.segments:
            segment[:] = data[position : position + len(segment)]
            position += len(segment)


Buffer = memoryview | ScatterList


def segments_of(buffer: Buffer) -> Sequence[memoryview]:
    """The places of a buffer, in order."""
    return buffer.segments if isinstance(buffer, ScatterList) else (buffer,)


def contiguous(buffer: Buffer) -> memoryview:
    """The bytes of a buffer in one place, which is a copy of a scattered one's."""
    if isinstance(buffer, ScatterList):
        return memoryview(b"".join(buffer.segments))
    return buffer
