# SPDX-License-Identifier: GPL-2.0-or-later
"""The buffers of a logical unit that READ BUFFER and WRITE BUFFER reach.

One data buffer for all initiators, and an echo buffer for each nexus, so that nobody overwrites
another's. None of them takes memory before it is written.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

DATA_BUFFER_BYTES: Final = 64 << 10
# What the 13 bits of the echo buffer descriptor can say at most.
ECHO_BUFFER_BYTES: Final = 4096


class UnitBuffers:
    """Owns the contents; whoever calls has checked lengths and offsets."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._echoes: WeakKeyDictionary[object, bytes] = WeakKeyDictionary()

    def write_data(self, offset_bytes: int, data: bytes | memoryview) -> None:
        """Replace part of the data buffer."""
        if not self._data:
            self._data = bytearray(DATA_BUFFER_BYTES)
        self._data[offset_bytes : offset_bytes + len(data)] = data

    def read_data(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Part of the data buffer, which holds zeros at first; less where it ends."""
        length_bytes = min(length_bytes, DATA_BUFFER_BYTES - offset_bytes)
        if not self._data:
            return bytes(length_bytes)
        return bytes(self._data[offset_bytes : offset_bytes + length_bytes])

    def write_echo(self, nexus: object, data: bytes) -> None:
        """Keep what a nexus wrote to its echo buffer."""
        self._echoes[nexus] = data

    def read_echo(self, nexus: object) -> bytes | None:
        """What the nexus wrote last; None if it wrote nothing."""
        return self._echoes.get(nexus)

    def forget(self, nexus: object) -> None:
        """Drop the echo buffer of a nexus that is lost."""
        self._echoes.pop(nexus, None)

    def forget_all(self) -> None:
        """Drop the contents of all buffers: the logical unit is reset."""
        self._data = bytearray()
        self._echoes.clear()
