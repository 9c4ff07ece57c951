# SPDX-License-Identifier: GPL-2.0-or-later
"""Packet sockets with rings in shared memory (packet(7); Linux' packet_mmap.rst, TPACKET_V2).

For the load generator and the reflector: receiving costs no system call. Knows nothing of AoE.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

SOL_PACKET = 263
PACKET_RX_RING, PACKET_VERSION, PACKET_TX_RING, PACKET_IGNORE_OUTGOING = 5, 10, 13, 23
TPACKET_V2 = 1
SO_SNDBUFFORCE = 32
TP_STATUS_USER = 1
TP_STATUS_SEND_REQUEST = 1
FRAMES = 512
BLOCK_BYTES = 1 << 18
BUFFER_BYTES = 16 << 20
# tpacket2_hdr and sockaddr_ll, then room for an Ethernet header in front of a multiple of 16.
MAC_OFFSET = (32 + 20 + 16 + 15) // 16 * 16 - 14
# Frames to be sent begin where the address would be.
SEND_OFFSET = 32


@dataclass(frozen=True, slots=True)
class Ring:
    """Slots of `stride` bytes, received frames first, then, if asked for, those to be sent.

    The first two words of a slot are its status and the length of its frame.
    """

    socket: socket.socket
    memory: memoryview
    words: memoryview
    stride: int

    @property
    def step(self) -> int:
        """Words from one slot's status to the next one's."""
        return self.stride // 4

    @property
    def mac(self) -> bytes:
        """The interface's address."""
        return bytes(self.socket.getsockname()[4])


def stride_for(mtu: int) -> int:
    """The bytes of a slot for frames of this MTU: a power of two, as the blocks are."""
    return 1 << (MAC_OFFSET + 14 + mtu - 1).bit_length()


@contextlib.contextmanager
def open_ring(interface: str, ethertype: int, mtu: int, *, sends: bool = False) -> Iterator[Ring]:
    """A socket of the calling thread's network namespace. Raises OSError where it is refused."""
    stride = stride_for(mtu)
    request = struct.pack("=IIII", BLOCK_BYTES, FRAMES * stride // BLOCK_BYTES, stride, FRAMES)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
        sock.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        if sends:
            sock.setsockopt(SOL_PACKET, PACKET_TX_RING, request)
        size_bytes = FRAMES * stride * (2 if sends else 1)
        with (
            mmap.mmap(sock.fileno(), size_bytes) as mapped,
            memoryview(mapped) as memory,
            memory.cast("I") as words,
        ):
            sock.bind((interface, ethertype))
            yield Ring(sock, memory, words, stride)
