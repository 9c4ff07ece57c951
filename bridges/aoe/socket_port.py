# SPDX-License-Identifier: GPL-2.0-or-later
"""AoE through plain system calls, one for each frame: where the kernel refuses rings.

All frames that have come are received, then all are handled, then all replies are sent.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from typing import Final

from bridges.aoe.link import Link
from bridges.aoe.packet_socket import PacketSocket
from bridges.aoe.port import MAX_PENDING, PacketPort, Route

_log = logging.getLogger(__name__)

_FRAMES_PER_TURN: Final = 128


class SocketPort(PacketPort):
    """Owns the frame buffers and the replies that are not sent yet."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interface: str,
        link: Link,
        packets: PacketSocket,
        route: Route,
    ) -> None:
        super().__init__(loop, interface, link, packets, route)
        self._sock = packets.sock
        self.buffer_count = link.buffer_count(packets.receive_buffer_bytes)
        self._free: list[bytearray] = []
        self._queue: deque[memoryview] = deque()

    @property
    def has_ring(self) -> bool:
        """See ``PacketPort.has_ring``."""
        return False

    def take_link(self, link: Link) -> None:
        """See ``PacketPort.take_link``."""
        super().take_link(link)
        self.buffer_count = link.buffer_count(self._packets.receive_buffer_bytes)

    def send(self, frame: memoryview, length_bytes: int) -> None:
        """See ``Port.send``."""
        self._queue.append(frame[:length_bytes])
        self._schedule_flush()

    def release(self, frame: memoryview) -> None:
        """See ``Port.release``."""
        buffer = frame.obj
        assert isinstance(buffer, bytearray), "the frame came from here"
        self._free.append(buffer)

    def forget_flows(self, mac: bytes | None = None) -> None:
        """See ``Port.forget_flows``: none are remembered."""

    def _turn(self) -> bool:
        if self._is_closing:
            return False
        if self.pending >= MAX_PENDING:
            self._is_held_up = True
            return False
        frames = self._receive()
        self._is_in_turn = True
        try:
            for frame in frames:
                try:
                    is_kept = self._route(frame)
                except Exception:
                    # It gets no answer; everybody else's frames must.
                    _log.exception("%s: frame dropped", self.interface)
                    continue
                if not is_kept:
                    self.release(frame)
        finally:
            self._is_in_turn = False
            self._flush()
        # The socket is readable once for all that has come.
        return len(frames) == _FRAMES_PER_TURN

    def _receive(self) -> list[memoryview]:
        recv_into = self._sock.recv_into
        frames: list[memoryview] = []
        for _ in range(_FRAMES_PER_TURN):
            buffer = self._free.pop() if self._free else bytearray(self.capacity_bytes)
            try:
                length = recv_into(buffer)
            except OSError as error:
                self._free.append(buffer)
                if error.errno != errno.EAGAIN:
                    _log.warning("%s: %s", self.interface, error.strerror)
                break
            frames.append(memoryview(buffer)[:length])
        return frames

    def _send_queued(self) -> bool:
        queue = self._queue
        while queue:
            try:
                self._packets.sender.send(queue[0])
            except OSError as error:
                # EAGAIN: the socket's buffer is full; ENOBUFS: the interface's queue is.
                if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                    return False
                # ENETDOWN, EMSGSIZE, ENXIO: waiting would not help.
                _log.info("%s: reply not sent: %s", self.interface, error.strerror)
            queue.popleft()
            self.pending -= 1
        return True
