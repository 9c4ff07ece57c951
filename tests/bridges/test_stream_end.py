# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer that says that nothing more comes while the stream is full of its requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bridges.certificates import contexts
from tests.bridges.echo import Rig, message

# More than may be under way at once.
REQUESTS = 9000


@pytest.fixture(params=["plain", "tls"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    loop = asyncio.new_event_loop()
    tls = contexts(tmp_path) if request.param == "tls" else None
    rig = Rig(loop, socket.SOCK_STREAM, None, tls)
    yield rig
    rig.close()
    loop.close()


def say_goodbye(peer: socket.socket) -> None:
    if isinstance(peer, ssl.SSLSocket):
        # The stream's own close_notify is not there yet.
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.unwrap()
    else:
        peer.shutdown(socket.SHUT_WR)


def test_requests_received_before_the_peers_end_are_all_handled(rig: Rig) -> None:
    session = rig.session
    session.is_held = session.holds_payloads = True
    rest = memoryview(message(b"x") * REQUESTS)

    def is_sent() -> bool:
        nonlocal rest
        rest = rest[rig.send_some(rest) :] if rest else rest
        return not rest

    rig.until(is_sent, "everything is sent")
    say_goodbye(rig.peer)
    rig.until(lambda: rig.stream.is_full, "the stream is full")
    assert sum(session.handled) < REQUESTS
    session.is_held = False
    while session.held:
        session.answer()
    rig.until(lambda: bool(rig.closed_streams), "the stream is closed")
    assert sum(session.handled) == REQUESTS
