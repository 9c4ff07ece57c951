# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams that send from files: order, back-pressure, fair shares, and files that become shorter.

A request is an offset and a length; the reply is the length and the file's bytes.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import uvloop

from bridges import stream as stream_module
from bridges.stream import MAX_PENDING_BYTES, Stream
from bridges.transport import PlainTransport
from scsi_backend.io.located import FileRange
from tests.bridges.certificates import contexts
from tests.bridges.echo import LENGTH, Echo, Rig, message
from tests.bridges.sgv import CountingSgv

MIB = 1 << 20
FILE_BYTES = 8 * MIB
# What a stream sends, or reads, before others get their turn.
TURN_BYTES = 4 * MIB
REQUEST = struct.Struct(">QI")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Sender(Echo):
    """Answers each request with bytes of a file; a length beyond ``copied_below`` is not copied."""

    def __init__(self, stream: Stream, sgv: CountingSgv, fd: int) -> None:
        super().__init__(stream, sgv)
        self.fd = fd
        self.copied_below = 0
        self.requests = 0

    def receive(self, data: memoryview) -> int:
        position = 0
        while len(data) - position >= REQUEST.size and not self.stream.is_full:
            offset, length = REQUEST.unpack_from(data, position)
            position += REQUEST.size
            self.requests += 1
            if length < self.copied_below:
                self.stream.put(message(os.pread(self.fd, length, offset)))
                continue
            out = self.stream.out
            start = out.reserve(LENGTH.size)
            LENGTH.pack_into(out.chunk.view, start, length)
            end = start + LENGTH.size
            self.stream.commit_with_file(out.chunk, start, end, FileRange(self.fd, offset), length)
        return position


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = LOOPS[request.param]()
    yield loop
    loop.close()


CONTENT = random.Random(5).randbytes(FILE_BYTES)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


Sending = Callable[[], tuple[Rig, Sender]]


@pytest.fixture
def sending(loop: asyncio.AbstractEventLoop, file: int) -> Iterator[Sending]:
    """Makes streams that answer from the file."""
    rigs: list[Rig] = []

    def make() -> tuple[Rig, Sender]:
        rig = Rig(loop, socket.SOCK_STREAM, None)
        sender = Sender(rig.stream, rig.sgv, file)
        rig.stream.replace_session(sender)
        rig.session = sender
        rigs.append(rig)
        return rig, sender

    yield make
    for rig in rigs:
        rig.close()


def requests(*ranges: tuple[int, int]) -> bytes:
    return b"".join(REQUEST.pack(*each) for each in ranges)


def replies(*ranges: tuple[int, int]) -> bytes:
    return b"".join(message(CONTENT[offset : offset + length]) for offset, length in ranges)


def some_ranges(seed: int, count: int) -> list[tuple[int, int]]:
    chooser = random.Random(seed)
    lengths = [chooser.choice((1, 4096, 40_000, 300_000, 2 * MIB)) for _ in range(count)]
    return [(chooser.randrange(FILE_BYTES - length), length) for length in lengths]


class StingyTransport(PlainTransport):
    """A transport that takes little, and every other time nothing."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._really_send_file = self.send_file
        self.send_file = self._take_little
        self._is_full = False

    def _wait(self) -> None:
        self._is_full = not self._is_full
        if self._is_full:
            raise BlockingIOError

    def _take_little(self, fd: int, offset_bytes: int, length_bytes: int) -> int:
        self._wait()
        assert self._really_send_file is not None
        return self._really_send_file(fd, offset_bytes, min(length_bytes, 3001))

    def send(self, views: Sequence[memoryview]) -> int:
        """See ``Transport``."""
        self._wait()
        return super().send([views[0][:1001]])


class GreedyTransport(PlainTransport):
    """A transport that takes all of it each time: its peer is faster than this side can be."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.taken: list[int] = []
        self.send_file = self._take_file

    def _take_file(self, fd: int, offset_bytes: int, length_bytes: int) -> int:
        self.taken.append(length_bytes)
        return length_bytes

    def send(self, views: Sequence[memoryview]) -> int:
        """See ``Transport``."""
        self.taken.append(sum(map(len, views)))
        return self.taken[-1]


class TestOrder:
    def test_bytes_of_a_file_come_behind_their_header(self, sending: Sending) -> None:
        rig, _ = sending()
        ranges = [(0, 5), (FILE_BYTES - 1, 1), (4095, 2), (100, 100_000)]
        for each in ranges:
            rig.exchange(requests(each), replies(each))
        rig.exchange(requests(*ranges), replies(*ranges))
        assert rig.stream.out.used_bytes == rig.stream.out.queued_bytes == 0

    @pytest.mark.parametrize("copied_below", [0, 5000])
    def test_long_and_short_replies_leave_in_their_order(
        self, sending: Sending, copied_below: int
    ) -> None:
        rig, sender = sending()
        sender.copied_below = copied_below
        ranges = some_ranges(1, 150)
        rig.exchange(requests(*ranges), replies(*ranges))
        assert rig.stream.out.used_bytes == rig.stream.out.queued_bytes == 0
        assert len(rig.sgv.in_use) == 2

    def test_a_socket_that_is_full_at_every_step_loses_nothing(
        self, sending: Sending, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stream_module, "PlainTransport", StingyTransport)
        rig, sender = sending()
        sender.copied_below = 5000
        ranges = [(index * 5000, 1 + index * 997 % 20_000) for index in range(50)]
        rig.exchange(requests(*ranges), replies(*ranges))
        assert rig.stream.out.used_bytes == rig.stream.out.queued_bytes == 0

    def test_reply_outside_a_batch_is_sent(self, sending: Sending, file: int) -> None:
        rig, _ = sending()
        out = rig.stream.out
        start = out.reserve(4)
        out.chunk.view[start : start + 4] = b"head"
        rig.stream.commit_with_file(out.chunk, start, start + 4, FileRange(file, 10), 100_000)
        rig.exchange(b"", b"head" + CONTENT[10:100_010])

    def test_several_streams_send_from_one_file(self, sending: Sending) -> None:
        rigs = [sending()[0] for _ in range(4)]
        wanted = [some_ranges(seed, 30) for seed in range(4)]
        unsent = [memoryview(requests(*ranges)) for ranges in wanted]
        expected = [replies(*ranges) for ranges in wanted]

        def all_came() -> bool:
            for index, rig in enumerate(rigs):
                unsent[index] = unsent[index][rig.send_some(unsent[index]) :]
                rig.receive_some()
            return all(
                len(rig.received) >= len(data) for rig, data in zip(rigs, expected, strict=True)
            )

        rigs[0].until(all_came, "all replies come")
        assert [rig.received == data for rig, data in zip(rigs, expected, strict=True)] == [
            True
        ] * 4


class TestTransports:
    def test_bytes_in_the_clear_may_come_from_a_file(self, sending: Sending) -> None:
        assert sending()[0].stream.send_file_from_bytes == 64 << 10

    def test_under_tls_they_may_not(self, loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
        rig = Rig(loop, socket.SOCK_STREAM, None, contexts(tmp_path))
        assert rig.stream.send_file_from_bytes is None
        rig.close()


class TestBackPressure:
    def test_peer_that_takes_nothing_is_not_served_without_end(self, sending: Sending) -> None:
        rig, sender = sending()
        data = requests(*[(0, MIB)] * 5000)
        rig.send_until_stuck(data)
        assert rig.stream.is_full
        # What they count for, one more, and what the socket has taken.
        assert sender.requests <= 8 * MAX_PENDING_BYTES // MIB + 1 + 8
        assert rig.stream.out.used_bytes < MAX_PENDING_BYTES + MIB
        assert rig.sgv.in_use_bytes < 2 * MIB
        rig.peer.close()
        rig.assert_closed()
        assert rig.stream.out.used_bytes == 0

    def test_stream_that_was_full_goes_on(self, sending: Sending) -> None:
        rig, sender = sending()
        ranges = [(index * 4096, 2 * MIB) for index in range(100)]
        data = requests(*ranges)
        assert rig.send_until_stuck(data) == len(data)
        assert rig.stream.is_full
        assert sender.requests < 100
        rig.exchange(b"", replies(*ranges))
        assert sender.requests == 100
        assert not rig.stream.is_full


class TestEnd:
    @pytest.mark.parametrize("left_bytes", [0, 1, 4096, 5 * MIB + 77])
    def test_file_that_became_shorter_ends_the_connection(
        self, sending: Sending, file: int, left_bytes: int
    ) -> None:
        rig, _ = sending()
        os.ftruncate(file, left_bytes)
        rig.peer.send(requests((0, FILE_BYTES), (0, 1)))
        received = rig.receive_to_end()
        assert received == (message(CONTENT)[: 4 + left_bytes])
        rig.assert_closed()

    def test_file_that_becomes_shorter_while_the_peer_is_slow_ends_the_connection(
        self, sending: Sending, file: int
    ) -> None:
        rig, _ = sending()
        rig.send_until_stuck(requests((0, FILE_BYTES), (0, FILE_BYTES)))
        rig.turn(20)
        os.ftruncate(file, 0)
        received = rig.receive_to_end()
        assert 4 < len(received) < FILE_BYTES
        # A page that is on its way may have lost its end, but no byte is in another's place.
        assert received[: MIB // 2] == message(CONTENT)[: MIB // 2]
        rig.assert_closed()

    def test_abort_in_the_middle_of_a_file_lets_go_of_everything(self, sending: Sending) -> None:
        rig, _ = sending()
        rig.send_until_stuck(requests((0, FILE_BYTES), (5, FILE_BYTES - 5)))
        assert 0 < rig.stream.out.queued_bytes < 2 * FILE_BYTES
        rig.stream.abort("enough")
        rig.assert_closed()
        assert rig.stream.out.used_bytes == rig.stream.out.queued_bytes == 0

    def test_peer_that_goes_away_in_the_middle_of_a_file(self, sending: Sending) -> None:
        rig, _ = sending()
        rig.send_until_stuck(requests(*[(0, FILE_BYTES)] * 10))
        rig.peer.close()
        rig.assert_closed()

    def test_end_waits_until_the_file_is_sent(self, sending: Sending) -> None:
        rig, _ = sending()
        rig.send_until_stuck(requests((0, FILE_BYTES)))
        rig.stream.end()
        assert rig.receive_to_end() == replies((0, FILE_BYTES))
        rig.assert_closed()


@pytest.fixture
def greedy(
    monkeypatch: pytest.MonkeyPatch, sending: Sending
) -> Iterator[tuple[Rig, Sender, GreedyTransport]]:
    made: list[GreedyTransport] = []

    def make(sock: socket.socket) -> GreedyTransport:
        made.append(GreedyTransport(sock))
        return made[0]

    with monkeypatch.context() as patch:
        patch.setattr(stream_module, "PlainTransport", make)
        rig, sender = sending()
    yield rig, sender, made[0]
    rig.stream.abort("enough")


class TestFairShares:
    def test_peer_that_takes_all_at_once_leaves_others_their_turn(
        self, greedy: tuple[Rig, Sender, GreedyTransport]
    ) -> None:
        rig, sender, transport = greedy
        length = 32 * MIB
        rig.peer.send(requests(*[(0, length)] * 5000))
        sent, handled = [0], [0]
        for _ in range(200):
            rig.turn()
            sent.append(sum(transport.taken))
            handled.append(sender.requests)
        # A turn is at most one of reading and one of writing, each with its own share.
        assert max(after - before for before, after in pairwise(sent)) <= 4 * TURN_BYTES
        assert max(transport.taken) <= TURN_BYTES
        assert sent[-1] > 50 * TURN_BYTES
        # As many as may wait, each counting for an eighth of its length.
        room = 8 * MAX_PENDING_BYTES // length
        assert max(after - before for before, after in pairwise(handled)) <= room + 1

    def test_everything_is_taken_in_the_end(
        self, greedy: tuple[Rig, Sender, GreedyTransport]
    ) -> None:
        rig, sender, transport = greedy
        rig.peer.send(requests(*[(0, 3 * MIB)] * 50))
        rig.until(lambda: sum(transport.taken) == 50 * (4 + 3 * MIB), "everything is taken")
        assert sender.requests == 50
        rig.turn(5)
        assert rig.stream.out.used_bytes == 0

    def test_another_connection_is_answered_meanwhile(
        self, greedy: tuple[Rig, Sender, GreedyTransport], sending: Sending
    ) -> None:
        rig, _, _ = greedy
        other, _ = sending()
        rig.peer.send(requests(*[(0, 32 * MIB)] * 5000))
        rig.turn(3)
        other.peer.send(requests((7, 100_000)))
        turns = 0
        while other.received != replies((7, 100_000)):
            turns += 1
            assert turns < 20
            other.turn()
            other.receive_some()
        assert rig.stream.out.queued_bytes
