# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames of one initiator that read or write one run of sectors, carried out as one command.

A frame holds two sectors at the usual MTU, so a page is four frames and a long request hundreds.
Each frame is still answered on its own. Data are read from the medium into the frames that will be
sent, and written to it out of the frames that were received. A burst that does not succeed is
taken apart, and each of its frames is executed by itself (parts.py), so that a sector that cannot
be read fails none of its neighbours.

Source: AoEr11 3.1.
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

from bridges.aoe.flow import Flow, Plan
from bridges.aoe.operation import Port
from bridges.aoe.ordering import Ranged
from bridges.aoe.outbox import Outbox
from bridges.aoe.ring import RxRing
from bridges.aoe.wire import ATA_DATA_OFFSET, MIN_FRAME_BYTES
from bridges.recovery import reply_of
from scsi_backend.io.scatter import Buffer, ScatterList, contiguous, segments_of
from scsi_backend.servers.command import Command
from scsi_backend.t10 import cdb

# A frame up to its data: what stands before the tag, the tag, flags and command, LBA 31:0 and
# 47:32. Pad bytes are written as zeros, so that a reply without data has none of an earlier one.
_HEAD: Final = "20s4s4sIH2x"
_HEADER = struct.Struct(f"<{_HEAD}")
_WITHOUT_DATA = struct.Struct(f"<{_HEAD}{MIN_FRAME_BYTES - ATA_DATA_OFFSET}x")


def render(outbox: Outbox, slot: int, flow: Flow, plan: Plan, tag: bytes, lba: int) -> None:
    """Fill a slot with the reply to one frame; data, if any, are there."""
    pack = (_WITHOUT_DATA if plan.is_write else _HEADER).pack_into
    low, high = lba & 0xFFFFFFFF, lba >> 32
    at = slot * outbox.size_bytes
    pack(outbox.memory, at, flow.prefix, tag, plan.reply_code, low, high)
    outbox.lengths[slot] = plan.reply_bytes


class BurstPort(Port, Protocol):
    """A port with rings, as a burst sees it."""

    rx: RxRing
    outbox: Outbox
    pending: int
    # Replies of bursts that end now are rendered together by whoever has begun them.
    is_gathering: bool

    def answer(self, burst: Burst) -> None:
        """Have a burst render its replies, as soon as there is room for them."""

    def take_apart(self, burst: Burst) -> None:
        """Execute each frame of a burst by itself, and end the burst when all have ended."""


class Burst(Command):
    """One READ(16) or WRITE(16), and the ``count`` frames in a row that asked for it.

    ``first_out`` is the first reply's slot in the outbox while the data of a READ are there, or are
    to go there, else negative.
    """

    __slots__ = (
        "_counted",
        "_frames",
        "_has_own_data",
        "_is_deferred",
        "blockers",
        "count",
        "first_out",
        "first_slot",
        "flow",
        "followers",
        "is_done",
        "is_in_order",
        "is_unanswered",
        "lba",
        "plan",
        "port",
        "tags",
    )

    def __init__(
        self, port: BurstPort, flow: Flow, plan: Plan, first_slot: int, count: int, lba: int
    ) -> None:
        self.port = port
        self.flow = flow
        self.plan = plan
        self.first_slot = first_slot
        self.count = count
        self.lba = lba
        self.is_done = False
        # Has succeeded at once, and is to be answered by whoever gathers.
        self.is_unanswered = False
        # Goes on beyond the batch, when the slots are the kernel's again.
        self._is_deferred = False
        self._has_own_data = False
        self.is_in_order = False
        self.first_out = -1
        # The replies, where the data are not read into the outbox.
        self._frames: list[bytearray] | None = None
        self.data_in: Buffer | None = None
        self.data_out: Buffer | None = None
        self.data_in_length = 0
        self.status = None
        self.is_deferred = False
        self.on_done = _done

    @property
    def is_write(self) -> bool:
        """See ``Ranged``."""
        return self.plan.is_write

    @property
    def end_lba(self) -> int:
        """See ``Ranged``."""
        return self.lba + self.count * self.plan.sectors

    def begin(self, views: list[memoryview], first_out: int) -> None:
        """Execute, or wait for earlier writes of the same sectors.

        ``first_out`` is where in the outbox the data of a READ may go at once, or negative.
        ``views`` are the places of data in all slots of the outbox then, of the ring for a WRITE.
        """
        plan = self.plan
        if plan.is_write:
            self.data_out = self._part(views, self.first_slot)
        if self.flow.order.writes and not self._enter_order():
            self._defer()
        elif first_out >= 0:
            self.first_out = first_out
            self._read(self._part(views, first_out))
        else:
            self.start()

    def start(self) -> None:
        """See ``Ranged.start``."""
        if self.plan.is_write:
            self.cdb = cdb.write_16(self.lba, self.count * self.plan.sectors, self.plan.cdb_flags)
            self._submit()
        else:
            self._read(self._memory())

    def _read(self, memory: Buffer) -> None:
        self.data_in = memory
        self.cdb = cdb.read_16(self.lba, self.count * self.plan.sectors)
        self._submit()

    def _submit(self) -> None:
        self.flow.nexus.submit(self)
        if not self.is_done:
            self._defer()

    def _part(self, views: list[memoryview], first: int) -> Buffer:
        count = self.count
        if count == 1:
            return views[first]
        return ScatterList(views[first : first + count], count * self.plan.data_bytes)

    def lasting(self, view: Buffer, moved_bytes: int) -> Buffer:
        """See ``Command.lasting``: the outbox's slots are for the batch at hand."""
        if self.first_out < 0:
            return view
        return self.leave_outbox(view[:moved_bytes])

    def lasting_out(self, view: Buffer) -> Buffer:
        """See ``Command.lasting_out``: so are the ring's."""
        if not self._has_own_data:
            self._has_own_data = True
            self.data_out = memoryview(b"".join(segments_of(view)))
        assert self.data_out is not None, "a WRITE has data"
        return self.data_out

    def leave_outbox(self, data: Buffer) -> Buffer:
        """Move the data so far to frames of their own; return the memory for all of them."""
        self.first_out = -1
        memory = self._memory()
        memory[: len(data)] = contiguous(data)
        self.data_in = memory
        return memory

    def _memory(self) -> Buffer:
        """Make frames for the replies, and return the places of their data."""
        self._frames = [bytearray(self.plan.reply_bytes) for _ in range(self.count)]
        return self._part([memoryview(frame)[ATA_DATA_OFFSET:] for frame in self._frames], 0)

    def _enter_order(self) -> bool:
        self.is_in_order = True
        self.blockers = 0
        self.followers: list[Ranged] = []
        return self.flow.order.enter(self)

    def _defer(self) -> None:
        """Take along what is needed beyond the batch that the frames came in."""
        if self._is_deferred:
            return
        self._is_deferred = True
        self._counted = self.flow.initiator.outstanding.begin(self.count)
        self.port.pending += self.count
        self.tags = self.read_tags()
        if self.plan.is_write:
            assert self.data_out is not None, "a WRITE has data"
            self.lasting_out(self.data_out)
            if not self.is_in_order:
                # Nothing was in the way when it was submitted.
                self._enter_order()
        elif self.first_out >= 0:
            # Nobody has begun to read.
            self.leave_outbox(memoryview(b""))

    def read_tags(self) -> list[bytes]:
        """The tags of the frames, whose slots are not given back yet."""
        raw = self.port.rx.tags[self.first_slot : self.first_slot + self.count].tobytes()
        return [raw[at : at + 4] for at in range(0, len(raw), 4)]

    def recover(self) -> None:
        """Do about a command that did not succeed what every initiator does."""
        self._defer()
        client = self.flow.initiator.client
        assert client is not None, "flows are those of open sessions"
        client.recover(self, _settle)

    def frame(self, index: int) -> memoryview:
        """One of the requests once more."""
        plan = self.plan
        lba = self.lba + index * plan.sectors
        low, high = lba & 0xFFFFFFFF, lba >> 32
        header = _HEADER.pack(self.flow.key, self.tags[index], plan.code, low, high)
        if self.data_out is None:
            return memoryview(header)
        start = index * plan.data_bytes
        return memoryview(header + contiguous(self.data_out[start : start + plan.data_bytes]))

    @property
    def has_all_data(self) -> bool:
        """Whether a command that has ended has moved everything."""
        return self.plan.is_write or self.data_in_length == self.count * self.plan.data_bytes

    @property
    def is_at_hand(self) -> bool:
        """Whether the replies' tags are still in the ring, and their data in the outbox."""
        return not self._is_deferred and self._frames is None

    def end(self) -> None:
        """Let go of everything; the replies are with the port."""
        self.is_done = True
        if self._is_deferred:
            self._counted.end(self.count)
            self.port.pending -= self.count
        if self.is_in_order:
            self.flow.order.leave(self)

    def render(self) -> None:
        """Put the replies into the outbox, which has room for them."""
        if self._frames is not None:
            for frame in self.frames():
                self.port.outbox.put(frame)
            return
        lba = self.lba
        for tag in self._known_tags():
            slot = self.port.outbox.begin_slot()
            render(self.port.outbox, slot, self.flow, self.plan, tag, lba)
            lba += self.plan.sectors

    def frames(self) -> list[bytearray]:
        """The replies, in memory of their own."""
        plan, lba = self.plan, self.lba
        frames = self._frames or [bytearray(plan.reply_bytes) for _ in range(self.count)]
        for tag, frame in zip(self._known_tags(), frames, strict=True):
            low, high = lba & 0xFFFFFFFF, lba >> 32
            _HEADER.pack_into(frame, 0, self.flow.prefix, tag, plan.reply_code, low, high)
            lba += plan.sectors
        return frames

    def _known_tags(self) -> list[bytes]:
        return self.tags if self._is_deferred else self.read_tags()


def _done(command: Command) -> None:
    assert isinstance(command, Burst), "a burst completes itself"
    burst = command
    if burst.status or not (burst.plan.is_write or burst.has_all_data):
        burst.recover()
    elif burst.port.is_gathering and burst.is_at_hand:
        burst.is_unanswered = burst.is_done = True
    else:
        burst.port.answer(burst)
        burst.end()


def _settle(command: Command) -> None:
    assert isinstance(command, Burst), "a burst completes itself"
    burst = command
    if reply_of(burst).is_success and burst.has_all_data:
        burst.port.answer(burst)
        burst.end()
    else:
        burst.port.take_apart(burst)
