# SPDX-License-Identifier: GPL-2.0-or-later
"""Short payloads that commands keep for long: the memory around them counts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from bridges.stream import MAX_PENDING_BYTES
from tests.bridges.echo import Rig, message

TINY = message(b"tiny")
# Received and answered at once; some fill what the tiny one is in.
FILLER = message(b"x" * 30_000) * 8


@pytest.fixture
def rig() -> Iterator[Rig]:
    loop = asyncio.new_event_loop()
    rig = Rig(loop, socket.SOCK_STREAM, None)
    yield rig
    rig.close()
    loop.close()


def test_chunks_kept_by_short_payloads_fill_the_stream(rig: Rig) -> None:
    session, stream = rig.session, rig.stream
    session.holds_payloads = True
    kept = 0
    while not stream.is_full:
        assert rig.sgv.in_use_bytes < 2 * MAX_PENDING_BYTES
        kept += 1
        session.is_held = True
        rig.peer.send(TINY)
        rig.until(lambda count=kept: len(session.held) == count or stream.is_full, "kept")  # type: ignore[misc]
        session.is_held = False
        if not stream.is_full:
            rig.exchange(FILLER, FILLER)
    assert rig.sgv.in_use_bytes > MAX_PENDING_BYTES // 2
    # Let go of, they make room again.
    rig.peer.send(TINY)
    while session.held:
        session.answer()
    rig.exchange(b"", TINY * (kept + 1))
