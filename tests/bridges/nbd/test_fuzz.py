# SPDX-License-Identifier: GPL-2.0-or-later
"""10,000 spoilt conversations without sockets, and 500 with: the server neither fails nor babbles.

What is not spoilt beyond sense has one right answer, which ``model`` knows.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable

import pytest

from bridges.stream import PeerError
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.backend import Backend
from tests.bridges.nbd import mutation, proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.conftest import Serve
from tests.bridges.nbd.link import Link
from tests.bridges.nbd.model import BLOCK, Model
from tests.bridges.nbd.peer import FakeExport, FakeExports, Peer
from tests.bridges.nbd.serving import DEADLINE_S, Serving, open_descriptors
from tests.bridges.nbd.test_translate import DISK
from tests.scsi_backend.fakes import FaultyVdisk

SEEDS = range(10)
ROUNDS = 500
BLOCKS = 32
EXPORT_NAME_REPLIES = (0, 10, 134)


def _well_formed(replies: bytes, *, may_end_in_export_name: bool) -> None:
    """The bytes are option replies, and then perhaps the one answer that has no header."""
    while replies.startswith(bytes.fromhex("0003e889045565a9")):
        length = proto.OPTION_REPLY_BYTES + int.from_bytes(replies[16:20], "big")
        (reply,) = proto.parse_option_replies(replies[:length])
        assert reply.kind in (1, 2, 3) or reply.kind & 0x80000000
        replies = replies[length:]
    assert len(replies) in (EXPORT_NAME_REPLIES if may_end_in_export_name else (0,))


@pytest.mark.parametrize("seed", SEEDS)
def test_spoilt_handshakes_end_in_a_peer_error_or_in_replies(seed: int) -> None:
    chooser = random.Random(seed)
    for _ in range(ROUNDS):
        export = FakeExport(DISK)
        exports = FakeExports({"disk": export}, is_slow=chooser.random() < 0.3)
        peer = Peer(exports)
        stream = mutation.spoil(chooser, mutation.handshake(chooser))
        try:
            for piece in mutation.pieces(chooser, stream):
                peer.send(piece)
                while exports.waiting and chooser.random() < 0.8:
                    exports.finish()
        except PeerError:
            pass
        peer.handshake.closed()
        while exports.waiting:
            exports.finish()
        _well_formed(peer.take(), may_end_in_export_name=bool(peer.chosen))
        assert len(peer.chosen) <= 1
        assert export.opened == export.closed + len(peer.chosen)


@pytest.mark.parametrize("seed", SEEDS)
def test_spoilt_requests_get_the_answers_of_the_specification(seed: int) -> None:
    chooser = random.Random(seed)
    content = chooser.randbytes(BLOCKS * BLOCK)
    for number in range(ROUNDS):
        vdisk = FaultyVdisk(BLOCKS)
        vdisk.data[:] = content
        is_read_only = number % 5 == 0
        link = Link.open(vdisk, is_read_only=is_read_only)
        model = Model(bytearray(content), is_read_only)
        stream = mutation.spoil(chooser, mutation.requests(chooser, BLOCKS))
        expected = model.answer(stream)
        has_peer_error = False
        try:
            for piece in mutation.pieces(chooser, stream):
                link.send(piece)
        except PeerError:
            has_peer_error = True
        assert link.connection.replies() == expected
        assert has_peer_error == model.has_peer_error
        assert vdisk.data == model.image
        link.close()


def _verify_until(
    stop: threading.Event, serving: Serving, content: bytes, rounds: list[int]
) -> None:
    """Read another disk all the time, and count how often all was right."""
    chooser = random.Random(1)
    with Client(serving.unix()).begin("witness") as client:
        while not stop.is_set():
            offset = chooser.randrange(0, len(content) // 2, BLOCK)
            length = chooser.randrange(BLOCK, len(content) // 2, BLOCK)
            assert client.read(offset, length) == content[offset : offset + length]
            rounds.append(length)


def test_spoilt_connections_disturb_nobody(
    serve: Serve, image: Callable[[Backend], LogicalUnit]
) -> None:
    chooser = random.Random(500)
    witness = FaultyVdisk(2048)
    content = witness.fill()
    serving = serve(disk=image, witness=lambda backend: disk(witness))
    stop, rounds = threading.Event(), list[int]()
    thread = threading.Thread(target=_verify_until, args=(stop, serving, content, rounds))
    with Client(serving.tcp()).begin("disk"):
        before = open_descriptors()
        thread.start()
        serving.until(lambda: len(rounds) > 0)
        for number in range(500):
            stream = _conversation(chooser)
            with Client(serving.unix() if number % 2 else serving.tcp()) as client:
                _say(client, stream, chooser)
        progress = len(rounds)
        serving.until(lambda: serving.server.connections == 2 and len(rounds) > progress)
        assert thread.is_alive()
        stop.set()
        thread.join(DEADLINE_S)
        serving.until(lambda: serving.server.connections == 1)
        assert open_descriptors() == before
    assert len(rounds) > 20


def _conversation(chooser: random.Random) -> bytes:
    """A spoilt handshake, or a right one with spoilt requests."""
    requests = mutation.requests(chooser, 64)
    if chooser.random() < 0.3:
        return mutation.spoil(chooser, mutation.handshake(chooser) + requests)
    return proto.FIXED_NEWSTYLE + proto.go("disk") + mutation.spoil(chooser, requests)


def _say(client: Client, stream: bytes, chooser: random.Random) -> None:
    """Say it all and hang up; sometimes hear the server out first, which may hang up earlier."""
    try:
        client.send(stream)
        if chooser.random() < 0.5:
            client.sock.shutdown(socket.SHUT_WR)
            while client.sock.recv(1 << 20):
                pass
    except (BrokenPipeError, ConnectionResetError):
        return
