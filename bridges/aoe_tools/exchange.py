# SPDX-License-Identifier: GPL-2.0-or-later
"""A request and the replies to it, over a wire that loses frames.

A request is repeated, each time with a new tag, until its time is over or somebody needs no more.
A reply to any of its tags counts: it may be the first request's, late. So requests must be such
that a second one does no harm; all those of operations.py are.

Source: AoEr11 2.5 (Tag: "unique to each outstanding message").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from scapy.packet import Packet

from bridges.aoe.address import BROADCAST_SHELF, BROADCAST_SLOT, Address
from bridges.aoe_tools.layers import Reply, command_of, parse_reply, request_frame

ATTEMPTS: Final = 4
# Linux's driver hears the replies to a client on the same host, and takes those without this bit
# for its own.
USER_TAG: Final = 1 << 31


class Wire(Protocol):
    """What carries frames."""

    @property
    def mac(self) -> bytes:
        """The address that replies come to."""

    def send(self, frame: bytes) -> None:
        """Send a frame."""

    def receive(self, timeout_s: float) -> bytes | None:
        """Return the next frame, None if there is none, at the latest after the time given."""


class Exchanger:
    """Asks over one wire; owns the tags. ``timeout_s`` is for one request with its repetitions."""

    def __init__(
        self,
        wire: Wire,
        timeout_s: float,
        first_tag: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout_s = timeout_s
        self._wire = wire
        self._clock = clock
        self._next_tag = first_tag

    @property
    def mac(self) -> bytes:
        """The client's address."""
        return self._wire.mac

    def replies(self, destination: bytes, address: Address, argument: Packet) -> Iterator[Reply]:
        """Yield the replies to a request as they come, until its time is over.

        Each target's port answers each repetition. Raises LinkError.
        """
        command = command_of(argument)
        tags = set()
        start_s = self._clock()
        for attempt in range(1, ATTEMPTS + 1):
            tag = self._new_tag()
            tags.add(tag)
            self._wire.send(request_frame(self.mac, destination, address, argument, tag))
            until_s = start_s + self.timeout_s * attempt / ATTEMPTS
            while (left_s := until_s - self._clock()) > 0:
                reply = self._receive(left_s)
                if (
                    reply is not None
                    and reply.tag in tags
                    and reply.command == command
                    and _is_from(reply.address, address)
                ):
                    yield reply

    def first_reply(self, destination: bytes, address: Address, argument: Packet) -> Reply | None:
        """Return the first reply to a request, None if none comes in time; raises LinkError."""
        return next(self.replies(destination, address, argument), None)

    def _receive(self, timeout_s: float) -> Reply | None:
        frame = self._wire.receive(timeout_s)
        reply = parse_reply(frame) if frame is not None else None
        return reply if reply is not None and reply.destination == self.mac else None

    def _new_tag(self) -> int:
        tag = USER_TAG | self._next_tag & (USER_TAG - 1)
        self._next_tag += 1
        return tag


def _is_from(own: Address, asked: Address) -> bool:
    return asked.shelf in (own.shelf, BROADCAST_SHELF) and asked.slot in (own.slot, BROADCAST_SLOT)
