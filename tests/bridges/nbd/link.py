# SPDX-License-Identifier: GPL-2.0-or-later
"""A transmission session between a test and a disk in memory, with no socket anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridges.nbd.negotiated import Negotiated
from bridges.nbd.session import TransmissionSession
from tests.bridges.nbd import proto
from tests.bridges.nbd.fakes import ManualClock, MemoryConnection, OpenLun, open_lun
from tests.scsi_backend.fakes import FaultyVdisk

DISTINCT_BLOCKS = FaultyVdisk().fill()

# A client that was told the block sizes and uses nothing else that is new.
OBEDIENT = Negotiated(knows_block_sizes=True)

Answer = tuple[int, int, bytes]


@dataclass
class Link:
    """``send`` requests, take ``answers``; ``vdisk``, ``unit`` and ``clock`` obey the test."""

    vdisk: FaultyVdisk
    lun: OpenLun
    connection: MemoryConnection
    session: TransmissionSession
    closed: list[str]
    read_lengths: dict[int, int] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        vdisk: FaultyVdisk | None = None,
        *,
        is_read_only: bool = False,
        negotiated: Negotiated = OBEDIENT,
    ) -> Link:
        """Begin transmission on a disk; without one, on 1024 blocks of 512 bytes, all different."""
        if vdisk is None:
            vdisk = FaultyVdisk()
            vdisk.data[:] = DISTINCT_BLOCKS
        lun = open_lun(vdisk, is_read_only=is_read_only)
        connection = MemoryConnection()
        closed: list[str] = []
        session = TransmissionSession(
            connection, lun.client, connection.sgv, lambda: closed.append("closed"), negotiated
        )
        return cls(vdisk, lun, connection, session, closed)

    def send(self, *messages: bytes) -> None:
        """Feed messages in one piece."""
        self.connection.feed(self.session, b"".join(messages))

    def read(self, cookie: int, offset: int, length: int, flags: int = 0) -> bytes:
        """A READ request, whose reply ``answers`` can then take apart."""
        self.read_lengths[cookie] = length
        return proto.request(proto.READ, cookie, offset, length, flags)

    def answers(self) -> list[Answer]:
        """The replies since the last call, as (cookie, error, data)."""
        return proto.parse_replies(self.connection.replies(), self.read_lengths)

    def errors(self) -> list[tuple[int, int]]:
        """The same without data: (cookie, error)."""
        return [(cookie, error) for cookie, error, _ in self.answers()]

    def ask(self, *messages: bytes) -> list[tuple[int, int]]:
        """Send, and take (cookie, error) of what was answered at once."""
        self.send(*messages)
        return self.errors()

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
        self.session.closed()
        self.connection.close()
        assert self.closed == ["closed"]
        assert self.connection.sgv.in_use == set()
