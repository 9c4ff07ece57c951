# SPDX-License-Identifier: GPL-2.0-or-later
"""A target without a disk: `python -m tests.bench.aoe.reflector INTERFACE MTU`.

Answers every request at once with nothing in it, so that the rate it reaches is a ceiling: what
generator, link and a server in Python could do if there were no disk to serve.
"""

from __future__ import annotations

import select
import socket
import struct
import sys

from tests.bench.aoe.frames import (
    CONFIG,
    DRDY,
    ETHERTYPE,
    HEADER_BYTES,
    MIN_FRAME_BYTES,
    READ_EXT,
    RESPONSE,
)
from tests.bench.aoe.rings import (
    FRAMES,
    MAC_OFFSET,
    SEND_OFFSET,
    TP_STATUS_SEND_REQUEST,
    TP_STATUS_USER,
    Ring,
    open_ring,
)

# Frames answered before the kernel is told to send.
BATCH = 16
IDLE_MS = 1000
# Addresses and ethertype; flags, error, shelf, slot, command, tag; then flags to status, and LBA.
_FRAME = struct.Struct("<6s6s2sBB3sB4sBBBB6s2x")


def reply_to(frame: bytes) -> tuple[bytes, int]:
    """The headers that answer a request, and the length of the whole reply."""
    target, source, kind, _, _, address, command, tag, flags, _, count, status, lba = (
        _FRAME.unpack_from(frame)
    )
    if command == CONFIG:
        # Buffer count, firmware, and the sector count of the largest frame that is measured.
        argument = (BATCH, 0, 0, 0, bytes([16, RESPONSE & 0xF0, 0, 0, 0, 0]))
        head = _FRAME.pack(source, target, kind, RESPONSE, 0, address, command, tag, *argument)
        return head, MIN_FRAME_BYTES
    length = HEADER_BYTES + 512 * count if status == READ_EXT else MIN_FRAME_BYTES
    return (
        _FRAME.pack(
            *(source, target, kind, RESPONSE, 0, address, command, tag, flags, 0, count, DRDY, lba)
        ),
        length,
    )


class Reflector:
    """One socket with both rings; owns where it is in them."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._at = 0
        self._next = 0

    def reflect(self) -> int:
        """Answer what has come, up to a batch; returns how many frames that was."""
        ring, step, stride = self._ring, self._ring.step, self._ring.stride
        filled: list[int] = []
        while len(filled) < BATCH and ring.words[self._at * step] & TP_STATUS_USER:
            begin = self._at * stride + MAC_OFFSET
            head, length = reply_to(ring.memory[begin : begin + HEADER_BYTES].tobytes())
            slot = FRAMES + self._next
            start = slot * stride + SEND_OFFSET
            ring.memory[start : start + HEADER_BYTES] = head
            ring.words[slot * step + 1] = length
            filled.append(slot * step)
            ring.words[self._at * step] = 0
            self._at = (self._at + 1) % FRAMES
            self._next = (self._next + 1) % FRAMES
        for status in filled:
            ring.words[status] = TP_STATUS_SEND_REQUEST
        if filled:
            ring.socket.send(b"", socket.MSG_DONTWAIT)
        return len(filled)


def main(interface: str, mtu: int) -> None:
    """Reflect until killed."""
    with open_ring(interface, ETHERTYPE, mtu, sends=True) as ring:
        poller = select.poll()
        poller.register(ring.socket, select.POLLIN)
        reflector = Reflector(ring)
        while True:
            if not reflector.reflect():
                poller.poll(IDLE_MS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
