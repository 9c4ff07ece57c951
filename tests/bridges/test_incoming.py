# SPDX-License-Identifier: GPL-2.0-or-later
"""Received bytes wait in order, and keep their place while commands use them."""

from __future__ import annotations

import pytest

from bridges.buffers import CHUNK_BYTES
from bridges.incoming import Incoming
from tests.bridges.sgv import CountingSgv

MIN_ROOM = 32 << 10


@pytest.fixture
def sgv() -> CountingSgv:
    return CountingSgv()


@pytest.fixture
def incoming(sgv: CountingSgv) -> Incoming:
    return Incoming(sgv)


def receive(incoming: Incoming, data: bytes, limit_bytes: int = 0) -> None:
    window = incoming.window(limit_bytes)
    window[: len(data)] = data
    incoming.received(len(data))


def test_the_first_window_is_the_whole_chunk(incoming: Incoming) -> None:
    assert len(incoming.window(0)) == CHUNK_BYTES
    assert incoming.unused_bytes == 0


def test_what_comes_in_pieces_waits_in_one(incoming: Incoming) -> None:
    receive(incoming, b"abc")
    receive(incoming, b"def")
    incoming.use(1)
    assert (bytes(incoming.unused), incoming.unused_bytes) == (b"bcdef", 5)


def test_a_chunk_that_is_used_up_is_used_again_from_its_front(incoming: Incoming) -> None:
    receive(incoming, bytes(CHUNK_BYTES))
    incoming.use(CHUNK_BYTES)
    assert len(incoming.window(0)) == CHUNK_BYTES


def test_a_chunk_that_a_command_holds_is_not_overwritten(
    incoming: Incoming, sgv: CountingSgv
) -> None:
    receive(incoming, b"payload")
    held = incoming.chunk
    held.hold()
    incoming.use(7)
    receive(incoming, b"next")
    assert incoming.chunk is held
    assert bytes(held.view[:11]) == b"payloadnext"
    receive(incoming, bytes(CHUNK_BYTES - 11 - MIN_ROOM + 1))
    # Less room than a header may need: what waits moves to another chunk.
    waiting = bytes(incoming.unused)
    incoming.window(0)
    assert incoming.chunk is not held
    assert bytes(incoming.unused) == waiting
    assert bytes(held.view[:7]) == b"payload"
    held.release()
    incoming.close()
    assert sgv.in_use == set()


def test_a_message_longer_than_a_chunk_gets_a_longer_one(incoming: Incoming) -> None:
    receive(incoming, bytes(CHUNK_BYTES))
    incoming.window(0)
    assert len(incoming.chunk.view) >= 2 * CHUNK_BYTES
    assert incoming.unused_bytes == CHUNK_BYTES


def test_a_limit_holds_only_while_nothing_waits(incoming: Incoming) -> None:
    assert len(incoming.window(28)) == 28
    receive(incoming, b"x", 28)
    assert len(incoming.window(28)) == CHUNK_BYTES - 1
