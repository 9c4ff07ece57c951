# SPDX-License-Identifier: GPL-2.0-or-later
"""Every protocol's sessions are what a stream expects: mypy holds these lines to it."""

from __future__ import annotations

import pytest

from bridges.local.hello import Hello
from bridges.local.session import CommandSession
from bridges.nbd.handshake import Handshake
from bridges.nbd.session import TransmissionSession
from bridges.stream_session import PeerError, Session

SESSIONS: tuple[type[Session], ...] = (Handshake, TransmissionSession, Hello, CommandSession)


@pytest.mark.parametrize("kind", SESSIONS)
def test_sessions_have_what_a_stream_calls(kind: type[Session]) -> None:
    for name in ("receive", "direct_received", "closed"):
        assert callable(getattr(kind, name))


def test_a_peers_error_says_how_it_broke_the_protocol() -> None:
    assert str(PeerError("wrong magic")) == "wrong magic"
