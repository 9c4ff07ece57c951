# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stream connection expects of the protocol that is spoken on it."""

from __future__ import annotations

from typing import Protocol


class PeerError(Exception):
    """The peer broke the protocol in a way that ends the connection; says how."""


class Session(Protocol):
    """The protocol of one connection, without the socket."""

    receive_limit_bytes: int
    """How much to receive at most, where the session would rather see a payload's header first."""

    direct: memoryview | None
    """Memory into which the next bytes are to be received; set while handling a message."""

    def receive(self, data: memoryview) -> int:
        """Handle the whole messages in ``data``; return how many bytes they took.

        Raises PeerError.
        """

    def direct_received(self) -> None:
        """``direct`` is full; the session has set it to None or to the next piece of memory."""

    @property
    def open_requests(self) -> int:
        """Requests that have not been answered."""

    @property
    def wants_close(self) -> bool:
        """Whether the connection is to end once everything is answered and sent."""

    def closed(self) -> None:
        """The connection is gone and no request is outstanding."""
