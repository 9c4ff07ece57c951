# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of replies that leave together, over a real socket."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from bridges.aoe.outbox import Outbox
from bridges.aoe.ring import MAX_BATCH


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Datagrams from the first to the second."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.setblocking(False)
        yield sender, receiver


def received(receiver: socket.socket) -> list[bytes]:
    frames = []
    while True:
        try:
            frames.append(receiver.recv(65536))
        except BlockingIOError:
            return frames


def test_frames_leave_in_their_order_each_with_its_own_length(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    outbox = Outbox(1514)
    frames = [bytes([n]) * length for n, length in enumerate((60, 1514, 61, 1060))]
    for frame in frames:
        outbox.put(bytearray(frame))
    assert outbox.free == MAX_BATCH - 4
    assert outbox.send(pair[0].fileno()) == 0
    assert received(pair[1]) == frames
    assert outbox.used == 0
    # The slots are used again.
    outbox.put(bytearray(b"z" * 70))
    assert outbox.send(pair[0].fileno()) == 0
    assert received(pair[1]) == [b"z" * 70]


def test_what_the_kernel_does_not_take_can_be_had_back(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    outbox = Outbox(1514)
    frames = [bytes([n]) * 100 for n in range(MAX_BATCH)]
    for frame in frames:
        outbox.put(bytearray(frame))
    assert outbox.free == 0
    assert outbox.send(pair[0].fileno()) == errno.EAGAIN
    sent = received(pair[1])
    assert 0 < len(sent) < MAX_BATCH
    unsent = outbox.take_unsent()
    assert sent + [bytes(frame) for frame in unsent] == frames
    assert (outbox.used, outbox.take_unsent()) == (0, [])
    # They are copies.
    outbox.put(bytearray(b"new" * 30))
    assert [bytes(frame) for frame in unsent] == frames[len(sent) :]


def test_an_error_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(1514)
    outbox.put(bytearray(60))
    pair[1].close()
    assert outbox.send(pair[0].fileno()) == errno.ECONNREFUSED
    assert len(outbox.take_unsent()) == 1


def take(outbox: Outbox, pattern: object, count: int) -> bool:
    """Fill slots with a pattern; tell whether they had it."""
    had = outbox.has_pattern(pattern, count)
    outbox.used += count
    return had


def test_a_pattern_is_kept_until_something_else_is_written_over_it() -> None:
    outbox = Outbox(1514)
    assert not take(outbox, "a", 8)
    outbox.used = 0
    assert take(outbox, "a", 5)
    assert take(outbox, "a", 3)
    # These were never filled.
    assert not take(outbox, "a", 2)
    outbox.used = 0
    assert take(outbox, "a", 10)
    # A plain frame in the fourth slot.
    outbox.used = 3
    outbox.put(bytearray(60))
    outbox.used = 0
    assert not take(outbox, "a", 4)
    outbox.used = 0
    assert take(outbox, "a", 4)


def test_another_pattern_takes_the_place_of_the_first() -> None:
    outbox = Outbox(1514)
    take(outbox, "a", 8)
    # Behind some that stay as they are.
    outbox.used = 2
    assert not take(outbox, "b", 3)
    outbox.used = 0
    assert take(outbox, "a", 2)
    assert not take(outbox, "a", 1)
    outbox.used = 0
    assert not take(outbox, "b", 2)
    outbox.used = 0
    assert take(outbox, "b", 2)
    outbox.used = 0
    assert not take(outbox, "a", 1)
