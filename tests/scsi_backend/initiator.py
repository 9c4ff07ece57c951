# SPDX-License-Identifier: GPL-2.0-or-later
"""An initiator for tests: sends CDBs through a session and sees that each ends exactly once."""

from __future__ import annotations

from dataclasses import dataclass

from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.command import Command
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.sense import FieldPointer, Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    status: int
    sense: Sense | None
    data: bytes


class Pending:
    """A command that was sent, perhaps not yet ended."""

    def __init__(self, cdb: bytes, data_out: bytes | None, room_bytes: int | None) -> None:
        self.completions = 0
        self.buffer = None if room_bytes is None else bytearray(room_bytes)
        self.command = Command(
            cdb,
            None if self.buffer is None else memoryview(self.buffer),
            None if data_out is None else memoryview(data_out),
            self._count,
        )

    def _count(self, command: Command) -> None:
        self.completions += 1

    @property
    def is_done(self) -> bool:
        """Whether the command has ended."""
        return self.completions > 0

    @property
    def outcome(self) -> Outcome:
        """How the command ended, which it must have, once."""
        assert self.completions == 1
        command = self.command
        assert command.status is not None
        length = command.data_in_length
        if self.buffer is None:
            assert length == 0
            return Outcome(command.status, command.sense, b"")
        return Outcome(command.status, command.sense, bytes(self.buffer[:length]))


class Initiator:
    """One session's commands to one LUN."""

    def __init__(self, session: Session, lun: int = 0) -> None:
        self.session = session
        self.lun = lun

    def start(
        self, cdb: bytes, data_out: bytes | None = None, room_bytes: int | None = None
    ) -> Pending:
        """Send a command, which need not end at once."""
        pending = Pending(cdb, data_out, room_bytes)
        self.session.submit(self.lun, pending.command)
        return pending

    def send(
        self, cdb: bytes, data_out: bytes | None = None, room_bytes: int | None = None
    ) -> Outcome:
        """Send a command that must end at once."""
        return self.start(cdb, data_out, room_bytes).outcome

    def good(
        self, cdb: bytes, data_out: bytes | None = None, room_bytes: int | None = None
    ) -> bytes:
        """Send a command that must end at once with GOOD; return its data."""
        outcome = self.send(cdb, data_out, room_bytes)
        assert (outcome.status, outcome.sense) == (Status.GOOD, None)
        return outcome.data


def connect_unit(unit: LogicalUnit, *, is_read_only: bool = False) -> Initiator:
    """A session on a target of its own, with the unit as LUN 0; unit attentions are still there."""
    target = Target("scst_local", "target", 1)
    target.add_lun(0, LunEntry(unit, is_read_only))
    target.is_enabled = True
    return Initiator(target.open_session("initiator"))


def connect(vdisk: Vdisk, *, is_read_only: bool = False) -> Initiator:
    """As ``connect_unit``, to a new unit, with the power-on unit attention taken."""
    initiator = connect_unit(disk(vdisk), is_read_only=is_read_only)
    outcome = initiator.send(cdbs.TEST_UNIT_READY)
    assert_check_condition(outcome, "06/29/00")
    return initiator


def assert_check_condition(
    outcome: Outcome,
    expected: str,
    *,
    at: tuple[int, int | None] | None = None,
    in_cdb: bool = True,
    information: int | None = None,
    deferred: bool = False,
    progress: int | None = None,
) -> None:
    """The command ended with CHECK CONDITION and exactly this sense: "key/asc/ascq" in hex.

    ``at`` is the (byte, bit) of the field pointer.
    """
    key, asc, ascq = bytes.fromhex(expected.replace("/", ""))
    pointer = None if at is None else FieldPointer(*at, in_cdb)
    assert outcome == Outcome(
        Status.CHECK_CONDITION,
        Sense(key, asc << 8 | ascq, information, pointer, deferred, progress),
        b"",
    )
