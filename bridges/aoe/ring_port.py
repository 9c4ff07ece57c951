# SPDX-License-Identifier: GPL-2.0-or-later
"""AoE on an interface through a ring of received frames and an outbox of replies.

Each batch is read off the ring, divided into frames that are alike and these into bursts (runs of
sectors), executed, and answered by one system call. Frames without a flow take the plain way
through their target.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import struct
from collections import deque
from time import perf_counter
from typing import Final

from bridges import spin
from bridges.aoe.address import AddressMap
from bridges.aoe.burst import Burst
from bridges.aoe.columns import Identity, count_alike, identity, render_alike, runs_of
from bridges.aoe.flow import MAX_FLOWS, Flow, Plan, flow_of
from bridges.aoe.link import Link
from bridges.aoe.outbox import Outbox
from bridges.aoe.packet_socket import PacketSocket
from bridges.aoe.parts import Parts
from bridges.aoe.port import MAX_PENDING, PacketPort, Route
from bridges.aoe.ring import RX_FRAME_OFFSET, RxRing
from bridges.aoe.target import AoeTarget
from bridges.aoe.wire import ATA_DATA_OFFSET, parse_destination
from bridges.sparing_log import SparingLog
from bridges.spin import Spinner

_log = logging.getLogger(__name__)

# Captured length, and where the frame begins.
_PLACE = struct.Struct("<IHxx")
# The source address in a flow's key.
_SOURCE = slice(6, 12)
# Replies leave after so many frames, so that the initiator has work while the next are handled.
_BATCH_FRAMES: Final = 32
# Batches in one turn, after which the event loop looks at everything else.
_BATCHES_PER_TURN: Final = 8
# The socket's buffer is full, or the interface's queue is.
_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS})


class RingPort(PacketPort):
    """Owns the flows, the outbox, and the replies that did not leave with it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interface: str,
        link: Link,
        packets: PacketSocket,
        route: Route,
        targets: AddressMap[AoeTarget],
        spinner: Spinner,
    ) -> None:
        super().__init__(loop, interface, link, packets, route)
        assert packets.rx is not None, "the socket has a ring"
        self.rx: RxRing = packets.rx
        self.outbox = Outbox(link.frame_bytes)
        self._descriptor = packets.sender.fileno()
        self._targets = targets
        self._spinner = spinner
        self.buffer_count = self.rx.count
        self._flows: dict[bytes, Flow] = {}
        self._unsent_log = SparingLog(loop.time, _log.info)
        self._queue: deque[memoryview] = deque()
        self.is_gathering = False

    @property
    def has_ring(self) -> bool:
        """See ``PacketPort.has_ring``."""
        return True

    def send(self, frame: memoryview, length_bytes: int) -> None:
        """See ``Port.send``."""
        if not self._is_open:
            self.pending -= 1
        elif self._must_queue(1):
            self._queue.append(frame[:length_bytes])
        else:
            self.pending -= 1
            self.outbox.put(frame[:length_bytes])
        self._schedule_flush()

    def release(self, frame: memoryview) -> None:
        """See ``Port.release``: targets get copies."""

    def forget_flows(self, mac: bytes | None = None) -> None:
        """See ``Port.forget_flows``."""
        if mac is None:
            self._flows.clear()
        for key in [key for key in self._flows if key[_SOURCE] == mac]:
            del self._flows[key]

    def abandon(self) -> None:
        """See ``PacketPort.abandon``."""
        super().abandon()
        self._spinner.forget(self)

    def answer(self, burst: Burst) -> None:
        """See ``BurstPort.answer``."""
        if not self._is_open:
            return
        if self._must_queue(burst.count):
            self.pending += burst.count
            self._queue.extend(memoryview(frame) for frame in burst.frames())
        else:
            burst.render()
        self._schedule_flush()

    def take_apart(self, burst: Burst) -> None:
        """See ``BurstPort.take_apart``."""
        Parts(burst).start()

    def _must_queue(self, count: int) -> bool:
        """Whether replies must wait behind others; if not, the outbox has room for them."""
        if not self._queue and not self.is_gathering and self.outbox.free < count:
            self._transmit()
        return bool(self._queue) or self.is_gathering

    def _transmit(self) -> bool:
        """Send the outbox; what it does not get rid of waits in front. Tell whether it is rid."""
        outbox = self.outbox
        while outbox.used:
            error = outbox.send(self._descriptor)
            if not error:
                return True
            unsent = outbox.take_unsent()
            if error in _FULL:
                self.pending += len(unsent)
                self._queue.extendleft(reversed(unsent))
                return False
            # Waiting would not help; a frame that is too long for the MTU says nothing of others.
            self._unsent_log.log(f"{self.interface}: not sent: {os.strerror(error)}")
            for frame in unsent[1:] if error == errno.EMSGSIZE else ():
                outbox.put(frame)
        return True

    def _send_queued(self) -> bool:
        queue, outbox = self._queue, self.outbox
        while self._transmit():
            if not queue:
                return True
            while queue and outbox.free:
                outbox.put(queue.popleft())
                self.pending -= 1
        return False

    def _turn(self) -> bool:
        if self._is_closing:
            return False
        for _ in range(_BATCHES_PER_TURN):
            if not self._batch():
                break
        else:
            return True
        if not self._is_held_up and self._spinner.woke(self):
            self._spin()
        return False

    def _spin(self) -> None:
        """Look for further frames for a short while (see ``spin``)."""
        rounds = spin.MAX_ROUNDS
        deadline_s = perf_counter() + spin.WAIT_S
        rx = self.rx
        while rounds and not self.pending:
            if rx.has_frame:
                if not self._batch():
                    return
                rounds -= 1
                deadline_s = perf_counter() + spin.WAIT_S
            elif perf_counter() > deadline_s:
                self._spinner.missed()
                return
            else:
                spin.pause()
        # A frame that came meanwhile has made the socket readable.

    def _batch(self) -> bool:
        """Handle a batch of frames; tell whether there were any."""
        if self._queue or self.pending >= MAX_PENDING:
            self._is_held_up = True
            return False
        self._is_in_turn = True
        try:
            has_taken = self._take()
        finally:
            self._is_in_turn = False
            if not self._transmit() or self.pending or self._is_held_up:
                self._flush()
        return has_taken

    def _take(self) -> bool:
        rx = self.rx
        count = rx.ready(_BATCH_FRAMES)
        if not count:
            return False
        first = slot = rx.next_slot
        end = slot + count
        rx.advance(count)
        try:
            while slot < end:
                slot += self._take_group(slot, end)
        finally:
            # Whatever goes on beyond the batch has taken along what it needs.
            rx.release(first, count)
        return True

    def _take_group(self, slot: int, end: int) -> int:
        """Handle a frame, and those behind it that are alike; return how many."""
        known = identity(self.rx, slot)
        place, key, code, _ = known
        flow = self._flows.get(key)
        plan = None if flow is None else flow.plans.get(code)
        captured, offset = _PLACE.unpack(place)
        if plan is None or captured < plan.request_bytes or offset != RX_FRAME_OFFSET:
            self._take_plainly(slot, key, code)
            return 1
        assert flow is not None, "it has the plan"
        alike = count_alike(self.rx, slot, end - slot, known)
        self._take_alike(slot, alike, known, flow, plan)
        return alike

    def _take_alike(self, first: int, count: int, known: Identity, flow: Flow, plan: Plan) -> None:
        """Execute frames that are alike, and answer together if all are done at once."""
        rx, outbox, upper = self.rx, self.outbox, known[3] << 32
        flow.initiator.is_heard = True
        has_room = not self._must_queue(count)
        first_out = outbox.used if has_room and not plan.is_write else -1
        slots = rx if plan.is_write else outbox
        views = slots.views(ATA_DATA_OFFSET, plan.data_bytes)
        bursts = []
        are_done = True
        self.is_gathering = True
        for index, length, low in runs_of(rx, first, count, plan.sectors):
            burst = Burst(self, flow, plan, first + index, length, upper | low)
            try:
                burst.begin(views, first_out + index if first_out >= 0 else -1)
            except Exception:
                # It gets no answer; all others must.
                _log.exception("%s: frames dropped", self.interface)
            are_done = are_done and burst.is_unanswered
            bursts.append(burst)
        self.is_gathering = False
        if are_done and has_room:
            render_alike(rx, first, count, known, flow, plan, outbox)
        else:
            self._answer_each(bursts)
        for burst in bursts:
            if burst.is_in_order and burst.is_unanswered:
                burst.end()

    def _answer_each(self, bursts: list[Burst]) -> None:
        """Answer what is done at once, where something else of the batch is not."""
        done = [burst for burst in bursts if burst.is_unanswered]
        for burst in done:
            if burst.first_out >= 0:
                assert burst.data_in is not None, "a READ has read there"
                burst.leave_outbox(burst.data_in)
        self.outbox.spoil()
        for burst in done:
            self.answer(burst)

    def _take_plainly(self, slot: int, key: bytes, code: bytes) -> None:
        # Targets may keep a frame for as long as they like.
        frame = memoryview(bytes(self.rx.frame(slot)))
        try:
            self._route(frame)
        except Exception:
            # It gets no answer; all others must.
            _log.exception("%s: frame dropped", self.interface)
        self._learn(key, code)

    def _learn(self, key: bytes, code: bytes) -> None:
        """Remember what was found out of frames like this one."""
        flow = self._flows.get(key)
        if flow is None:
            targets = self._targets.matching(*parse_destination(key))
            flow = flow_of(key, targets[0], self) if len(targets) == 1 else None
            if flow is None:
                return
            if len(self._flows) >= MAX_FLOWS:
                self._flows.clear()
            self._flows[key] = flow
        flow.learn(code)
