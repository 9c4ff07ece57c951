# SPDX-License-Identifier: GPL-2.0-or-later
"""AoE on one network interface: a packet socket on the event loop, and the targets behind it.

The only file that moves frames. All that have arrived are read, then all are handled, then all
replies are sent. Nothing is dropped by design, because one lost frame stalls the Linux driver for
seconds: while too much is under way, frames stay in the socket's receive buffer.

Source: packet(7).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from bridges.aoe.address import Address, AddressMap, parse_address
from bridges.aoe.link import Link, drain, link_events, read_link
from bridges.aoe.target import AoeTarget
from bridges.aoe.wire import ETHERTYPE, HEADER_BYTES, MIN_FRAME_BYTES, parse_destination
from scsi_backend.target.target import Target

__all__ = ["AoeServer", "PacketPort", "parse_address"]

_log = logging.getLogger(__name__)

# linux/if_packet.h, asm-generic/socket.h.
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33

# The kernel reserves twice as much of each, for its own overhead.
RECEIVE_BUFFER_BYTES: Final = 8 << 20
SEND_BUFFER_BYTES: Final = 8 << 20
_FRAMES_PER_WAKE_UP: Final = 128
_MAX_PENDING: Final = 1024
_RESUME_PENDING: Final = 512
# The interface's queue is full, and there is no event for when it no longer is.
_SEND_RETRY_S: Final = 0.001
# Longer than any command is tried for (bridges/recovery.py).
_STOP_TIMEOUT_S: Final = 30.0


class PacketPort:
    """One interface: owns its sockets, the frame buffers and the replies that are not sent yet.

    ``route`` handles a frame and tells whether it is kept. ``on_link_up`` is called when the
    interface works again, or with another MAC or MTU than before.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interface: str,
        route: Callable[[memoryview], bool],
        on_link_up: Callable[[], None],
        receive_buffer_bytes: int,
        send_buffer_bytes: int,
    ) -> None:
        self.interface = interface
        self.mac = b""
        self.mtu = 0
        self.sector_count = self.buffer_count = 0
        self._loop = loop
        self._route = route
        self._on_link_up = on_link_up
        self._receive_buffer_bytes = receive_buffer_bytes
        self._send_buffer_bytes = send_buffer_bytes
        self._link = Link(b"", 0, False)
        self._socket: socket.socket | None = None
        self._events: socket.socket | None = None
        self._free: list[bytearray] = []
        self._queue: deque[memoryview] = deque()
        # Replies allocated and not sent: commands under way, and the queue.
        self._pending = 0
        self._is_flush_due = False
        # Waiting until the kernel takes frames again.
        self._is_blocked = False
        self._is_reading = False
        self._drained: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether frames can come and go."""
        return self._socket is not None

    def open(self) -> None:
        """Begin to receive; raises OSError."""
        # Without a protocol the socket receives nothing until it is bound to the interface.
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            link = read_link(sock, self.interface)
            sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            _set_buffer(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF, self._receive_buffer_bytes)
            _set_buffer(sock, _SO_SNDBUFFORCE, socket.SO_SNDBUF, self._send_buffer_bytes)
            sock.bind((self.interface, ETHERTYPE))
            self._events = link_events()
        except OSError:
            sock.close()
            raise
        self._socket = sock
        self._take_link(link)
        self._loop.add_reader(self._events, self._on_link_event)
        self._resume()

    async def close(self) -> None:
        """Stop receiving, wait until every command under way is replied to, and close."""
        assert self._socket is not None, "the port is open"
        assert self._events is not None, "the port is open"
        self._pause()
        self._loop.remove_reader(self._events)
        if self._pending:
            self._drained = self._loop.create_future()
            try:
                await asyncio.wait_for(self._drained, _STOP_TIMEOUT_S)
            except TimeoutError:
                _log.warning("%s: %d replies not sent", self.interface, self._pending)
            self._drained = None
        sock, self._socket = self._socket, None
        self._is_blocked = False
        self._loop.remove_writer(sock)
        sock.close()
        self._events.close()

    def allocate(self, length_bytes: int) -> memoryview:
        """See ``Port.allocate``."""
        self._pending += 1
        return memoryview(bytearray(max(length_bytes, MIN_FRAME_BYTES)))

    def send(self, frame: memoryview, length_bytes: int) -> None:
        """See ``Port.send``; the frame leaves at the end of the wake-up."""
        self._queue.append(frame if length_bytes == len(frame) else frame[:length_bytes])
        if not self._is_flush_due and not self._is_blocked:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def release(self, frame: memoryview) -> None:
        """See ``Port.release``."""
        buffer = frame.obj
        assert isinstance(buffer, bytearray), "the frame came from here"
        # A buffer from before a change of the MTU is not used again.
        if len(buffer) == self._link.frame_bytes:
            self._free.append(buffer)

    def forget_flows(self) -> None:
        """See ``Port.forget_flows``: nothing is remembered."""

    def _on_readable(self) -> None:
        frames = self._receive()
        self._is_flush_due = True
        try:
            for frame in frames:
                if not self._route(frame):
                    self.release(frame)
        finally:
            self._flush()
        if self._pending >= _MAX_PENDING:
            self._pause()

    def _receive(self) -> list[memoryview]:
        assert self._socket is not None, "the reader is removed before the socket is closed"
        recv_into = self._socket.recv_into
        frames: list[memoryview] = []
        for _ in range(_FRAMES_PER_WAKE_UP):
            buffer = self._free.pop() if self._free else bytearray(self._link.frame_bytes)
            try:
                length = recv_into(buffer)
            except BlockingIOError:
                self._free.append(buffer)
                break
            except OSError as error:
                self._free.append(buffer)
                self._on_socket_error(error)
                break
            frames.append(memoryview(buffer)[:length])
        return frames

    def _on_socket_error(self, error: OSError) -> None:
        # ENETDOWN, once; the socket works again when the interface is up.
        _log.warning("%s: %s", self.interface, error.strerror)
        self._watch_again()

    def _watch_again(self) -> None:
        # uvloop does not watch a socket any more once it has had an error.
        if self._is_reading:
            self._pause()
            self._resume()

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._is_blocked:
            return
        sock, queue = self._socket, self._queue
        while queue:
            if sock is not None and not self._send_one(sock, queue[0]):
                self._is_blocked = True
                return
            queue.popleft()
            self._pending -= 1
        if self._drained is None:
            if not self._is_reading and self._pending <= _RESUME_PENDING:
                self._resume()
        elif not self._pending and not self._drained.done():
            self._drained.set_result(None)

    def _send_one(self, sock: socket.socket, frame: memoryview) -> bool:
        """Send or give up a frame; return False if it is to be tried again later."""
        try:
            sock.send(frame)
        except BlockingIOError:
            self._loop.add_writer(sock, self._on_writable)
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self._loop.call_later(_SEND_RETRY_S, self._unblock)
                return False
            # ENETDOWN, EMSGSIZE, ENXIO: waiting would not help.
            _log.info("%s: reply not sent: %s", self.interface, error.strerror)
        return True

    def _on_writable(self) -> None:
        assert self._socket is not None, "the writer is removed before the socket is closed"
        self._loop.remove_writer(self._socket)
        self._unblock()

    def _unblock(self) -> None:
        self._is_blocked = False
        self._flush()

    def _pause(self) -> None:
        if self._is_reading and self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._is_reading = False

    def _resume(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._on_readable)
            self._is_reading = True

    def _on_link_event(self) -> None:
        """Some interface has changed; look whether it was this one."""
        assert self._socket is not None, "the reader is removed before the sockets are closed"
        assert self._events is not None, "the event came from it"
        self._loop.remove_reader(self._events)
        drain(self._events)
        # uvloop does not watch a socket any more once it has had an error (ENOBUFS here).
        self._loop.add_reader(self._events, self._on_link_event)
        self._watch_again()
        is_rebound = False
        try:
            link = read_link(self._socket, self.interface)
            if self._socket.getsockname()[0] != self.interface:
                # The interface was deleted, which unbinds the socket, and made again.
                self._socket.bind((self.interface, ETHERTYPE))
                # ENETDOWN waits there, and would be taken for the next send's.
                self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                is_rebound = True
        except OSError as error:
            _log.warning("%s: %s", self.interface, error.strerror)
            return
        if link != self._link or is_rebound:
            self._take_link(link)
            if link.is_running:
                self._on_link_up()

    def _take_link(self, link: Link) -> None:
        assert self._socket is not None, "the link is that of an open socket"
        if link.frame_bytes != self._link.frame_bytes:
            self._free.clear()
        self._link = link
        self.mac = link.mac
        self.mtu = link.mtu
        self.sector_count = link.sector_count
        granted = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self.buffer_count = link.buffer_count(granted)


class AoeServer:
    """Serves targets, by their (shelf, slot), on an interface.

    An AoeTarget of another server may be given, too: it is then reached through the interfaces of
    both, and keeps one order of writes.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interface: str,
        targets: Mapping[tuple[int, int], Target | AoeTarget],
        *,
        receive_buffer_bytes: int = RECEIVE_BUFFER_BYTES,
        send_buffer_bytes: int = SEND_BUFFER_BYTES,
    ) -> None:
        """Raises ValueError for an address, AoeTargetError for a target that cannot be served."""
        self.interface = interface
        by_address: dict[tuple[int, int], AoeTarget] = {
            Address(*pair): _aoe_target(Address(*pair), target, loop)
            for pair, target in targets.items()
        }
        self.targets = MappingProxyType(by_address)
        self._map = AddressMap(by_address)
        self._port = PacketPort(
            loop, interface, self._route, self.announce, receive_buffer_bytes, send_buffer_bytes
        )

    def start(self) -> None:
        """Begin to serve and announce the targets; raises OSError with the interface's name."""
        try:
            self._port.open()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.interface) from error
        for target in self.targets.values():
            target.attach(self._port)

    async def stop(self) -> None:
        """Stop receiving, wait until commands under way have been replied to, and close.

        Nothing happens if the server has not been started.
        """
        if not self._port.is_open:
            return
        await self._port.close()
        for target in self.targets.values():
            target.detach(self._port)

    def announce(self) -> None:
        """Broadcast that the targets are here, so that clients look at them again."""
        for target in self.targets.values():
            target.announce(self._port)

    def _route(self, frame: memoryview) -> bool:
        if len(frame) < HEADER_BYTES:
            return False
        is_kept = False
        # Only writes are kept, and those are for one target alone.
        for target in self._map.matching(*parse_destination(frame)):
            is_kept |= target.receive(frame, self._port)
        return is_kept


def _aoe_target(
    address: Address, target: Target | AoeTarget, loop: asyncio.AbstractEventLoop
) -> AoeTarget:
    if not isinstance(target, AoeTarget):
        return AoeTarget(address, target, loop)
    if target.address != address:
        raise ValueError(f"AoE address {address}: the target already has address {target.address}")
    return target


def _set_buffer(sock: socket.socket, forced: int, bounded: int, size_bytes: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, size_bytes)
    except PermissionError:
        # Without CAP_NET_ADMIN, net.core.rmem_max and wmem_max are the limits.
        sock.setsockopt(socket.SOL_SOCKET, bounded, size_bytes)
