# SPDX-License-Identifier: GPL-2.0-or-later
"""Chunks return to the SGV cache exactly once; outgoing replies leave in order and side by side."""

from __future__ import annotations

import pytest

from bridges.buffers import CHUNK_BYTES, Chunk, Outgoing
from tests.bridges.sgv import CountingSgv


@pytest.fixture
def sgv() -> CountingSgv:
    return CountingSgv()


def commit(out: Outgoing, data: bytes) -> None:
    """Reserve room for some bytes, write them there and queue them."""
    start = out.reserve(len(data))
    end = start + len(data)
    out.chunk.view[start:end] = data
    out.commit(out.chunk, start, end)


def queued(out: Outgoing, limit: int = 64) -> list[bytes]:
    """What would be sent next, piece by piece."""
    return [bytes(view) for view in out.views(limit)]


class TestChunk:
    def test_chunk_has_at_least_the_size_asked_for(self, sgv: CountingSgv) -> None:
        chunk = Chunk(sgv, CHUNK_BYTES + 1)
        assert len(chunk.view) > CHUNK_BYTES
        chunk.view[CHUNK_BYTES] = 7
        assert chunk.view[CHUNK_BYTES] == 7

    def test_chunk_returns_when_its_only_user_lets_go(self, sgv: CountingSgv) -> None:
        chunk = Chunk(sgv, 1)
        assert len(sgv.in_use) == 1
        chunk.release()
        assert not sgv.in_use

    def test_chunk_stays_while_anybody_holds_it(self, sgv: CountingSgv) -> None:
        chunk = Chunk(sgv, 1)
        chunk.hold()
        chunk.hold()
        chunk.release()
        chunk.release()
        assert len(sgv.in_use) == 1
        chunk.release()
        assert not sgv.in_use

    def test_several_users_let_go_at_once(self, sgv: CountingSgv) -> None:
        chunk = Chunk(sgv, 1)
        chunk.hold()
        chunk.hold()
        chunk.release(3)
        assert not sgv.in_use


class TestOutgoing:
    def test_replies_committed_in_order_leave_as_one_piece(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        commit(out, b"one")
        commit(out, b"two")
        commit(out, b"three")
        assert queued(out) == [b"onetwothree"]
        assert out.queued_bytes == 11

    def test_replies_leave_in_the_order_they_were_committed(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        first, second = out.reserve(3), out.reserve(3)
        chunk = out.chunk
        chunk.view[first : first + 3] = b"old"
        chunk.view[second : second + 3] = b"new"
        out.commit(chunk, second, second + 3)
        out.commit(chunk, first, first + 3)
        assert queued(out) == [b"new", b"old"]

    def test_nothing_is_queued_before_it_is_committed(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        out.reserve(100)
        assert (queued(out), out.queued_bytes) == ([], 0)

    def test_reply_shorter_than_its_reservation_is_a_piece_of_its_own(
        self, sgv: CountingSgv
    ) -> None:
        out = Outgoing(sgv)
        start = out.reserve(10)
        out.chunk.view[start : start + 2] = b"ab"
        out.commit(out.chunk, start, start + 2)
        commit(out, b"cd")
        assert queued(out) == [b"ab", b"cd"]

    def test_shortened_reservation_lets_the_next_reply_follow_at_once(
        self, sgv: CountingSgv
    ) -> None:
        out = Outgoing(sgv)
        start = out.reserve(100_000)
        out.chunk.view[start : start + 2] = b"ab"
        assert out.shorten(out.chunk, start + 100_000, start + 2)
        out.commit(out.chunk, start, start + 2)
        commit(out, b"cd")
        assert queued(out) == [b"abcd"]

    def test_reservation_is_not_shortened_after_another_one(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        first = out.reserve(10)
        second = out.reserve(10)
        assert not out.shorten(out.chunk, first + 10, first + 2)
        assert out.reserve(1) == second + 10

    def test_reservation_in_an_older_chunk_is_not_shortened(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        start, chunk = out.reserve(10), out.chunk
        # A chunk of its own, in which the tail happens to be where the first reservation ends.
        out.reserve(CHUNK_BYTES)
        assert out.chunk is not chunk
        out.shorten(out.chunk, CHUNK_BYTES, 10)
        assert not out.shorten(chunk, start + 10, start + 2)
        assert out.reserve(1) == 10

    def test_piece_limit_bounds_what_is_offered(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        for data in (b"a", b"b", b"c"):
            start = out.reserve(2)
            out.chunk.view[start : start + 1] = data
            out.commit(out.chunk, start, start + 1)
        assert queued(out, 2) == [b"a", b"b"]

    def test_what_was_sent_is_offered_no_more(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        commit(out, b"abcdef")
        out.sent(2)
        assert (queued(out), out.queued_bytes) == ([b"cdef"], 4)
        commit(out, b"gh")
        assert queued(out) == [b"cdefgh"]
        out.sent(6)
        assert (queued(out), out.queued_bytes) == ([], 0)

    def test_sending_may_end_in_the_middle_of_any_piece(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        data = b"".join(bytes([value]) * (value + 1) for value in range(10))
        for value in range(10):
            start = out.reserve(value + 2)
            out.chunk.view[start : start + value + 1] = bytes([value]) * (value + 1)
            out.commit(out.chunk, start, start + value + 1)
        received = b""
        while out.queued_bytes:
            received += b"".join(queued(out))[:3]
            out.sent(min(3, out.queued_bytes))
        assert received == data

    def test_reply_after_everything_was_sent_begins_at_the_front_again(
        self, sgv: CountingSgv
    ) -> None:
        out = Outgoing(sgv)
        commit(out, b"abc")
        out.sent(3)
        assert out.reserve(5) == 0
        assert sgv.taken == 1

    def test_front_is_not_used_again_while_a_reservation_is_open(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        start = out.reserve(10)
        commit(out, b"abc")
        out.sent(3)
        assert out.reserve(5) == 13
        out.chunk.view[start : start + 10] = b"0123456789"
        out.commit(out.chunk, start, start + 10)
        assert queued(out) == [b"0123456789"]

    def test_full_chunk_is_followed_by_another_and_returns_when_sent(
        self, sgv: CountingSgv
    ) -> None:
        out = Outgoing(sgv)
        size = CHUNK_BYTES // 2 + 1
        commit(out, b"a" * size)
        commit(out, b"b" * size)
        assert queued(out) == [b"a" * size, b"b" * size]
        assert len(sgv.in_use) == 2
        out.sent(size)
        assert len(sgv.in_use) == 1
        out.sent(size)
        assert len(sgv.in_use) == 1

    def test_long_reply_gets_a_chunk_that_holds_it(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        commit(out, b"x" * (3 * CHUNK_BYTES))
        assert queued(out) == [b"x" * (3 * CHUNK_BYTES)]

    def test_chunk_with_an_open_reservation_outlives_what_was_sent_from_it(
        self, sgv: CountingSgv
    ) -> None:
        out = Outgoing(sgv)
        first, chunk = out.reserve(4), out.chunk
        commit(out, b"b" * CHUNK_BYTES)
        out.sent(CHUNK_BYTES)
        assert len(sgv.in_use) == 2
        chunk.view[first : first + 4] = b"late"
        out.commit(chunk, first, first + 4)
        assert queued(out) == [b"late"]
        out.sent(4)
        assert len(sgv.in_use) == 1

    def test_reservations_count_until_they_are_sent(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        first, chunk = out.reserve(1000), out.chunk
        # In a chunk of its own.
        commit(out, b"b" * CHUNK_BYTES)
        assert out.used_bytes == 1000 + CHUNK_BYTES
        out.sent(CHUNK_BYTES)
        assert out.used_bytes == 1000
        out.commit(chunk, first, first + 10)
        assert out.used_bytes == 1000
        out.sent(10)
        assert out.used_bytes == 0

    def test_what_was_given_back_counts_no_more(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        start = out.reserve(1000)
        out.shorten(out.chunk, start + 1000, start + 10)
        assert out.used_bytes == 10
        out.commit(out.chunk, start, start + 10)
        out.sent(10)
        assert out.used_bytes == 0

    def test_unused_chunk_that_is_too_small_counts_nothing(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        commit(out, b"x" * (2 * CHUNK_BYTES))
        assert (out.used_bytes, len(sgv.in_use)) == (2 * CHUNK_BYTES, 1)

    def test_memory_of_a_long_reply_goes_back_when_it_is_sent(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        commit(out, b"x" * (8 * CHUNK_BYTES))
        out.sent(8 * CHUNK_BYTES)
        assert sgv.in_use_bytes == CHUNK_BYTES
        commit(out, b"next")
        assert queued(out) == [b"next"]

    def test_close_lets_go_of_what_was_not_sent(self, sgv: CountingSgv) -> None:
        out = Outgoing(sgv)
        commit(out, b"a" * CHUNK_BYTES)
        commit(out, b"b" * CHUNK_BYTES)
        commit(out, b"c")
        out.sent(5)
        out.close()
        assert (out.queued_bytes, out.used_bytes, len(sgv.in_use)) == (0, 0, 0)
