# SPDX-License-Identifier: GPL-2.0-or-later
"""A network interface for a client: the only file here that has a socket.

Source: packet(7).
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from scapy.arch.linux import L2Socket

from bridges.aoe.link import Link, read_link
from bridges.aoe.wire import ETHERNET_HEADER_BYTES, ETHERTYPE
from bridges.aoe_tools.errors import ArgumentError, LinkError

# Many targets answer one broadcast at once.
_RECEIVE_BUFFER_BYTES: Final = 8 << 20
_SO_RCVBUFFORCE: Final = 33

_REASONS: Final = {
    errno.ENODEV: "no such network interface",
    errno.EPERM: "needs root (CAP_NET_RAW) to send Ethernet frames",
    errno.EACCES: "needs root (CAP_NET_RAW) to send Ethernet frames",
    errno.ENETDOWN: "the interface is down",
    errno.ENXIO: "the interface is gone",
}


class PacketLink:
    """AoE frames on one interface; ``open_link`` makes it."""

    def __init__(self, interface: str, link: Link, sock: L2Socket) -> None:
        self.interface = interface
        self._link = link
        self._socket = sock

    @property
    def mac(self) -> bytes:
        """The interface's own address."""
        return self._link.mac

    def send(self, frame: bytes) -> None:
        """Send a frame; raises LinkError, and ArgumentError for one that is too long."""
        room_bytes = ETHERNET_HEADER_BYTES + self._link.mtu
        if len(frame) > room_bytes:
            raise ArgumentError(
                f"{len(frame)} bytes do not fit a frame of {self.interface}: "
                f"expected at most {room_bytes} (MTU {self._link.mtu})"
            )
        with _explained(self.interface):
            self._socket.outs.sendall(frame)

    def receive(self, timeout_s: float) -> bytes | None:
        """Return the next frame of another host, None if none comes in time; raises LinkError."""
        with _explained(self.interface):
            readable, _, _ = select.select([self._socket], [], [], timeout_s)
            return self._socket.recv_raw()[1] if readable else None


@contextmanager
def open_link(interface: str) -> Iterator[PacketLink]:
    """Give a client the interface for a while; raises LinkError if it cannot be used."""
    with _explained(interface):
        link = _look_at(interface)
        sock = L2Socket(iface=interface, type=ETHERTYPE, promisc=False, nofilter=1)
    try:
        _enlarge(sock.ins)
        yield PacketLink(interface, link, sock)
    finally:
        sock.close()


def _look_at(interface: str) -> Link:
    link = read_link(interface)
    if not link.is_running:
        raise LinkError(f"{interface}: the interface is down, or has no carrier")
    return link


def _enlarge(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    except PermissionError:
        # CAP_NET_RAW alone: as much as the administrator lets everybody have.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)


@contextmanager
def _explained(interface: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        reason = _REASONS.get(number) or error.strerror or os.strerror(number)
        raise LinkError(f"{interface}: {reason}") from error
