# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain and TLS transports on sockets, byte for byte, against Python's and OpenSSL's client."""

from __future__ import annotations

import os
import random
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from bridges.transport import PlainTransport, SendFirstError, TlsTransport
from tests.bridges.certificates import Contexts, contexts

DEADLINE_S = 20.0
RECORD = 16384


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"timed out: {what}"
        time.sleep(0.001)


def step(work: Callable[[], None]) -> bool:
    """Go on with a handshake; tell whether it is over."""
    try:
        work()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    return True


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    return contexts(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    yield ours, peer
    ours.close()
    peer.close()


@pytest.fixture
def plain(sockets: tuple[socket.socket, socket.socket]) -> tuple[PlainTransport, socket.socket]:
    return PlainTransport(sockets[0]), sockets[1]


Secure = tuple[TlsTransport, ssl.SSLSocket]


@pytest.fixture
def secure(sockets: tuple[socket.socket, socket.socket], tls: Contexts) -> Iterator[Secure]:
    """A transport and its client, both after the handshake; neither blocks."""
    ours, theirs = sockets
    descriptor = ours.fileno()
    transport = PlainTransport(ours).under_tls(tls[0])
    assert transport.fileno() == descriptor
    theirs.setblocking(False)
    peer = tls[1].wrap_socket(theirs, do_handshake_on_connect=False, suppress_ragged_eofs=False)
    ends = (peer.do_handshake, transport.shake_hands)
    until(lambda: [step(end) for end in ends] == [True, True], "the handshake")
    yield transport, peer
    transport.close()
    peer.close()


def receive(transport: PlainTransport | TlsTransport, room: int) -> bytes:
    """Receive once."""
    memory = bytearray(room)
    return bytes(memory[: transport.recv_into(memoryview(memory))])


def receive_all(transport: TlsTransport, length: int, room: int) -> bytes:
    """Receive until there is so much."""
    pieces: list[bytes] = []

    def some() -> bool:
        try:
            while sum(map(len, pieces)) < length:
                pieces.append(receive(transport, room))
        except BlockingIOError:
            assert not transport.has_pending
        return sum(map(len, pieces)) >= length

    until(some, "all of it comes")
    return b"".join(pieces)


def views(*pieces: bytes) -> list[memoryview]:
    return [memoryview(piece) for piece in pieces]


def send_for_ever(transport: TlsTransport) -> None:
    while True:
        transport.send(views(bytes(100_000)))


class TestPlain:
    def test_bytes_come_and_go(self, plain: tuple[PlainTransport, socket.socket]) -> None:
        transport, peer = plain
        with pytest.raises(BlockingIOError):
            receive(transport, 10)
        peer.send(b"hello")
        assert receive(transport, 3) + receive(transport, 3) == b"hello"
        assert transport.send(views(b"one")) == 3
        assert transport.send(views(b"two", b"three")) == 8
        assert peer.recv(100) == b"onetwothree"
        assert not transport.has_pending

    def test_end_is_no_bytes(self, plain: tuple[PlainTransport, socket.socket]) -> None:
        transport, peer = plain
        peer.close()
        assert receive(transport, 10) == b""
        with pytest.raises(BrokenPipeError):
            transport.send(views(b"x"))

    def test_full_socket_takes_a_part_and_then_blocks(
        self, plain: tuple[PlainTransport, socket.socket]
    ) -> None:
        transport, _ = plain
        data = bytes(8 << 20)
        assert 0 < transport.send(views(data)) < len(data)
        with pytest.raises(BlockingIOError):
            transport.send(views(data))

    def test_closing_is_all_that_the_peer_is_told(
        self, plain: tuple[PlainTransport, socket.socket]
    ) -> None:
        transport, peer = plain
        transport.say_goodbye()
        transport.send(views(b"x"))
        transport.close()
        assert (peer.recv(10), peer.recv(10)) == (b"x", b"")


class TestReceive:
    def test_requests_in_records_of_their_own_come_together(self, secure: Secure) -> None:
        transport, peer = secure
        for number in range(100):
            peer.send(bytes([number]) * 28)
        received = receive(transport, 1 << 20)
        assert received == b"".join(bytes([number]) * 28 for number in range(100))
        assert not transport.has_pending
        with pytest.raises(BlockingIOError):
            receive(transport, 1 << 20)

    def test_rest_of_a_record_is_pending_though_poll_sees_nothing(self, secure: Secure) -> None:
        transport, peer = secure
        data = random.Random(1).randbytes(RECORD)
        peer.send(data)
        assert receive(transport, 28) == data[:28]
        poll = select.poll()
        poll.register(transport.fileno(), select.POLLIN)
        assert poll.poll(0) == []
        assert transport.has_pending
        rest = RECORD - 28
        assert receive(transport, rest) == data[28:]
        assert not transport.has_pending

    @pytest.mark.parametrize("room", [100, RECORD, 1 << 20])
    def test_long_stream_comes_whole(self, secure: Secure, room: int) -> None:
        transport, peer = secure
        data = random.Random(2).randbytes(200_000)
        sent = memoryview(data)
        while sent:
            sent = sent[peer.send(sent[:RECORD]) :]
        assert receive_all(transport, len(data), room) == data

    def test_record_that_came_in_part_is_waited_for(
        self, sockets: tuple[socket.socket, socket.socket], tls: Contexts
    ) -> None:
        transport = PlainTransport(sockets[0]).under_tls(tls[0])
        to_peer, from_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = tls[1].wrap_bio(to_peer, from_peer)
        while not step(peer.do_handshake):
            sockets[1].sendall(from_peer.read())
            assert not step(transport.shake_hands)
            to_peer.write(sockets[1].recv(1 << 16))
        sockets[1].sendall(from_peer.read())
        assert step(transport.shake_hands)
        peer.write(b"hello")
        record = from_peer.read()
        for index in range(len(record)):
            with pytest.raises(BlockingIOError):
                receive(transport, 100)
            sockets[1].sendall(record[index : index + 1])
        assert receive(transport, 100) == b"hello"
        transport.close()

    @pytest.mark.parametrize("is_orderly", [True, False])
    def test_end_comes_behind_the_bytes_and_stays(self, secure: Secure, is_orderly: bool) -> None:
        transport, peer = secure
        peer.send(b"last words")
        if is_orderly:
            with pytest.raises(ssl.SSLWantReadError):
                peer.unwrap()
        else:
            peer.close()
        assert receive(transport, 100) == b"last words"
        assert transport.has_pending
        for _ in range(3):
            assert receive(transport, 100) == b""

    def test_end_after_our_own_goodbye_is_an_end(self, secure: Secure) -> None:
        transport, peer = secure
        transport.say_goodbye()
        # The peer answers our close_notify with its own.
        peer.unwrap().close()
        assert receive(transport, 100) == b""

    def test_failure_comes_behind_the_bytes_that_were_good(self, secure: Secure) -> None:
        transport, peer = secure
        peer.send(b"good")
        os.write(peer.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        assert receive(transport, 100) == b"good"
        assert transport.has_pending
        for _ in range(2):
            with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
                receive(transport, 100)


class TestSend:
    def test_nothing_is_sent_from_files(self, secure: Secure) -> None:
        assert secure[0].send_file is None

    def test_short_pieces_share_a_record(self, secure: Secure) -> None:
        transport, peer = secure
        pieces = [bytes([number]) * 16 for number in range(60)]
        assert transport.send(views(*pieces)) == 960
        # One call of recv never gives more than one record.
        assert peer.recv(1 << 20) == b"".join(pieces)

    def test_pieces_fill_a_record_and_no_more(self, secure: Secure) -> None:
        transport, peer = secure
        assert transport.send(views(b"a" * 16, b"b" * 100_000)) == RECORD
        assert peer.recv(1 << 20) == b"a" * 16 + b"b" * (RECORD - 16)

    def test_long_piece_goes_by_itself(self, secure: Secure) -> None:
        transport, peer = secure
        assert transport.send(views(b"a" * 20_000, b"b" * 16)) == 20_000
        assert peer.recv(1 << 20) + peer.recv(1 << 20) == b"a" * 20_000

    @pytest.mark.parametrize("piece", [100, 5000, 3_000_000])
    def test_blocked_stream_arrives_whole_though_more_was_queued(
        self, secure: Secure, piece: int
    ) -> None:
        transport, peer = secure
        data = random.Random(3).randbytes(6_000_000)
        sent, queued, blocked = 0, piece, 0
        received = bytearray()

        def go_on() -> bool:
            nonlocal sent, queued, blocked
            whole = memoryview(data)[sent:queued]
            pieces = [whole[first : first + piece] for first in range(0, len(whole), piece)]
            try:
                sent += transport.send(pieces[:64]) if pieces else 0
            except BlockingIOError:
                blocked += 1
                received.extend(peer.recv(1 << 20))
            # What is tried again has grown in the meantime.
            queued = min(len(data), queued + 10 * piece)
            return sent == len(data)

        until(go_on, "everything is sent")
        assert blocked

        def drained() -> bool:
            received.extend(peer.recv(1 << 20))
            return len(received) == len(data)

        until(drained, "everything arrives")
        assert received == data

    def test_goodbye_ends_the_peers_stream_in_order(self, secure: Secure) -> None:
        transport, peer = secure
        transport.send(views(b"x"))
        transport.say_goodbye()
        transport.close()
        assert (peer.recv(10), peer.recv(10)) == (b"x", b"")

    def test_closing_without_goodbye_is_seen_as_cut_off(self, secure: Secure) -> None:
        transport, peer = secure
        transport.close()
        with pytest.raises(ssl.SSLError, match=r"(?i)eof"):
            peer.recv(10)

    def test_goodbye_that_finds_no_room_is_left_out(self, secure: Secure) -> None:
        transport, _ = secure
        with pytest.raises(BlockingIOError):
            send_for_ever(transport)
        transport.say_goodbye()

    def test_peer_that_is_gone_is_an_error(self, secure: Secure) -> None:
        transport, peer = secure
        peer.close()
        with pytest.raises(OSError, match=r"(?i)pipe|EOF"):
            transport.send(views(b"x"))


class StubbornSocket:
    """An SSL socket that wants the other direction first."""

    def recv_into(self, view: memoryview) -> int:
        raise ssl.SSLWantWriteError

    def send(self, data: memoryview) -> int:
        raise ssl.SSLWantReadError


def test_directions_that_wait_for_each_other_are_told_apart() -> None:
    transport = TlsTransport(cast(ssl.SSLSocket, StubbornSocket()))
    with pytest.raises(SendFirstError):
        receive(transport, 10)
    assert transport.has_pending
    with pytest.raises(OSError, match="wants to receive before it sends") as caught:
        transport.send(views(b"x"))
    assert not isinstance(caught.value, BlockingIOError)


def test_handshake_tells_who_the_peer_is(secure: Secure) -> None:
    transport, peer = secure
    assert transport.certificate is not None
    assert transport.certificate["subject"] == ((("commonName", "alice"),),)
    cipher = peer.cipher()
    assert cipher is not None
    assert transport.description == f"TLSv1.3 {cipher[0]}"


def test_openssl_may_change_its_keys_and_ask_for_ours(tmp_path: Path) -> None:
    server, _ = contexts(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{listening.getsockname()[1]}"]
        command += ["-cert", f"{tmp_path}/client-cert.pem", "-key", f"{tmp_path}/client-key.pem"]
        client = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        transport = PlainTransport(listening.accept()[0]).under_tls(server)
    with client:
        assert client.stdin is not None
        assert client.stdout is not None
        until(lambda: step(transport.shake_hands), "the handshake")
        said = b""
        for number in range(1, 4):
            # A line that begins with K: a KeyUpdate that asks for one in return.
            os.write(client.stdin.fileno(), b"K\n")
            while said.count(b"KEYUPDATE") < number:
                said += os.read(client.stdout.fileno(), 4096)
            os.write(client.stdin.fileno(), b"question")
            assert receive_all(transport, 8, 100) == b"question"
            answer = b"answer %d" % number
            assert transport.send(views(answer)) == len(answer)
            while answer not in said:
                said += os.read(client.stdout.fileno(), 4096)
        transport.say_goodbye()
        transport.close()
