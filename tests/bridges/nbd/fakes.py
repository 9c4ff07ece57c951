# SPDX-License-Identifier: GPL-2.0-or-later
"""Doubles for what the NBD bridge stands on, all driven by the test.

A logical unit that records its CDBs and fails them on demand, a clock that stands still, memory
that is spoilt when it is given back, and a connection without a socket.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bridges.buffers import Chunk, Outgoing
from bridges.lun_client import LunClient
from bridges.nbd.session import TransmissionSession
from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.io.located import FileRange
from scsi_backend.io.sgv import SgvBuffer
from scsi_backend.servers.command import Command, Execute
from scsi_backend.servers.disk import DISK_COMMANDS
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.sgv import CountingSgv

READ_16, WRITE_16, UNMAP = 0x88, 0x8A, 0x42
SYNCHRONIZE_CACHE_16, PRE_FETCH_16, WRITE_SAME_16 = 0x91, 0x90, 0x93
COMPARE_AND_WRITE = 0x89
_PROBING = frozenset({0x00, 0x12, 0x1A, 0x5A, 0x9E})
_SPOILT = 0xDB


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ends that never reaches the disk."""

    status: Status
    sense: Sense | None = None


BUSY = Ending(Status.BUSY)
RESERVATION_CONFLICT = Ending(Status.RESERVATION_CONFLICT)


def check_condition(text: str) -> Ending:
    """CHECK CONDITION with a sense given as "key/asc/ascq" in hex."""
    key, asc, ascq = bytes.fromhex(text.replace("/", ""))
    return Ending(Status.CHECK_CONDITION, Sense(key, asc << 8 | ascq))


class RecordingUnit(LogicalUnit):
    """A disk that records every CDB; ``endings`` of an opcode are used up before it works."""

    def __init__(self, vdisk: Vdisk) -> None:
        super().__init__(vdisk, DISK_COMMANDS)
        self.seen: list[bytes] = []
        self.endings: dict[int, deque[Ending]] = {}
        self.dispatch = tuple(partial(self._execute, execute) for execute in self.dispatch)

    def fail(self, opcode: int, *endings: Ending) -> None:
        """Let the next commands of one opcode end like this."""
        self.endings.setdefault(opcode, deque()).extend(endings)

    @property
    def cdbs(self) -> list[str]:
        """The CDBs in hex, without those that only ask what the LUN is."""
        return [cdb.hex() for cdb in self.seen if cdb[0] not in _PROBING]

    def _execute(self, execute: Execute, command: Command) -> None:
        self.seen.append(command.cdb)
        endings = self.endings.get(command.cdb[0])
        if endings:
            ending = endings.popleft()
            command.complete(ending.status, ending.sense)
        else:
            execute(command)


class ManualClock:
    """Time that passes only in ``advance``."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        """See ``Clock.time``."""
        return self.now_s

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """See ``Clock.call_later``."""
        self.timers.append((self.now_s + delay, callback))
        return None

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what is due on the way."""
        end_s = self.now_s + seconds
        while due := [timer for timer in self.timers if timer[0] <= end_s]:
            timer = min(due, key=lambda each: each[0])
            self.timers.remove(timer)
            self.now_s = timer[0]
            timer[1]()
        self.now_s = end_s


class SpoilingSgv(CountingSgv):
    """Overwrites what is given back, so that whoever still uses it is found out."""

    def put(self, buffer: SgvBuffer) -> None:
        """See ``SgvCache.put``."""
        buffer.view[:] = bytes((_SPOILT,)) * len(buffer.view)
        super().put(buffer)


class MemoryConnection:
    """Carries bytes between a test and a session as ``Stream`` does, in the strictest way.

    Whatever is fed lies in a chunk of its own, which the connection lets go of at once.
    """

    def __init__(self) -> None:
        self.sgv = SpoilingSgv()
        self.out = Outgoing(self.sgv)
        self.incoming = Chunk(self.sgv, 1)
        self.held_bytes = 0
        self.is_full = False
        self.peer = "test"
        self.send_file_from_bytes: int | None = None
        self.rest = b""
        self.has_ended = False

    def end(self) -> None:
        """See ``session.Connection``."""
        self.has_ended = True

    def commit(self, chunk: Chunk, start: int, end: int) -> None:
        """See ``session.Connection``."""
        self.out.commit(chunk, start, end)

    def commit_with_file(
        self, chunk: Chunk, start: int, end: int, where: FileRange, length_bytes: int
    ) -> None:
        """See ``session.Connection``; the bytes are read at once."""
        self.commit(chunk, start, end)
        self.put(os.pread(where.fd, length_bytes, where.offset_bytes))

    def put(self, data: bytes) -> None:
        """See ``session.Connection``."""
        start = self.out.reserve(len(data))
        chunk = self.out.chunk
        chunk.view[start : start + len(data)] = data
        self.commit(chunk, start, start + len(data))

    def feed(self, session: TransmissionSession, data: bytes) -> None:
        """Give the session bytes as the peer sent them; raises what it raises."""
        while data:
            if session.direct is not None:
                room = len(session.direct)
                piece, data = data[:room], data[room:]
                session.direct[: len(piece)] = piece
                session.direct = session.direct[len(piece) :] if len(piece) < room else None
                if session.direct is None:
                    session.direct_received()
            else:
                data = self._receive(session, data)

    def handle_again(self, session: TransmissionSession) -> None:
        """Offer what the session left."""
        rest, self.rest = self.rest, b""
        self.feed(session, rest)

    def _receive(self, session: TransmissionSession, data: bytes) -> bytes:
        """Show ``data`` behind what was left; return what is for direct memory."""
        limit = session.receive_limit_bytes
        later = b""
        if limit and not self.rest:
            data, later = data[:limit], data[limit:]
        shown = self.rest + data
        self.incoming.release()
        self.incoming = Chunk(self.sgv, len(shown))
        self.incoming.view[: len(shown)] = shown
        used = session.receive(self.incoming.view[: len(shown)])
        self.rest = shown[used:]
        return later

    def replies(self) -> bytes:
        """Take everything that was queued for the peer."""
        taken = b"".join(bytes(view) for view in self.out.views(1 << 30))
        assert len(taken) == self.out.queued_bytes
        self.out.sent(len(taken))
        return taken

    def close(self) -> None:
        """Let go of the memory; what is still in use then was leaked."""
        self.out.close()
        self.incoming.release()


@dataclass(frozen=True, slots=True)
class OpenLun:
    """A LUN as the session has it: looked at, and with nothing of that on record."""

    unit: RecordingUnit
    client: LunClient
    clock: ManualClock
    target: Target


def open_lun(vdisk: Vdisk, *, is_read_only: bool = False) -> OpenLun:
    """Log in to a new LUN and look at it."""
    unit = RecordingUnit(vdisk)
    target = Target("nbd", "disk0", 1)
    target.add_lun(0, LunEntry(unit, is_read_only))
    target.is_enabled = True
    return _log_in(unit, target, "initiator")


def join_lun(lun: OpenLun) -> OpenLun:
    """Log in to the same LUN as somebody else."""
    return _log_in(lun.unit, lun.target, "another")


def _log_in(unit: RecordingUnit, target: Target, initiator: str) -> OpenLun:
    clock = ManualClock()
    client = LunClient(target.open_session(initiator), 0, clock)
    outcomes: list[object] = []
    client.open(outcomes.append)
    assert outcomes == [None]
    unit.seen.clear()
    return OpenLun(unit, client, clock, target)
