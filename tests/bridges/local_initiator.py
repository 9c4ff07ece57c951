# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of the local door that sends commands as the backend's tests do."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from bridges.exchange import Request
from bridges.local.client import LocalClient, LocalError
from bridges.recovery import Reply
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.initiator import Outcome


class LocalInitiator:
    """A session with a target, whose unit attentions are taken; see ``reserving.Sends``."""

    def __init__(self, path: Path, target: str, label: str = "") -> None:
        self._client = LocalClient.connect(str(path), target, label=label)
        self.name = self._client.initiator_name
        self.take_attentions()

    def __enter__(self) -> LocalInitiator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def take_attentions(self) -> None:
        """Hear all that there is to hear."""
        while self.send(cdbs.TEST_UNIT_READY).status != Status.GOOD:
            pass

    def send(
        self, cdb: bytes, data_out: bytes | None = None, room_bytes: int | None = None
    ) -> Outcome:
        """Send a command and wait for its end."""
        room = None if room_bytes is None else bytearray(room_bytes)
        data_in = None if room is None else memoryview(room)
        payload = None if data_out is None else memoryview(data_out)
        reply = self._client.execute(Request(cdb, data_in, payload))
        return _outcome(reply, b"" if room is None else bytes(room[: reply.data_in_length]))

    def good(
        self, cdb: bytes, data_out: bytes | None = None, room_bytes: int | None = None
    ) -> bytes:
        """Send a command that must end with GOOD; return its data."""
        outcome = self.send(cdb, data_out, room_bytes)
        assert (outcome.status, outcome.sense) == (Status.GOOD, None)
        return outcome.data

    def start(self, cdb: bytes, data_out: bytes) -> int:
        """Send a command; return the tag to wait for."""
        return self._client.submit(self._client.lun, cdb, None, memoryview(data_out))

    def end(self, tag: int) -> Outcome | None:
        """Wait for the end of a command; None where the daemon ended before it."""
        try:
            return _outcome(self._client.wait(tag), b"")
        except LocalError:
            return None


def _outcome(reply: Reply, data: bytes) -> Outcome:
    return Outcome(reply.status, reply.sense, data)
