# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams on both event loops: batches, direct receiving, back-pressure, and how they end.

Some tests use SOCK_SEQPACKET, where each send of the stream arrives as one packet.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from bridges.buffers import CHUNK_BYTES
from bridges.spin import Spinner
from bridges.stream import MAX_PENDING_BYTES
from tests.bridges.certificates import Contexts, contexts
from tests.bridges.echo import ABORT, CLOSE, CRASH, LENGTH, PEER_ERROR, REPLACE, Rig, message, order

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = LOOPS[request.param]()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    return contexts(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["sleeps", "spins", "tls", "tls-spins"])
def rig(
    loop: asyncio.AbstractEventLoop, request: pytest.FixtureRequest, tls: Contexts
) -> Iterator[Rig]:
    spinner = Spinner() if "spins" in request.param else None
    rig = Rig(loop, socket.SOCK_STREAM, spinner, tls if "tls" in request.param else None)
    yield rig
    rig.close()


@pytest.fixture
def plain(loop: asyncio.AbstractEventLoop) -> Iterator[Rig]:
    rig = Rig(loop, socket.SOCK_STREAM, None)
    yield rig
    rig.close()


@pytest.fixture
def packets(loop: asyncio.AbstractEventLoop) -> Iterator[Rig]:
    """A rig that shows each send of the stream as one packet."""
    rig = Rig(loop, socket.SOCK_SEQPACKET, None)
    yield rig
    rig.close()


def bodies(count: int, length: int = 16) -> list[bytes]:
    return [bytes([index % 251]) * length for index in range(count)]


class TestBatches:
    def test_messages_that_came_together_are_handled_and_answered_together(
        self, packets: Rig
    ) -> None:
        data = b"".join(map(message, bodies(1000)))
        packets.peer.send(data)
        packets.until(lambda: packets.receive_some() and bool(packets.received), "a reply comes")
        assert packets.received == data
        assert packets.session.handled == [1000]

    def test_long_batch_begins_to_leave_before_its_end(self, packets: Rig) -> None:
        data = b"".join(map(message, bodies(7, 30_000)))
        packets.peer.send(data)
        sizes: list[int] = []

        def all_came() -> bool:
            before = len(packets.received)
            packets.receive_some()
            if len(packets.received) > before:
                sizes.append(len(packets.received) - before)
            return sum(sizes) == len(data)

        packets.until(all_came, "all replies come")
        assert packets.session.handled == [7]
        # 128 KiB are reached with the fifth.
        assert sizes == [5 * 30_004, 2 * 30_004]

    def test_messages_cut_anywhere_come_back_whole(self, rig: Rig) -> None:
        data = b"".join(map(message, bodies(20, 7)))
        for index in range(len(data)):
            rig.peer.send(data[index : index + 1])
            rig.turn()
        rig.exchange(b"", data)

    def test_message_longer_than_a_chunk_is_gathered(self, rig: Rig) -> None:
        data = b"".join(map(message, bodies(3, 5 * CHUNK_BYTES + 3)))
        rig.exchange(data, data)

    def test_steady_stream_of_messages_uses_few_chunks(self, rig: Rig) -> None:
        data = b"".join(map(message, bodies(100, 10_007)))
        for _ in range(20):
            rig.exchange(data, data)
        assert rig.sgv.largest_bytes <= 2 * CHUNK_BYTES
        assert rig.sgv.in_use_bytes <= 4 * CHUNK_BYTES

    def test_reply_outside_a_batch_is_sent(self, rig: Rig) -> None:
        rig.session.is_held = True
        rig.peer.send(message(b"later"))
        rig.until(lambda: len(rig.session.held) == 1, "the message is handled")
        rig.turn(5)
        assert rig.receive_some()
        assert not rig.received
        rig.session.answer()
        rig.exchange(b"", message(b"later"))

    def test_bytes_that_a_session_left_are_offered_again_when_it_asks(self, rig: Rig) -> None:
        rig.session.is_waiting = True
        rig.peer.send(message(b"wait for it"))
        rig.until(lambda: bool(rig.session.offered), "the message is offered")
        rig.turn(5)
        assert len(rig.session.offered) == 1
        rig.session.is_waiting = False
        rig.stream.handle_again()
        rig.exchange(b"", message(b"wait for it"))

    def test_replaced_session_gets_the_bytes_behind_the_last_message(self, rig: Rig) -> None:
        data = message(b"one") + order(REPLACE) + message(b"two")
        rig.exchange(data, message(b"one") + message(b"second:two"))
        assert rig.session.closed_calls == 0


class TestDirect:
    def test_long_body_is_received_into_the_sessions_memory(self, rig: Rig) -> None:
        rig.session.direct_from = 100_000
        data = message(b"a") + message(b"b" * 3_000_000) + message(b"c") + message(b"d" * 100_000)
        rig.exchange(data, data)
        assert rig.session.direct_bodies >= 1
        # The chunk never had to grow.
        assert max(rig.session.offered) <= CHUNK_BYTES

    def test_receive_limit_keeps_a_long_body_out_of_the_chunk(self, rig: Rig) -> None:
        rig.session.direct_from = 1
        rig.session.receive_limit_bytes = LENGTH.size
        data = b"".join(map(message, bodies(10, 50_000)))
        rig.exchange(data, data)
        assert set(rig.session.offered) == {LENGTH.size}
        assert rig.session.direct_bodies == 10

    def test_body_longer_than_all_that_may_be_pending_is_received(self, rig: Rig) -> None:
        rig.session.direct_from = 100_000
        data = message(b"x" * (2 * MAX_PENDING_BYTES))
        rig.exchange(data, data)
        assert rig.session.direct_bodies == 1

    def test_peer_that_goes_away_in_a_long_body_leaves_nothing_behind(self, rig: Rig) -> None:
        rig.session.direct_from = 100_000
        rig.peer.send(order(1_000_000) + b"x" * 50_000)
        rig.until(lambda: rig.session.direct is not None, "the body begins")
        rig.peer.close()
        rig.assert_closed()


class TestBackPressure:
    def test_peer_that_reads_nothing_is_not_served_without_end(self, rig: Rig) -> None:
        body = b"x" * 100_000
        count = 5 * MAX_PENDING_BYTES // len(body)
        data = message(body) * count
        taken = rig.send_until_stuck(data)
        assert rig.stream.is_full
        assert MAX_PENDING_BYTES < taken < 2 * MAX_PENDING_BYTES
        assert rig.sgv.in_use_bytes < 3 * MAX_PENDING_BYTES
        rig.exchange(data[taken:], data)

    @pytest.mark.parametrize("holds_payloads", [True, False], ids=["writes", "reads"])
    def test_requests_under_way_hold_reading_back(self, rig: Rig, holds_payloads: bool) -> None:
        rig.session.is_held = True
        rig.session.holds_payloads = holds_payloads
        body = b"x" * 100_000
        data = message(body) * (3 * MAX_PENDING_BYTES // len(body))
        taken = rig.send_until_stuck(data)
        assert rig.stream.is_full
        assert taken < 2 * MAX_PENDING_BYTES
        assert rig.sgv.in_use_bytes < 2 * MAX_PENDING_BYTES
        rig.session.is_held = False
        while rig.session.held:
            rig.session.answer()
        rig.exchange(data[taken:], data)

    def test_payload_stays_as_it_came_while_others_follow(self, rig: Rig) -> None:
        rig.session.is_held = True
        rig.session.holds_payloads = True
        data = [bytes([index]) * 3000 for index in range(250)]
        for index, body in enumerate(data):
            rig.peer.send(message(body))
            rig.until(lambda count=index + 1: len(rig.session.held) == count, "it is handled")  # type: ignore[misc]
        while rig.session.held:
            rig.session.answer()
        rig.exchange(b"", b"".join(map(message, data)))

    def test_stream_that_is_full_goes_on_once_a_payload_is_let_go_of(self, rig: Rig) -> None:
        rig.session.is_held = True
        rig.session.holds_payloads = True
        rig.stream.held_bytes += MAX_PENDING_BYTES - 5
        rig.exchange(message(b"12345") + message(b"waits"), b"")
        rig.until(lambda: len(rig.session.held) == 1, "the first message is handled")
        rig.turn(5)
        assert len(rig.session.held) == 1
        rig.session.answer()
        rig.until(lambda: len(rig.session.held) == 1, "the second message is handled")
        rig.stream.held_bytes -= MAX_PENDING_BYTES - 5
        rig.session.answer()
        rig.exchange(b"", message(b"12345") + message(b"waits"))

    def test_requests_without_data_are_bounded_too(self, rig: Rig) -> None:
        rig.session.is_held = True
        rig.peer.sendall(message(b"") * 10_000)
        rig.until(lambda: rig.stream.is_full, "requests alone have filled the stream")
        assert len(rig.session.held) < 10_000
        while rig.session.held:
            rig.session.answer()
            rig.turn(1)


class TestEnd:
    def test_peer_that_closes_ends_the_stream(self, rig: Rig) -> None:
        rig.exchange(message(b"hello"), message(b"hello"))
        rig.peer.close()
        rig.assert_closed()

    def test_stream_outlives_its_peer_while_requests_are_outstanding(self, rig: Rig) -> None:
        rig.session.is_held = True
        rig.peer.send(message(b"one") + message(b"two"))
        rig.until(lambda: len(rig.session.held) == 2, "the messages are handled")
        rig.peer.close()
        rig.turn(10)
        rig.session.answer()
        rig.turn(10)
        assert not rig.closed_streams
        assert rig.session.closed_calls == 0
        assert rig.sgv.in_use
        rig.session.answer()
        rig.assert_closed()

    def test_end_waits_for_what_is_under_way(self, rig: Rig) -> None:
        rig.session.is_held = True
        rig.peer.send(message(b"one"))
        rig.until(lambda: len(rig.session.held) == 1, "the message is handled")
        rig.stream.end()
        rig.peer.send(message(b"too late"))
        rig.turn(10)
        assert not rig.closed_streams
        rig.session.answer()
        assert rig.receive_to_end() == message(b"one")
        assert rig.session.handled == [1]
        rig.assert_closed()

    def test_end_of_an_idle_stream_closes_it(self, rig: Rig) -> None:
        rig.exchange(message(b"one"), message(b"one"))
        rig.stream.end()
        assert rig.receive_to_end() == b""
        rig.assert_closed()

    def test_session_that_wants_to_close_has_its_replies_sent_first(self, rig: Rig) -> None:
        rig.peer.send(message(b"one") + order(CLOSE) + message(b"too late"))
        assert rig.receive_to_end() == message(b"one")
        rig.assert_closed()

    def test_ending_stream_whose_peer_reads_nothing_can_be_aborted(self, rig: Rig) -> None:
        data = message(b"x" * 1_000_000) * 5
        assert rig.send_until_stuck(data) == len(data)
        rig.stream.end()
        rig.turn(10)
        assert not rig.closed_streams
        rig.stream.abort("enough")
        rig.assert_closed()

    def test_peer_error_sends_what_was_answered_before_closing(
        self, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        rig.peer.send(message(b"one") + message(b"two") + order(PEER_ERROR) + message(b"three"))
        assert rig.receive_to_end() == message(b"one") + message(b"two")
        rig.assert_closed()
        assert "peer: closing: told to" in caplog.text

    def test_peer_error_waits_for_what_is_under_way(self, rig: Rig) -> None:
        rig.session.is_held = True
        rig.peer.send(message(b"one") + order(PEER_ERROR))
        rig.until(lambda: len(rig.session.held) == 1, "the message is handled")
        rig.turn(10)
        assert not rig.closed_streams
        rig.session.answer()
        assert rig.receive_to_end() == message(b"one")

    def test_abort_inside_a_batch_ends_the_stream_after_it(self, rig: Rig) -> None:
        rig.peer.send(message(b"one") + order(ABORT) + message(b"two"))
        assert rig.receive_to_end() == b""
        rig.assert_closed()
        assert rig.session.handled == [1]
        # The rest of the batch could still use the buffers.
        assert rig.session.in_use_in_batch >= 2

    def test_abort_inside_a_batch_waits_for_what_is_under_way(self, rig: Rig) -> None:
        rig.session.is_held = True
        rig.peer.send(message(b"one") + order(ABORT))
        rig.until(lambda: len(rig.session.held) == 1, "the message is handled")
        rig.turn(10)
        assert not rig.closed_streams
        rig.session.answer()
        rig.assert_closed()

    def test_abort_twice_is_abort_once(self, rig: Rig) -> None:
        rig.stream.abort("one")
        rig.stream.abort("two")
        rig.assert_closed()

    def test_failing_session_costs_its_own_connection_only(
        self, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.ERROR):
            rig.peer.send(order(CRASH))
            assert rig.receive_to_end() == b""
        rig.assert_closed()
        assert "ZeroDivisionError: told to" in caplog.text

    def test_peer_that_goes_away_while_replies_are_sent_leaves_nothing_behind(
        self, rig: Rig
    ) -> None:
        data = message(b"x" * 1_000_000) * 8
        assert rig.send_until_stuck(data) == len(data)
        rig.peer.close()
        rig.assert_closed()


class TestDescriptors:
    def test_descriptor_comes_with_its_reply(self, plain: Rig) -> None:
        with open("/dev/null") as null:
            assert plain.stream.put_with_descriptor(b"take this", null.fileno())
            data, [found], _, _ = socket.recv_fds(plain.peer, 100, 1)
            with open(found) as file:
                assert os.path.sameopenfile(file.fileno(), null.fileno())
        assert data == b"take this"

    def test_descriptor_overtakes_no_reply_and_outlives_no_stream(self, plain: Rig) -> None:
        with open("/dev/null") as null:
            plain.stream.put(b"first")
            assert not plain.stream.put_with_descriptor(b"second", null.fileno())
            plain.until(lambda: plain.receive_some() and bool(plain.received), "it is sent")
            plain.peer.close()
            assert not plain.stream.put_with_descriptor(b"third", null.fileno())
            plain.stream.abort("done")
            assert not plain.stream.put_with_descriptor(b"fourth", null.fileno())
        assert plain.received == b"first"

    def test_descriptor_does_not_go_under_tls(
        self, loop: asyncio.AbstractEventLoop, tls: Contexts
    ) -> None:
        rig = Rig(loop, socket.SOCK_STREAM, None, tls)
        with open("/dev/null") as null:
            assert not rig.stream.put_with_descriptor(b"take this", null.fileno())
        rig.exchange(message(b"hello"), message(b"hello"))
        rig.close()
