# SPDX-License-Identifier: GPL-2.0-or-later
"""A packet socket for AoE on one interface: its options, its filter, and the ring it may have.

Source: packet(7), linux/if_packet.h, linux/filter.h, Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import ctypes
import mmap
import select
import socket
import struct
import sys
from typing import Final, NamedTuple

from bridges.aoe import ring
from bridges.aoe.ring import RxRing
from bridges.aoe.wire import ETHERTYPE, HeaderFlag

# linux/if_packet.h, asm-generic/socket.h.
_SOL_PACKET: Final = 263
_PACKET_RX_RING: Final = 5
_PACKET_STATISTICS: Final = 6
_PACKET_VERSION: Final = 10
_PACKET_RESERVE: Final = 12
_PACKET_IGNORE_OUTGOING: Final = 23
_TPACKET_V2: Final = 1
_SO_ATTACH_FILTER: Final = 26
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33

# What the ring may take of the kernel's memory, and how many slots are of any use.
_RING_BYTES: Final = 8 << 20
_MIN_SLOTS: Final = 64
_MAX_SLOTS: Final = 2048
_SLOTS_STEP: Final = 32

# columns.py takes LBAs, which are little-endian in a frame, for words of this machine.
_IS_LITTLE: Final = sys.byteorder == "little"

# Without a ring. The kernel reserves twice as much of each, for its own overhead.
RECEIVE_BUFFER_BYTES: Final = 8 << 20
SEND_BUFFER_BYTES: Final = 8 << 20

# struct sock_filter: code, jump if true, jump if false, constant. Frames for other hosts (which a
# promiscuous interface hears, or which are of a VLAN that this host is not in), frames too short
# for an AoE header's flags, and replies never come to user space.
_ACCEPTED_BYTES: Final = 0x40000
_FLAGS_OFFSET: Final = 14
_Filter = tuple[tuple[int, int, int, int], ...]
_REQUESTS: Final[_Filter] = (
    # BPF_LD+BPF_W+BPF_ABS of SKF_AD_OFF + SKF_AD_PKTTYPE.
    (0x20, 0, 0, 0xFFFFF000 + 4),
    # BPF_JMP+BPF_JGT+BPF_K: beyond PACKET_MULTICAST are OTHERHOST and OUTGOING.
    (0x25, 3, 0, 2),
    # BPF_LD+BPF_B+BPF_ABS; a frame without this byte is dropped.
    (0x30, 0, 0, _FLAGS_OFFSET),
    # BPF_JMP+BPF_JSET+BPF_K.
    (0x45, 1, 0, int(HeaderFlag.RESPONSE)),
    # BPF_RET+BPF_K.
    (0x06, 0, 0, _ACCEPTED_BYTES),
    (0x06, 0, 0, 0),
)
_NOTHING: Final[_Filter] = ((0x06, 0, 0, 0),)
_INSTRUCTION = struct.Struct("HBBI")
_PROGRAM = struct.Struct("HP")
_STATISTICS = struct.Struct("II")


class Statistics(NamedTuple):
    """Frames that the kernel has counted, the dropped ones among them."""

    frames: int
    dropped: int


class PacketSocket:
    """Owns the socket, and the ring of received frames, None where the kernel refused it.

    It is readable, as ``fileno`` says, once for each time that frames have come: not as long as
    there are any, since the kernel calls a ring readable while its last frame is kept.
    """

    def __init__(
        self, sock: socket.socket, sender: socket.socket, slot_size_bytes: int, slots: int
    ) -> None:
        self.sock = sock
        # Replies have a socket of their own: on one that is waited for, the kernel would look for
        # somebody to wake up after each frame that has left.
        self.sender = sender
        self.rx: RxRing | None = None
        self._counted = Statistics(0, 0)
        if slots:
            self._mapping = mmap.mmap(sock.fileno(), slot_size_bytes * slots)
            self.rx = RxRing(memoryview(self._mapping), slot_size_bytes)
        self._epoll = select.epoll()
        self._epoll.register(sock, select.EPOLLIN | select.EPOLLET)

    @classmethod
    def open(cls, frame_bytes: int, *, wants_ring: bool = True) -> PacketSocket:
        """Make a socket for frames of up to so many bytes, which hears nothing until it is bound.

        Raises OSError.
        """
        # Without a protocol the socket receives nothing until it is bound to the interface.
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            _set_buffer(sender, _SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            _attach_filter(sock, _REQUESTS)
            slots = _make_ring(sock, frame_bytes) if wants_ring and _IS_LITTLE else 0
            if not slots:
                _set_buffer(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            return cls(sock, sender, ring.slot_bytes(ring.RX_FRAME_OFFSET + frame_bytes), slots)
        except BaseException:
            sock.close()
            sender.close()
            raise

    def bind(self, interface: str) -> None:
        """Receive what comes to an interface from now on; raises OSError."""
        self.sender.bind((interface, 0))
        self.sock.bind((interface, ETHERTYPE))

    @property
    def is_bound(self) -> bool:
        """Whether the interface is there that it was bound to."""
        return bool(self.sock.getsockname()[0])

    def unhook(self) -> None:
        """Receive nothing more than has come, and go on sending."""
        _attach_filter(self.sock, _NOTHING)

    def fileno(self) -> int:
        """A descriptor for the event loop; ``woke`` is to be called when it is readable."""
        return self._epoll.fileno()

    def woke(self) -> bool:
        """Take note of what made the socket readable; tell whether it was an error.

        The error is cleared: the interface went down, and the socket works again when it is up.
        """
        for _, events in self._epoll.poll(0):
            if events & select.EPOLLERR:
                self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                return True
        return False

    @property
    def receive_buffer_bytes(self) -> int:
        """What the kernel grants a socket without a ring."""
        return self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    @property
    def statistics(self) -> Statistics:
        """What has come since the socket was opened; asking sets the kernel's counters to zero."""
        counted = self.sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        frames, dropped = _STATISTICS.unpack(counted)
        before = self._counted
        self._counted = Statistics(before.frames + frames, before.dropped + dropped)
        return self._counted

    def close(self) -> None:
        """Close the socket; whoever still looks at the ring's memory must not."""
        self._epoll.close()
        self.sock.close()
        self.sender.close()
        if self.rx is not None:
            # The mapping has a descriptor of its own, which keeps the socket in the kernel.
            self.rx.close()
            self._mapping.close()


def _attach_filter(sock: socket.socket, rows: _Filter) -> None:
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*row) for row in rows))
    program = _PROGRAM.pack(len(rows), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _make_ring(sock: socket.socket, frame_bytes: int) -> int:
    """Return how many slots the ring has, zero where the kernel refuses one."""
    count = min(_RING_BYTES // (ring.RX_FRAME_OFFSET + frame_bytes), _MAX_SLOTS)
    count = max(count - count % _SLOTS_STEP, _MIN_SLOTS)
    request = ring.ring_request(frame_bytes, count)
    try:
        sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        sock.setsockopt(_SOL_PACKET, _PACKET_RESERVE, ring.RESERVE_BYTES)
        sock.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
    except OSError:
        return 0
    return count


def _set_buffer(sock: socket.socket, forced: int, bounded: int, size_bytes: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, size_bytes)
    except PermissionError:
        # Without CAP_NET_ADMIN, net.core.rmem_max and wmem_max are the limits.
        sock.setsockopt(socket.SOL_SOCKET, bounded, size_bytes)
