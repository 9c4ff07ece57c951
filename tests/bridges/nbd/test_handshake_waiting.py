# SPDX-License-Identifier: GPL-2.0-or-later
"""What a handshake makes a client wait for, and what it does with one that does not wait."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from time import monotonic

import pytest

from bridges.listen import TlsMode
from bridges.nbd.handshake import Handshake
from bridges.stream import MAX_PENDING_BYTES, Stream
from bridges.stream_session import PeerError
from scsi_backend.io.sgv import SgvCache
from tests.bridges.echo import DEADLINE_S
from tests.bridges.nbd.peer import ONE_MIB, FakeExport, FakeExports, Peer, described
from tests.bridges.nbd.proto import (
    ABORT,
    ACK,
    ERR_INVALID,
    ERR_UNSUP,
    EXPORT_NAME,
    FIXED_NEWSTYLE_NO_ZEROES,
    GO,
    INFO,
    LIST,
    SERVER,
    go,
    information,
    option,
    option_reply,
    parse_option_replies,
)

DESCRIBED = described(GO)


@pytest.fixture
def peer() -> Peer:
    """A client of a server with one export, its flags already sent."""
    peer = Peer(FakeExports({"disk0": FakeExport(ONE_MIB)}))
    peer.send(FIXED_NEWSTYLE_NO_ZEROES)
    return peer


@pytest.mark.parametrize("number", [EXPORT_NAME, LIST, GO, 99])
def test_an_option_that_only_costs_memory_ends_the_connection(peer: Peer, number: int) -> None:
    with pytest.raises(PeerError, match=f"option {number} of 65537 bytes"):
        peer.send(option(number, bytes(65537))[:16])


def test_a_flood_of_options_ends_the_connection(peer: Peer) -> None:
    for _ in range(1024):
        assert parse_option_replies(peer.ask(option(99)))[0].kind == ERR_UNSUP
    with pytest.raises(PeerError, match="more than 1024 options"):
        peer.send(option(99))


def test_no_option_is_looked_at_while_an_export_is_being_opened(peer: Peer) -> None:
    peer.exports.is_slow = True
    assert peer.ask(option(INFO, information("disk0")), option(LIST, b"x")) == b""
    peer.exports.finish()
    assert peer.resumed == 1
    assert len(parse_option_replies(peer.take())) == 3
    assert parse_option_replies(peer.ask())[0].kind == ERR_INVALID


def test_an_export_that_opens_later_begins_transmission_then(peer: Peer) -> None:
    peer.exports.is_slow = True
    assert peer.ask(go("disk0"), b"first request") == b""
    assert peer.chosen == []
    peer.exports.finish()
    assert peer.take() == DESCRIBED
    assert peer.chosen == [peer.exports.exports["disk0"]]
    assert (peer.rest, peer.resumed) == (b"first request", 1)


def test_an_export_name_that_fails_later_ends_the_connection_then(peer: Peer) -> None:
    peer.exports.is_slow = True
    peer.send(option(EXPORT_NAME, b"disk1"))
    assert not peer.handshake.wants_close
    peer.exports.finish()
    assert peer.handshake.wants_close
    assert peer.resumed == 1


@pytest.mark.parametrize(
    "message", [go("disk0"), option(INFO, information("disk0")), option(EXPORT_NAME, b"disk0")]
)
def test_an_export_whose_client_has_left_is_closed(peer: Peer, message: bytes) -> None:
    peer.exports.is_slow = True
    peer.send(message)
    peer.handshake.closed()
    peer.exports.finish()
    assert peer.exports.exports["disk0"].closed == 1
    assert (peer.take(), peer.chosen, peer.resumed) == (b"", [], 0)


def test_a_failure_for_a_client_that_has_left_is_dropped(peer: Peer) -> None:
    peer.exports.is_slow = True
    peer.send(go("disk1"))
    peer.handshake.closed()
    peer.exports.finish()
    assert (peer.take(), peer.resumed) == (b"", 0)


def test_a_client_that_does_not_wait_for_an_export_cannot_fill_memory(peer: Peer) -> None:
    peer.exports.is_slow = True
    # As much as an option may have.
    peer.send(go("disk0"), bytes(16 + 65536))
    with pytest.raises(PeerError, match="without waiting"):
        peer.send(b"x")
    peer.handshake.closed()
    peer.exports.finish()
    assert peer.exports.exports["disk0"].closed == 1


def test_a_flood_of_data_ends_the_connection(peer: Peer) -> None:
    # 4 MiB: 1024 names of 4096 bytes.
    for _ in range(64):
        peer.send(option(99, bytes(65536)))
    with pytest.raises(PeerError, match="more than 4194304 bytes"):
        peer.send(option(99, b"x"))


def _many(count: int) -> Peer:
    peer = Peer(FakeExports({f"disk{n}": FakeExport(ONE_MIB) for n in range(count)}))
    peer.send(FIXED_NEWSTYLE_NO_ZEROES)
    return peer


def test_a_long_list_is_given_in_turns_and_what_follows_waits() -> None:
    peer = _many(2500)
    kinds: list[int] = []
    peer.send(option(LIST), option(LIST, b"x"))
    turns = [peer.exports.listed]
    while peer.resumed == len(turns):
        kinds += [reply.kind for reply in parse_option_replies(peer.take())]
        peer.send()
        turns.append(peer.exports.listed)
    kinds += [reply.kind for reply in parse_option_replies(peer.take())]
    assert turns == [1024, 2048, 2500]
    assert kinds == [SERVER] * 2500 + [ACK, ERR_INVALID]
    assert peer.rest == b""


def test_nothing_is_listed_while_the_peer_takes_no_replies() -> None:
    peer = _many(3)
    peer.is_full = True
    for _ in range(3):
        assert peer.ask(option(LIST) if not peer.rest else b"") == b""
    assert (peer.exports.listed, peer.resumed) == (0, 0)
    peer.is_full = False
    replies = parse_option_replies(peer.ask())
    assert [reply.kind for reply in replies] == [SERVER] * 3 + [ACK]
    assert peer.rest == b""


def test_a_list_goes_on_where_it_stopped_when_the_peer_was_full() -> None:
    peer = _many(1500)
    peer.send(option(LIST))
    peer.is_full = True
    peer.send()
    assert peer.exports.listed == 1024
    peer.is_full = False
    peer.send()
    *entries, end = parse_option_replies(peer.take())
    assert [entry.data[4 : 4 + entry.data[3]] for entry in entries] == [
        b"disk%d" % number for number in range(1500)
    ]
    assert end.kind == ACK


def test_a_list_counts_once_however_often_it_is_taken_up_again() -> None:
    peer = _many(1)
    peer.is_full = True
    peer.send(option(LIST))
    for _ in range(2000):
        peer.send()
    peer.is_full = False
    assert parse_option_replies(peer.ask())[-1].kind == ACK


def test_a_client_that_does_not_wait_for_a_list_cannot_fill_memory() -> None:
    peer = _many(3)
    peer.is_full = True
    peer.send(option(LIST), bytes(65536))
    with pytest.raises(PeerError, match="without waiting"):
        peer.send(b"x")


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_a_list_longer_than_may_be_pending_waits_for_a_peer_that_does_not_read() -> None:
    names = [f"{number:05d}".ljust(1000, "x") for number in range(12_000)]
    exports = FakeExports({name: FakeExport(ONE_MIB) for name in names})
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair()
    ended: list[Stream] = []
    stream = Stream(loop, ours, SgvCache(), ended.append, "test")
    handshake = Handshake(
        exports,
        stream.put,
        lambda export, negotiated: None,
        stream.handle_again,
        TlsMode.OFF,
        lambda: None,
        lambda: stream.is_full,
        lambda text: None,
    )
    stream.start(handshake)
    theirs.sendall(FIXED_NEWSTYLE_NO_ZEROES + option(LIST) + option(ABORT))
    theirs.setblocking(False)
    deadline_s = monotonic() + DEADLINE_S
    while not stream.is_full and monotonic() < deadline_s:
        _turn(loop)
    for _ in range(10):
        _turn(loop)
    assert stream.out.used_bytes < MAX_PENDING_BYTES + (64 << 10)
    assert exports.listed < len(names)
    received = bytearray()
    while not ended and monotonic() < deadline_s:
        _turn(loop)
        with suppress(BlockingIOError):
            received += theirs.recv(1 << 20)
    while data := theirs.recv(1 << 20):
        received += data
    theirs.close()
    loop.close()
    entries = [b"\0\0\x03\xe8" + f"{name}about {name}".encode() for name in names]
    expected = [option_reply(LIST, SERVER, entry) for entry in entries]
    assert received == b"".join(expected) + option_reply(LIST, ACK) + option_reply(ABORT, ACK)
