# SPDX-License-Identifier: GPL-2.0-or-later
"""The load generator: keeps a window of frames in flight, and checks every reply.

It looks at its ring without ever sleeping, so that a reply never waits for a wake-up of the
initiator's host, which would be measured as the server's. The time in which it found nothing is
counted: as long as there is such time, the server is what limits the rate. Time in which it had to
leave the CPU to others counts as work, so that there is at least as much idle time as it says.
"""

from __future__ import annotations

import gc
import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from statistics import quantiles
from time import perf_counter, thread_time

from tests.bench.aoe.cells import AoeCell
from tests.bench.aoe.frames import (
    DRDY,
    VERSION_OFFSET,
    Reply,
    Route,
    reply_head,
    reply_lengths,
)
from tests.bench.aoe.rings import FRAMES, MAC_OFFSET, TP_STATUS_USER, Ring
from tests.bench.aoe.sending import Batch
from tests.bench.client import LoadError, Measurement

# Requests made before a run, which then are sent over and over.
REQUESTS = 4096
# Without a reply for so long, what is in flight counts as lost.
PATIENCE_S = 5.0
# The clock is read once in so many looks at an empty ring.
LOOKS = 1024
# What one slot of the ring has: the 16 bytes of tpacket2_hdr from status to offsets, as two
# numbers; from the frame's ethertype to its AoE command, as one; tag, and status.
_SLOT = struct.Struct(f"=QQ{MAC_OFFSET - 4}xQI3xB")
# The same 16 bytes: status, length of the frame, length kept, offsets of its two headers.
_OPENING = struct.Struct("=IIIHH")


@dataclass(slots=True)
class Flight:
    """Which requests are in flight: one byte for each. Tags are `salt` with the request's index."""

    salt: int
    window: int
    flags: bytearray = field(default_factory=lambda: bytearray(REQUESTS))
    next: int = 0
    count: int = 0

    def room(self) -> int:
        """How many requests may be sent from `next` on: none in flight is sent once more."""
        end = min(self.next + self.window - self.count, REQUESTS)
        busy = self.flags.find(1, self.next, end)
        return (busy if busy >= 0 else end) - self.next

    def sent(self, count: int) -> None:
        """Note that so many were sent."""
        end = self.next + count
        self.flags[self.next : end] = b"\1" * count
        self.count += count
        self.next = end % REQUESTS

    def landed(self, tag: int) -> bool:
        """Note a reply; False if no request in flight has its tag."""
        index = tag ^ self.salt
        if index >= REQUESTS or not self.flags[index]:
            return False
        self.flags[index] = 0
        self.count -= 1
        return True


@dataclass(slots=True)
class Tally:
    """What one run came to; times in seconds."""

    replies: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    idle_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    lost: int = 0

    def measurement(self, cell: AoeCell) -> Measurement:
        """The figures. Raises LoadError where a reply was wrong, missing, or none came."""
        if self.faults or self.lost or not self.replies:
            words = [f"{self.lost} of {self.replies + self.lost} frames got no reply"]
            if self.faults:
                words.append(f"{len(self.faults)} wrong replies, the first: {self.faults[0]}")
            raise LoadError("; ".join(words))
        rate = self.replies / self.elapsed_s
        p50_us, p99_us = _percentiles_us(self.latencies_s)
        return Measurement(
            self.replies,
            rate,
            rate * cell.block_bytes,
            p50_us,
            p99_us,
            self.idle_share(),
            self.preempted_s() / self.elapsed_s,
        )

    def preempted_s(self) -> float:
        """How long others had the CPU."""
        return max(0.0, self.elapsed_s - self.cpu_s)

    def idle_share(self) -> float:
        """At least so much of its CPU time it had nothing to do: that is what it may have lost."""
        lost_s = self.preempted_s()
        own_s = self.elapsed_s - lost_s
        return max(0.0, self.idle_s - lost_s) / own_s if own_s else 0.0


def _percentiles_us(latencies_s: list[float]) -> tuple[float | None, float | None]:
    if len(latencies_s) < 2:
        return None, None
    cuts = quantiles(latencies_s, n=100, method="inclusive")
    return cuts[49] * 1e6, cuts[98] * 1e6


class Generator:
    """One run of one cell over a ring; `clock` and the thread's `cpu_clock` tell seconds."""

    def __init__(
        self,
        ring: Ring,
        route: Route,
        cell: AoeCell,
        disk_sectors: int,
        clock: Callable[[], float] = perf_counter,
        cpu_clock: Callable[[], float] = thread_time,
    ) -> None:
        self._ring = ring
        self._cell = cell
        self._clock = clock
        self._cpu_clock = cpu_clock
        # A late reply of an earlier run has another salt.
        salt = random.randrange(1, 1 << 20) * REQUESTS
        self._flight = Flight(salt, cell.window)
        lbas = islice(cell.lbas(disk_sectors, random.Random(1)), REQUESTS)
        heads = [
            route.ata(cell.direction, lba, cell.sectors, salt | index)
            for index, lba in enumerate(lbas)
        ]
        body = os.urandom(cell.block_bytes) if cell.direction == "write" else b""
        self._batch = Batch(heads, body)
        self._lengths = reply_lengths(cell.direction, cell.sectors)
        # Word of the status and first byte of each slot, twice for a window across the end.
        self._slots = [(slot * ring.step, slot * ring.stride) for slot in (*range(FRAMES),) * 2]
        # What _take compares with; nothing is like this.
        self._good: tuple[int, ...] = (0, 0, 0)
        self._at = 0
        self._tally = Tally()

    def run(self, seconds: float) -> Measurement:
        """Keep the window full for so long, then wait for the last replies.

        Raises LoadError for any reply that is wrong or missing, after it has counted them all.
        """
        with _no_collections():
            try:
                self._run(seconds)
            except OSError as error:
                raise LoadError(f"cannot send: {error.strerror}") from error
        return self._tally.measurement(self._cell)

    def _run(self, seconds: float) -> None:
        clock, tally, flight = self._clock, self._tally, self._flight
        is_serial = self._cell.is_serial
        cpu_s = self._cpu_clock()
        started = sent = clock()
        end = started + seconds
        self._fill()
        since = clock()
        while flight.count:
            now = self._await_frame(since)
            if now is None or now > end + PATIENCE_S:
                tally.lost = flight.count
                break
            tally.idle_s += now - since
            taken = self._take()
            tally.replies += taken
            if is_serial and taken:
                tally.latencies_s.append(now - sent)
            if now < end and not tally.faults:
                sent = clock()
                self._fill()
            since = clock()
        tally.elapsed_s = since - started
        tally.cpu_s = self._cpu_clock() - cpu_s

    def _fill(self) -> None:
        """Send as many as the window has room for."""
        flight = self._flight
        while count := flight.room():
            flight.sent(self._batch.send(self._ring.socket, flight.next, count))

    def _await_frame(self, since: float) -> float | None:
        """Look until there is a frame, and return when that was; None when patience ends."""
        words, at, clock = self._ring.words, self._at * self._ring.step, self._clock
        if words[at] & TP_STATUS_USER:
            # The ring was not found empty, so there was no time without work.
            return since
        deadline = since + PATIENCE_S
        while clock() < deadline:
            for _ in range(LOOKS):
                if words[at] & TP_STATUS_USER:
                    return clock()
        return None

    def _take(self) -> int:
        """Take what the ring has, up to a window; returns how many requests are done.

        Most of the cost of a reply is here. So one that is bit for bit like a good one before, but
        for its tag and its data, is compared as four numbers; any other is looked at with care.
        """
        flight, unpack = self._flight, _SLOT.unpack_from
        words, memory, salt, flags = self._ring.words, self._ring.memory, flight.salt, flight.flags
        good_opening, good_rest, good_head = self._good
        taken = done = 0
        for word, begin in self._slots[self._at : self._at + flight.window]:
            opening, rest, head, tag, status = unpack(memory, begin)
            index = tag ^ salt
            if (
                opening == good_opening
                and rest == good_rest
                and head == good_head
                and status == DRDY
                and index < REQUESTS
                and flags[index]
            ):
                flags[index] = 0
                flight.count -= 1
                done += 1
            elif words[word] & TP_STATUS_USER:
                done += self._examine(begin)
            else:
                break
            words[word] = 0
            taken += 1
        self._at = (self._at + taken) % FRAMES
        return done

    def _examine(self, begin: int) -> bool:
        """Whether the frame of a slot is a good reply; what is wrong with it is noted.

        Announcements come unasked; they are neither.
        """
        memory = self._ring.memory
        _, length, kept, place, _ = _OPENING.unpack_from(memory, begin)
        frame = bytes(memory[begin + place : begin + place + kept])
        reply = Reply.parse(frame)
        if reply.is_announcement:
            return False
        is_in_flight = self._flight.landed(reply.tag)
        if (
            is_in_flight
            and kept == length
            and place == MAC_OFFSET
            and length in self._lengths
            and frame.startswith(reply_head(), VERSION_OFFSET)
            and reply.status == DRDY
        ):
            self._good = _SLOT.unpack_from(memory, begin)[:3]
            return True
        known = "" if is_in_flight else ", of no frame in flight"
        self._tally.faults.append(
            f"{length} bytes, flags {reply.flags:#04x}, error {reply.error}, "
            f"command {reply.command}, tag {reply.tag:#010x}{known}, status {reply.status:#04x}"
        )
        return False


@contextmanager
def _no_collections() -> Iterator[None]:
    """A garbage collection would be a pause of the initiator's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
