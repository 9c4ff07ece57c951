# SPDX-License-Identifier: GPL-2.0-or-later
"""What AoE needs to know of a network interface: MAC, MTU, state, and what follows from them.

Netlink only tells *that* something has changed: the few facts are then read for every interface.
So there is nothing to parse, nor a library's event loop beside ours (pyroute2's own sockets do not
open under uvloop). Frames are a port's business.

Source: netdevice(7), rtnetlink(7); AoEr11 3.2 for the two counts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from typing import Final, NamedTuple

from bridges.aoe.wire import ATA_DATA_OFFSET, ETHERNET_HEADER_BYTES, SECTOR_BYTES

_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFMTU: Final = 0x8921
_SIOCGIFHWADDR: Final = 0x8927
_IFF_RUNNING: Final = 0x40
_ARPHRD_ETHER: Final = 1
_RTMGRP_LINK: Final = 1

_NAME_BYTES: Final = 16
_IFREQ = struct.Struct("16s24x")
_FLAGS = struct.Struct("16xH")
_MTU = struct.Struct("16xi")
_HARDWARE_ADDRESS = struct.Struct("16xH6s")

# AoEr11's 36 bytes of headers, as clients subtract them from the MTU.
_MIN_MTU: Final = ATA_DATA_OFFSET + SECTOR_BYTES
_MAX_SECTOR_COUNT: Final = 255
# A page of 4 KiB; a larger transfer that is no multiple of it is cut across pages by clients.
_SECTORS_PER_PAGE: Final = 8

# The Linux driver's own limit (aoe_maxout). It shows no disk at all for a count below 2.
_MAX_BUFFER_COUNT: Final = 64
_MIN_BUFFER_COUNT: Final = 2
# Drivers give a small frame a page and a jumbo frame a power of two, plus the socket buffer itself.
_PAGE_BYTES: Final = 4096
_SOCKET_BUFFER_BYTES: Final = 768


class Link(NamedTuple):
    """The state of an interface."""

    mac: bytes
    mtu: int
    is_running: bool

    @property
    def frame_bytes(self) -> int:
        """The longest frame that fits the MTU."""
        return ETHERNET_HEADER_BYTES + self.mtu

    @property
    def sector_count(self) -> int:
        """How many sectors of data one frame holds."""
        sectors = max(1, min((self.mtu - ATA_DATA_OFFSET) // SECTOR_BYTES, _MAX_SECTOR_COUNT))
        if sectors >= _SECTORS_PER_PAGE:
            sectors -= sectors % _SECTORS_PER_PAGE
        return sectors

    def buffer_count(self, receive_buffer_bytes: int) -> int:
        """How many frames a receive buffer (SO_RCVBUF as the kernel counts) surely holds."""
        block = max(_PAGE_BYTES, 1 << (self.frame_bytes - 1).bit_length())
        frames = receive_buffer_bytes // (block + _SOCKET_BUFFER_BYTES)
        return max(_MIN_BUFFER_COUNT, min(frames, _MAX_BUFFER_COUNT))


def read_link(interface: str) -> Link:
    """Look at an interface; raises OSError, also if AoE cannot work there."""
    name = os.fsencode(interface)
    if len(name) >= _NAME_BYTES:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface)
    request = _IFREQ.pack(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        family, mac = _HARDWARE_ADDRESS.unpack_from(_ioctl(sock, _SIOCGIFHWADDR, request))
        if family != _ARPHRD_ETHER:
            raise OSError(errno.EPROTONOSUPPORT, "not an Ethernet interface", interface)
        (mtu,) = _MTU.unpack_from(_ioctl(sock, _SIOCGIFMTU, request))
        if mtu < _MIN_MTU:
            raise OSError(errno.EMSGSIZE, f"MTU {mtu}: expected at least {_MIN_MTU}", interface)
        (flags,) = _FLAGS.unpack_from(_ioctl(sock, _SIOCGIFFLAGS, request))
    return Link(mac, mtu, bool(flags & _IFF_RUNNING))


def _ioctl(sock: socket.socket, code: int, request: bytes) -> bytes:
    return fcntl.ioctl(sock.fileno(), code, request)


def link_events() -> socket.socket:
    """Return a socket that is readable whenever some interface has changed; raises OSError."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    events = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        events.bind((0, _RTMGRP_LINK))
    except OSError:
        events.close()
        raise
    return events


def drain(events: socket.socket) -> None:
    """Read every event that is there."""
    while True:
        try:
            events.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            # ENOBUFS: events were lost, which does not matter since none is read.
            if error.errno != errno.ENOBUFS:
                raise
