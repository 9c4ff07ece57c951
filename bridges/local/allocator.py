# SPDX-License-Identifier: GPL-2.0-or-later
"""Which parts of a shared area are in use: first fit, in whole units; offsets only, no memory."""

from __future__ import annotations

from bisect import bisect

_UNIT_BYTES = 4096


class Allocator:
    """Gives parts of a range of offsets away and takes them back."""

    def __init__(self, start_bytes: int, end_bytes: int) -> None:
        # Free parts as (start, end), ascending, no two of them side by side.
        self._free = [(start_bytes, end_bytes)] if start_bytes < end_bytes else []

    def take(self, length_bytes: int) -> int | None:
        """Return where ``length_bytes`` begin that are the caller's now, None for no room."""
        length = _rounded(length_bytes)
        for index, (start, end) in enumerate(self._free):
            if end - start >= length:
                if end - start == length:
                    del self._free[index]
                else:
                    self._free[index] = (start + length, end)
                return start
        return None

    def give(self, offset_bytes: int, length_bytes: int) -> None:
        """Take back what ``take`` gave for as many bytes."""
        start, end = offset_bytes, offset_bytes + _rounded(length_bytes)
        free = self._free
        index = bisect(free, (start, end))
        if index < len(free) and free[index][0] == end:
            end = free.pop(index)[1]
        if index and free[index - 1][1] == start:
            index -= 1
            start = free.pop(index)[0]
        free.insert(index, (start, end))


def _rounded(length_bytes: int) -> int:
    return max(-(-length_bytes // _UNIT_BYTES), 1) * _UNIT_BYTES
