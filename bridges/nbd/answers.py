# SPDX-License-Identifier: GPL-2.0-or-later
"""The replying half of an NBD session: counts open requests and answers them in one form.

What a request does is the other half's business (``session``).
"""

from __future__ import annotations

import logging
from typing import Protocol

from bridges.buffers import Chunk, Outgoing
from bridges.lun_client import LunClient
from bridges.nbd.errors import error_of
from bridges.nbd.negotiated import Negotiated
from bridges.nbd.replies import REPLIES
from bridges.nbd.requests import Refusal
from bridges.nbd.wire import Command, Error
from bridges.recovery import ScsiError
from scsi_backend.io.located import FileRange

_log = logging.getLogger(__name__)


class Connection(Protocol):
    """The stream, as the session sees it."""

    out: Outgoing
    held_bytes: int
    peer: str

    @property
    def incoming(self) -> Chunk:
        """The chunk in which the received bytes lie."""

    @property
    def send_file_from_bytes(self) -> int | None:
        """From which length on ``commit_with_file`` costs less than a copy; None for never."""

    @property
    def is_full(self) -> bool:
        """Whether no more requests are to be handled for now."""

    def commit(self, chunk: Chunk, start: int, end: int) -> None:
        """Queue a reply reserved in ``out``."""

    def commit_with_file(
        self, chunk: Chunk, start: int, end: int, where: FileRange, length_bytes: int
    ) -> None:
        """Queue a reply reserved in ``out``, and bytes of a file behind it."""

    def put(self, data: bytes) -> None:
        """Queue a short reply."""

    def end(self) -> None:
        """Take no more requests; close when those under way are answered."""


class Answers:
    """Replies to requests, each of which was counted in ``open_requests`` before."""

    def __init__(self, connection: Connection, client: LunClient, negotiated: Negotiated) -> None:
        self._connection = connection
        self._out = connection.out
        self._commit = connection.commit
        self._client = client
        self._form = REPLIES[negotiated.form]
        self._success_bytes = self._form.success_bytes
        self._put_success = self._form.put_success
        self.open_requests = 0
        self._is_ending = False

    def _succeed(self, cookie: int, offset: int) -> None:
        """Reply without data to a request that is done."""
        out = self._out
        start = out.reserve(self._success_bytes)
        chunk = out.chunk
        self._put_success(chunk.view, start, cookie, offset)
        self.open_requests -= 1
        self._commit(chunk, start, start + self._success_bytes)

    def _reply(self, data: bytes) -> None:
        """Send the last bytes of a reply."""
        self.open_requests -= 1
        self._connection.put(data)

    def _refuse(self, cookie: int, offset: int, refusal: Refusal) -> None:
        """Reply to a request that is not carried out."""
        _log.debug("%s: refused: %s: %s", self._connection.peer, refusal.text, refusal.error.name)
        self._reply(self._form.failure(cookie, offset, refusal.error, refusal.text))

    def _fail(
        self,
        command: Command,
        cookie: int,
        offset: int,
        failure: ScsiError,
        error_offset: int | None = None,
    ) -> None:
        """Reply to a request whose command failed for good."""
        # A reply that has too little data is no error of the table's.
        error = error_of(failure.reply, command) or Error.EIO
        if self._client.is_barred:
            # Requests made for one block size are nothing for the other: the client has to leave,
            # and may come back to learn the new one.
            error = Error.ESHUTDOWN
            self._end()
        text = str(failure)
        name = self._client.nexus.unit.name
        self._client.failures.log(f"{self._connection.peer}: {name}: {text}: {error.name}")
        self._reply(self._form.failure(cookie, offset, error, text, error_offset))

    def _end(self) -> None:
        if not self._is_ending:
            self._is_ending = True
            text = "closing: the LUN leads to a device with blocks of another size"
            _log.warning("%s: %s", self._connection.peer, text)
            self._connection.end()
