# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams that turn to TLS: what is sent before, what must not come before, and what goes wrong.

That a stream under TLS does all that a plain one does is shown in ``test_stream``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
import uvloop

from bridges.stream import MAX_PENDING_BYTES
from bridges.transport import PlainTransport, SendFirstError
from tests.bridges.certificates import Contexts, contexts
from tests.bridges.echo import CLOSE, PEER_ERROR, Rig, message, order

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    return contexts(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = LOOPS[request.param]()
    yield loop
    loop.close()


@pytest.fixture
def plain(loop: asyncio.AbstractEventLoop) -> Iterator[Rig]:
    """A rig that has not turned to TLS."""
    rig = Rig(loop, socket.SOCK_STREAM, None)
    yield rig
    rig.close()


@pytest.fixture
def secure(loop: asyncio.AbstractEventLoop, tls: Contexts) -> Iterator[Rig]:
    rig = Rig(loop, socket.SOCK_STREAM, None, tls)
    yield rig
    rig.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_client_is_known_by_its_certificate(secure: Rig) -> None:
    (certificate,) = secure.certificates
    assert certificate is not None
    assert certificate["subject"] == ((("commonName", "alice"),),)


def test_what_was_queued_leaves_in_plain_text_before_tls(plain: Rig, tls: Contexts) -> None:
    plain.exchange(message(b"before"), message(b"before"))
    # More than the socket takes at once.
    last = b"x" * (4 << 20)
    plain.stream.put(message(last))
    plain.stream.start_tls(tls[0], plain.certificates.append)
    plain.exchange(b"", message(last))
    plain.wrap_peer(tls[1])
    plain.until(lambda: plain.shake_hands() and bool(plain.certificates), "TLS is up")
    plain.exchange(message(b"after"), message(b"after"))


def test_bytes_left_over_from_plain_text_are_not_taken(
    plain: Rig, tls: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    plain.session.is_waiting = True
    plain.peer.send(message(b"injected"))
    plain.until(lambda: bool(plain.session.offered), "the message is offered")
    plain.session.is_waiting = False
    plain.stream.start_tls(tls[0], plain.certificates.append)
    plain.assert_closed()
    assert plain.session.handled == [0]
    assert warnings(caplog) == ["peer: TLS handshake failed: bytes came in plain text before it"]


def test_plain_text_after_the_turn_ends_the_connection(
    plain: Rig, tls: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    plain.stream.start_tls(tls[0], plain.certificates.append)
    plain.peer.send(message(b"not TLS"))
    plain.assert_closed()
    assert plain.session.handled == []
    assert warnings(caplog) == [
        "peer: TLS handshake failed: plaintext or wrong version number",
    ]


def test_peer_that_goes_away_in_the_handshake_leaves_nothing_behind(
    plain: Rig, tls: Contexts
) -> None:
    plain.stream.start_tls(tls[0], plain.certificates.append)
    plain.turn(3)
    plain.peer.close()
    plain.assert_closed()
    assert plain.certificates == []


@pytest.mark.parametrize("turns", [0, 1, 5])
@pytest.mark.parametrize("is_abort", [True, False])
def test_stream_can_be_ended_in_the_handshake(
    plain: Rig, tls: Contexts, turns: int, is_abort: bool
) -> None:
    plain.stream.start_tls(tls[0], plain.certificates.append)
    plain.turn(turns)
    plain.wrap_peer(tls[1])
    assert not plain.shake_hands()
    if is_abort:
        plain.stream.abort("enough")
    else:
        plain.stream.end()
    plain.assert_closed()
    assert plain.certificates == []
    # Whoever gets the same descriptor next is not mistaken for it.
    other = Rig(plain.loop, socket.SOCK_STREAM, None)
    other.exchange(message(b"one"), message(b"one"))
    other.close()


def test_flush_in_the_handshake_does_not_begin_another(
    plain: Rig, tls: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    plain.stream.start_tls(tls[0], plain.certificates.append)
    plain.turn(2)
    plain.stream.schedule_flush()
    plain.turn(2)
    plain.wrap_peer(tls[1])
    plain.until(lambda: plain.shake_hands() and bool(plain.certificates), "TLS is up")
    plain.exchange(message(b"one"), message(b"one"))
    assert warnings(caplog) == []


def test_what_the_server_does_with_the_certificate_may_fail(
    plain: Rig, tls: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    def done(certificate: object) -> None:
        plain.certificates.append(None)
        raise ZeroDivisionError("told to")

    plain.stream.start_tls(tls[0], done)
    plain.wrap_peer(tls[1])
    plain.until(lambda: plain.shake_hands() and bool(plain.certificates), "TLS is up")
    plain.assert_closed()
    assert "ZeroDivisionError: told to" in caplog.text


def test_many_messages_in_one_record_are_all_answered(secure: Rig) -> None:
    data = message(b"0123456789") * 1000
    assert secure.peer.send(data) == 14_000
    secure.exchange(b"", data)
    # The session got all of it at once.
    assert secure.session.handled == [1000]


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_rest_of_a_record_is_not_forgotten_when_little_is_received_at_once(
    secure: Rig, limit: int
) -> None:
    secure.session.receive_limit_bytes = limit
    data = message(b"0123456789") * 100
    assert secure.peer.send(data) == 1400
    secure.exchange(b"", data)
    assert max(secure.session.offered[:1]) <= limit


def test_rest_of_a_record_is_not_forgotten_while_the_stream_is_full(secure: Rig) -> None:
    secure.session.is_held = True
    secure.session.holds_payloads = True
    secure.session.receive_limit_bytes = 9
    secure.stream.held_bytes += MAX_PENDING_BYTES - 5
    data = message(b"12345") * 100
    assert secure.peer.send(data) == 900
    secure.until(lambda: len(secure.session.held) == 1, "the first message is handled")
    secure.turn(5)
    assert len(secure.session.held) == 1
    secure.stream.held_bytes -= MAX_PENDING_BYTES - 5
    secure.session.is_held = False
    secure.session.answer()
    secure.exchange(b"", data)


def test_long_payloads_and_short_messages_take_turns(secure: Rig) -> None:
    secure.session.direct_from = 100
    data = (message(b"x" * 5_000_000) + message(b"y" * 9)) * 3
    secure.exchange(data, data)
    assert secure.session.direct_bodies == 3


def test_orderly_end_says_goodbye(secure: Rig) -> None:
    secure.peer.send(message(b"one") + order(CLOSE))
    assert secure.receive_to_end() == message(b"one")
    secure.assert_closed()
    assert not secure.was_cut_off


def test_abort_says_nothing(secure: Rig) -> None:
    secure.stream.abort("enough")
    assert secure.receive_to_end() == b""
    assert secure.was_cut_off


def test_end_by_a_fault_of_the_peer_says_goodbye_too(secure: Rig) -> None:
    secure.peer.send(message(b"one") + order(PEER_ERROR))
    assert secure.receive_to_end() == message(b"one")
    secure.assert_closed()
    assert not secure.was_cut_off


def test_peer_that_says_goodbye_still_gets_its_replies(secure: Rig) -> None:
    assert isinstance(secure.peer, ssl.SSLSocket)
    secure.session.is_held = True
    secure.peer.send(message(b"one"))
    with pytest.raises(ssl.SSLWantReadError):
        secure.peer.unwrap()
    secure.until(lambda: len(secure.session.held) == 1, "the message is handled")
    secure.turn(5)
    assert not secure.closed_streams
    secure.session.answer()
    secure.assert_closed()
    assert secure.receive_to_end() == message(b"one")


def test_damaged_record_ends_the_connection(secure: Rig) -> None:
    secure.peer.send(message(b"good"))
    os.write(secure.peer.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
    secure.assert_closed()
    assert secure.session.handled == [1]


# Ten million bytes, twice what one turn receives.
BODIES = [bytes([index % 251]) * 10_000 for index in range(1000)]


class ReluctantTransport(PlainTransport):
    """Has to send something of its own before it can receive, as TLS may."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.descriptor = sock.fileno()
        self.must_send_first = True
        self.refusals = 0
        self._recv_into = self.recv_into
        self.recv_into = self._refuse

    def _refuse(self, view: memoryview) -> int:
        if self.must_send_first:
            self.refusals += 1
            raise SendFirstError
        return self._recv_into(view)


def test_stream_that_must_send_before_it_receives_waits_for_room(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ReluctantTransport] = []

    def make(sock: socket.socket) -> ReluctantTransport:
        made.append(ReluctantTransport(sock))
        return made[-1]

    monkeypatch.setattr("bridges.stream.PlainTransport", make)
    rig = Rig(loop, socket.SOCK_STREAM, None)
    (transport,) = made
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(transport.descriptor, bytes(4096))
    rig.peer.send(message(b"one"))
    rig.turn(20)
    # There is something to receive all the time; looking at it again and again would only spin.
    assert transport.refusals == 1
    transport.must_send_first = False
    rig.exchange(b"", bytes(filled) + message(b"one"))
    rig.close()


class HoardingTransport(PlainTransport):
    """One byte wakes it up, once, and then there is far more than poll(2) tells of."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.hoard = memoryview(b"".join(map(message, BODIES)))
        self._recv_into = self.recv_into
        self.recv_into = self._give

    def _give(self, view: memoryview) -> int:
        if not self.has_pending:
            self._recv_into(memoryview(bytearray(1)))
        count = min(len(view), len(self.hoard))
        view[:count], self.hoard = self.hoard[:count], self.hoard[count:]
        # Unlike its base, which never has.
        self.has_pending = bool(self.hoard)
        return count


def test_what_poll_does_not_tell_of_is_received_in_turns(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridges.stream.PlainTransport", HoardingTransport)
    rig = Rig(loop, socket.SOCK_STREAM, None)
    rig.exchange(b"x", b"".join(map(message, BODIES)))
    rig.close()
