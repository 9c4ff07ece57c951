# SPDX-License-Identifier: GPL-2.0-or-later
"""A made-up wire for the tests of generator.py: a ring in ordinary memory, and a clock.

The generator sends into a socket pair. Each time it reads the clock, a millisecond passes and the
wire carries the answers to what it had seen before; so everything happens in one thread, and in
the same order each time.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.bench.aoe.rings import FRAMES, MAC_OFFSET, TP_STATUS_USER, Ring

TICK_S = 0.001
MAX_FRAME_BYTES = 1 << 14

# Given the number of a request and its frame, the frames to be received for it.
Answer = Callable[[int, bytes], list[bytes]]


def good_reply(request: bytes) -> bytes:
    """What a target answers, in plain bytes: R, no error, DRDY, and the data of a read."""
    head = request[6:12] + request[:6] + request[12:14] + b"\x18\x00" + request[16:25]
    count, is_read = request[26], request[27] == 0x24
    reply = head + b"\x00" + bytes([count, 0x40]) + request[28:36]
    return reply + bytes(512 * count) if is_read else reply.ljust(60, b"\0")


def always_good(number: int, request: bytes) -> list[bytes]:
    """Each request is answered once, and well."""
    return [good_reply(request)]


@dataclass(slots=True)
class Wire:
    """The far end: answers, and remembers the requests that it saw.

    One that `is_instant` answers before the generator has looked for the first time.
    """

    answer: Answer = always_good
    is_instant: bool = False
    stride: int = 16384
    now_s: float = 100.0
    requests: list[bytes] = field(default_factory=list)
    most_at_once: int = 0
    _under_way: list[bytes] = field(default_factory=list)
    _slot: int = 0
    _memory: bytearray = field(init=False)
    _ends: tuple[socket.socket, socket.socket] = field(init=False)

    def __post_init__(self) -> None:
        self._memory = bytearray(FRAMES * self.stride)
        self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in self._ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def ring(self) -> Ring:
        """What the generator is given."""
        view = memoryview(self._memory)
        return Ring(self._ends[0], view, view.cast("I"), self.stride)

    def clock(self) -> float:
        """Let time pass, and frames arrive."""
        self.now_s += TICK_S
        if not self.is_instant:
            self._deliver()
        sent = self._sent()
        self.most_at_once = max(self.most_at_once, len(sent))
        for request in sent:
            self._under_way += self.answer(len(self.requests), request)
            self.requests.append(request)
        if self.is_instant:
            self._deliver()
        return self.now_s

    def cpu_clock(self) -> float:
        """The same time: nobody else runs on the generator's CPU."""
        return self.now_s

    def _deliver(self) -> None:
        frames, self._under_way = self._under_way, []
        for frame in frames:
            self.receive(frame)

    def _sent(self) -> list[bytes]:
        sent = []
        while True:
            try:
                sent.append(self._ends[1].recv(MAX_FRAME_BYTES, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return sent

    def receive(self, frame: bytes) -> None:
        """Put a frame into the ring."""
        begin = self._slot * self.stride
        sizes = (len(frame), len(frame), MAC_OFFSET, MAC_OFFSET + 14)
        struct.pack_into("=IIIHH", self._memory, begin, TP_STATUS_USER, *sizes)
        start = begin + MAC_OFFSET
        self._memory[start : start + len(frame)] = frame
        self._slot = (self._slot + 1) % FRAMES

    def close(self) -> None:
        """Close both ends."""
        for end in self._ends:
            end.close()
