# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of spoilt conversations without sockets, and 500 with: nobody fails or babbles.

``fuzz`` has as many more without sockets as one likes; FUZZ_CONNECTIONS is how many there are with.
"""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Callable

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.target.backend import Backend
from tests.bridges.nbd import fuzz, mutation, proto
from tests.bridges.nbd.client import Client
from tests.bridges.nbd.conftest import Serve
from tests.bridges.nbd.corpus import OPTIONS, REQUESTS, Case
from tests.bridges.nbd.forms import Form
from tests.bridges.nbd.model import World
from tests.bridges.nbd.serving import DEADLINE_S, Serving, open_descriptors
from tests.scsi_backend.fakes import FaultyVdisk

BLOCK = 512
STREAMS = 500
CONNECTIONS = int(os.environ.get("FUZZ_CONNECTIONS", "500"))


@pytest.mark.parametrize("first", range(0, 5000, STREAMS))
def test_spoilt_streams_get_the_answers_of_the_specification(first: int) -> None:
    assert fuzz.run(range(first, first + STREAMS)) == (STREAMS, [])


def test_a_finding_is_told_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        assert number != 3, "three is wrong"

    monkeypatch.setattr(fuzz, "check", refuse)
    count, (finding,) = fuzz.run(range(5))
    assert (count, finding.number) == (5, 3)
    assert "three is wrong" in finding.text


@pytest.mark.parametrize("case", REQUESTS.values(), ids=REQUESTS)
def test_requests_that_went_wrong_once(case: Case) -> None:
    stream = bytes.fromhex(case.requests)
    fuzz.check_requests(case.world, stream, [stream])
    fuzz.check_requests(case.world, stream, [stream[at : at + 1] for at in range(len(stream))])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_that_went_wrong_once(options: str) -> None:
    for seed in range(5):
        fuzz.check_handshake(random.Random(seed), bytes.fromhex(options))


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


@pytest.mark.timeout(300 + CONNECTIONS / 20)
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
        for number in range(CONNECTIONS):
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
    form = chooser.choice(tuple(Form))
    requests = mutation.requests(chooser, World(form, blocks=64))
    if chooser.random() < 0.3:
        return mutation.spoil(chooser, mutation.handshake(chooser) + requests)
    return _agree(form) + mutation.spoil(chooser, requests)


def _agree(form: Form) -> bytes:
    """Client flags and the options for a form."""
    options = {
        Form.SIMPLE: b"",
        Form.STRUCTURED: proto.option(proto.STRUCTURED_REPLY),
        Form.EXTENDED: proto.option(proto.EXTENDED_HEADERS),
    }
    contexts = proto.option(proto.SET_META_CONTEXT, proto.meta_query("disk", "base:allocation"))
    return proto.FIXED_NEWSTYLE + options[form] + contexts + proto.go("disk")


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
