# SPDX-License-Identifier: GPL-2.0-or-later
"""A transmission session between a test and a disk in memory, with no socket anywhere."""

from __future__ import annotations

from dataclasses import dataclass

from bridges.nbd.negotiated import Negotiated, ReplyForm
from bridges.nbd.session import TransmissionSession
from tests.bridges.nbd.fakes import ManualClock, MemoryConnection, OpenLun, open_lun
from tests.bridges.nbd.forms import BASE_ALLOCATION, Answer, Asked, Form, Transcript, status_request
from tests.bridges.nbd.proto import BLOCK_STATUS, READ, WRITE
from tests.scsi_backend.fakes import FaultyVdisk

DISTINCT_BLOCKS = FaultyVdisk().fill()
FORMS = {
    Form.SIMPLE: ReplyForm.SIMPLE,
    Form.STRUCTURED: ReplyForm.STRUCTURED,
    Form.EXTENDED: ReplyForm.EXTENDED,
}
_CONTEXTS = ((BASE_ALLOCATION, "base:allocation"),)


def negotiated(
    form: Form, *, knows_block_sizes: bool = False, has_contexts: bool = True
) -> Negotiated:
    """What a client of this form agreed on; contexts need more than simple replies."""
    contexts = _CONTEXTS if has_contexts and form is not Form.SIMPLE else ()
    return Negotiated(FORMS[form], contexts, knows_block_sizes)


@dataclass
class Link:
    """``send`` requests, take ``answers``; ``vdisk``, ``unit`` and ``clock`` obey the test."""

    vdisk: FaultyVdisk
    lun: OpenLun
    connection: MemoryConnection
    session: TransmissionSession
    closed: list[str]
    form: Form
    transcript: Transcript

    @classmethod
    def open(
        cls,
        vdisk: FaultyVdisk | None = None,
        *,
        is_read_only: bool = False,
        form: Form = Form.SIMPLE,
        knows_block_sizes: bool = True,
        has_contexts: bool = True,
        can_send_files: bool = False,
    ) -> Link:
        """Begin transmission on a disk; without one, on 1024 blocks of 512 bytes, all different."""
        if vdisk is None:
            vdisk = FaultyVdisk()
            vdisk.data[:] = DISTINCT_BLOCKS
        lun = open_lun(vdisk, is_read_only=is_read_only)
        agreed = negotiated(form, knows_block_sizes=knows_block_sizes, has_contexts=has_contexts)
        return cls.on(lun, vdisk, form, agreed, can_send_files=can_send_files)

    @classmethod
    def on(
        cls,
        lun: OpenLun,
        vdisk: FaultyVdisk,
        form: Form,
        agreed: Negotiated,
        *,
        can_send_files: bool = False,
    ) -> Link:
        """Begin transmission on a LUN that is open already."""
        connection = MemoryConnection()
        connection.send_file_from_bytes = 32 << 10 if can_send_files else None
        closed: list[str] = []
        session = TransmissionSession(
            connection, lun.client, connection.sgv, lambda: closed.append("closed"), agreed
        )
        return cls(vdisk, lun, connection, session, closed, form, Transcript(form))

    def send(self, *messages: bytes) -> None:
        """Feed messages in one piece."""
        self.connection.feed(self.session, b"".join(messages))

    def request(
        self,
        kind: int,
        cookie: int,
        offset: int = 0,
        length: int = 0,
        flags: int = 0,
        payload: bytes = b"",
    ) -> bytes:
        """A request in the form of this link, whose reply ``answers`` can then take apart."""
        self.transcript.ask(cookie, Asked(kind, offset, length, flags))
        return self.form.request(kind, cookie, offset, length, flags, payload)

    def read(self, cookie: int, offset: int, length: int, flags: int = 0) -> bytes:
        """A READ request."""
        return self.request(READ, cookie, offset, length, flags)

    def write(self, cookie: int, offset: int, payload: bytes, flags: int = 0) -> bytes:
        """A WRITE with its payload."""
        return self.request(WRITE, cookie, offset, len(payload), flags, payload)

    def filtered_status(
        self, cookie: int, offset: int, length: int, *ids: int, flags: int = 0
    ) -> bytes:
        """A BLOCK_STATUS with a payload."""
        self.transcript.ask(cookie, Asked(BLOCK_STATUS, offset, length, flags))
        return status_request(cookie, offset, length, *ids, flags=flags)

    def results(self) -> list[Answer]:
        """The answers that came since the last call."""
        return self.transcript.take(self.connection.replies())

    def answers(self) -> list[tuple[int, int, bytes]]:
        """The same as (cookie, error, data); what came before an error is not shown."""
        return [
            (each.cookie, each.error, b"" if each.error else each.data) for each in self.results()
        ]

    def errors(self) -> list[tuple[int, int]]:
        """The same without data: (cookie, error)."""
        return [(cookie, error) for cookie, error, _ in self.answers()]

    def ask(self, *messages: bytes) -> list[tuple[int, int]]:
        """Send, and take (cookie, error) of what was answered at once."""
        self.send(*messages)
        return self.errors()

    def result(self, message: bytes) -> Answer:
        """Send one request, and take the answer that comes at once."""
        self.send(message)
        (answer,) = self.results()
        return answer

    @property
    def clock(self) -> ManualClock:
        """The clock by which commands are tried again."""
        return self.lun.clock

    @property
    def cdbs(self) -> list[str]:
        """What reached the LUN so far, in hex."""
        return self.lun.unit.cdbs

    def close(self) -> None:
        """End the connection: nothing may be open, and all memory must come back."""
        assert self.session.open_requests == 0
        assert self.connection.held_bytes == 0 or self.session.direct is not None
        self.connection.replies()
        assert self.connection.out.used_bytes == 0
        self.session.closed()
        self.connection.close()
        assert self.closed == ["closed"]
        assert self.connection.sgv.in_use == set()
