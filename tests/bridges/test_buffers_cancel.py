# SPDX-License-Identifier: GPL-2.0-or-later
"""Reservations that are given up: nothing of them is sent, and their memory is used again."""

from __future__ import annotations

import pytest

from bridges.buffers import CHUNK_BYTES, Outgoing
from tests.bridges.sgv import CountingSgv
from tests.bridges.test_buffers import commit, queued


@pytest.fixture
def sgv() -> CountingSgv:
    return CountingSgv()


def test_a_reservation_given_up_leaves_nothing_behind(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    out.reserve(1000)
    out.cancel(out.chunk)
    assert (queued(out), out.queued_bytes, out.used_bytes) == ([], 0, 0)
    assert out.reserve(5) == 0


def test_a_reservation_given_up_between_others_leaves_them_alone(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    commit(out, b"one")
    out.reserve(10)
    commit(out, b"two")
    out.cancel(out.chunk)
    assert queued(out) == [b"one", b"two"]
    out.sent(6)
    assert out.used_bytes == 0
    assert out.reserve(1) == 0


def test_what_was_given_up_is_used_again_only_when_nobody_uses_the_chunk(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    start, chunk = out.reserve(10), out.chunk
    out.reserve(20)
    out.cancel(chunk)
    assert out.used_bytes == 30
    assert out.reserve(5) == 30
    chunk.view[start : start + 10] = b"0123456789"
    out.commit(chunk, start, start + 10)
    out.cancel(chunk)
    out.sent(10)
    assert out.used_bytes == 0


def test_the_last_reservation_of_an_older_chunk_lets_it_go(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    out.reserve(1000)
    older = out.chunk
    commit(out, b"b" * CHUNK_BYTES)
    assert (out.used_bytes, len(sgv.in_use)) == (1000 + CHUNK_BYTES, 2)
    out.cancel(older)
    assert (out.used_bytes, len(sgv.in_use)) == (CHUNK_BYTES, 1)
    assert queued(out) == [b"b" * CHUNK_BYTES]


def test_one_of_two_reservations_of_an_older_chunk_keeps_it(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    out.reserve(1000)
    start, older = out.reserve(4), out.chunk
    commit(out, b"b" * CHUNK_BYTES)
    out.cancel(older)
    older.view[start : start + 4] = b"late"
    out.commit(older, start, start + 4)
    out.sent(CHUNK_BYTES)
    assert queued(out) == [b"late"]
    out.sent(4)
    assert (out.used_bytes, len(sgv.in_use)) == (0, 1)


def test_memory_of_a_long_reservation_goes_back(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    out.reserve(8 * CHUNK_BYTES)
    out.cancel(out.chunk)
    assert sgv.in_use_bytes == CHUNK_BYTES
    commit(out, b"next")
    assert queued(out) == [b"next"]


def test_giving_up_the_last_open_reservation_after_all_was_sent(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    commit(out, b"abc")
    out.reserve(10)
    out.sent(3)
    assert out.used_bytes == 13
    out.cancel(out.chunk)
    assert out.used_bytes == 0
    commit(out, b"next")
    assert queued(out) == [b"next"]


def test_close_after_giving_up(sgv: CountingSgv) -> None:
    out = Outgoing(sgv)
    commit(out, b"abc")
    out.reserve(10)
    out.cancel(out.chunk)
    out.close()
    assert len(sgv.in_use) == 0
