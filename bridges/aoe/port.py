# SPDX-License-Identifier: GPL-2.0-or-later
"""What every way to move AoE frames through one network interface has in common.

How frames move is in ring_port.py (shared memory) and socket_port.py (system calls). Nothing is
dropped by design, because one lost frame stalls the Linux driver for seconds: while too much is
under way, frames stay where the kernel keeps them.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from bridges.aoe.link import Link
from bridges.aoe.packet_socket import PacketSocket, Statistics
from bridges.aoe.wire import MIN_FRAME_BYTES

_log = logging.getLogger(__name__)

MAX_PENDING: Final = 1024
RESUME_PENDING: Final = 512
# The interface's queue or the socket's buffer is full. Not every case has an event for its end.
SEND_RETRY_S: Final = 0.001
# Longer than any command is tried for (bridges/recovery.py).
STOP_TIMEOUT_S: Final = 30.0

# Handles a frame that has come by a port, and tells whether its memory is kept.
Route = Callable[[memoryview, "PacketPort"], bool]


class PacketPort(ABC):
    """One interface, from ``start`` to ``close``: the ``Port`` of the targets that it leads to.

    ``pending`` counts requests that have no reply yet, and replies that are not sent.
    ``capacity_bytes`` is the longest frame that there is room for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interface: str,
        link: Link,
        packets: PacketSocket,
        route: Route,
    ) -> None:
        self.interface = interface
        self.link = link
        self.mac = link.mac
        self.mtu = link.mtu
        self.sector_count = link.sector_count
        self.buffer_count = 0
        self.capacity_bytes = link.frame_bytes
        self.pending = 0
        self._loop = loop
        self._packets = packets
        self._route_to = route
        self._is_open = False
        # Taking frames: not while too much is under way, nor once the port is being closed.
        self._is_closing = False
        self._is_held_up = False
        self._is_flush_due = False
        self._is_in_turn = False
        self._retry: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._emptied: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Begin to receive, though nothing is handled before ``start``; raises OSError, closed."""
        try:
            self._packets.bind(self.interface)
        except OSError:
            self._packets.close()
            raise
        self._is_open = True

    def start(self) -> None:
        """Handle what has come and what comes, unless the port has been closed meanwhile."""
        if self._is_closing:
            return
        self._loop.add_reader(self._packets.fileno(), self._on_readable)
        self._take_turns()

    def take_link(self, link: Link) -> None:
        """Take over the state of the interface; frames must still fit ``capacity_bytes``."""
        self.link = link
        self.mac = link.mac
        self.mtu = link.mtu
        self.sector_count = link.sector_count
        self.forget_flows()
        # What could not be sent while the link was down.
        self._schedule_flush()

    @property
    def statistics(self) -> Statistics:
        """What the kernel has counted."""
        return self._packets.statistics

    @property
    @abstractmethod
    def has_ring(self) -> bool:
        """Whether frames move through shared memory."""

    @property
    def is_bound(self) -> bool:
        """Whether the interface is still the one that the port was opened on."""
        return self._packets.is_bound

    async def finish(self) -> None:
        """Receive nothing more, and begin all that has come."""
        self._packets.unhook()
        while not self._is_closing:
            if self._turn():
                await asyncio.sleep(0)
            elif not self._is_held_up:
                return
            else:
                self._emptied = self._loop.create_future()
                await self._emptied
                self._emptied = None

    async def close(self) -> None:
        """Stop receiving, wait until every command under way is replied to, and close."""
        self._is_closing = True
        self._loop.remove_reader(self._packets.fileno())
        self._flush()
        if self.pending:
            self._drained = self._loop.create_future()
            try:
                await asyncio.wait_for(self._drained, STOP_TIMEOUT_S)
            except TimeoutError:
                _log.warning("%s: %d replies not sent", self.interface, self.pending)
            self._drained = None
        self.abandon()

    def abandon(self) -> None:
        """Close at once: the interface is gone. Replies of commands under way go nowhere."""
        if not self._is_open:
            return
        self._is_open = False
        self._is_closing = True
        self._loop.remove_reader(self._packets.fileno())
        if self._retry is not None:
            self._retry.cancel()
        for future in (self._drained, self._emptied):
            _resolve(future)
        self._packets.close()

    def allocate(self, length_bytes: int) -> memoryview:
        """See ``Port.allocate``."""
        self.pending += 1
        return memoryview(bytearray(max(length_bytes, MIN_FRAME_BYTES)))

    def _route(self, frame: memoryview) -> bool:
        return self._route_to(frame, self)

    @abstractmethod
    def send(self, frame: memoryview, length_bytes: int) -> None:
        """See ``Port.send``; the frame leaves at the end of the wake-up."""

    @abstractmethod
    def release(self, frame: memoryview) -> None:
        """See ``Port.release``."""

    @abstractmethod
    def forget_flows(self, mac: bytes | None = None) -> None:
        """See ``Port.forget_flows``."""

    def _on_readable(self) -> None:
        if self._packets.woke():
            # ENETDOWN; the socket works again when the interface is up.
            _log.warning("%s: the interface is down", self.interface)
        self._take_turns()

    @abstractmethod
    def _turn(self) -> bool:
        """Receive what there is, within bounds, and answer; tell whether there may be more."""

    @abstractmethod
    def _send_queued(self) -> bool:
        """Send what waits; tell whether all of it has left."""

    def _schedule_flush(self) -> None:
        """Send at the end of the wake-up."""
        if not self._is_flush_due and not self._is_in_turn:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if not self._is_open:
            return
        if not self._send_queued() and self._retry is None and self.link.is_running:
            self._retry = self._loop.call_later(SEND_RETRY_S, self._try_again)
        if not self.pending:
            _resolve(self._drained)
        if self._is_held_up and not self._is_in_turn and self.pending <= RESUME_PENDING:
            self._is_held_up = False
            self._loop.call_soon(self._take_turns)

    def _take_turns(self) -> None:
        """Receive and answer, and come back to it if there is more after everything else."""
        if self._turn():
            self._loop.call_soon(self._take_turns)
        elif not self._is_held_up:
            _resolve(self._emptied)

    def _try_again(self) -> None:
        self._retry = None
        self._flush()


def _resolve(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
