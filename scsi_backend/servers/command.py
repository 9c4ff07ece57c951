# SPDX-License-Identifier: GPL-2.0-or-later
"""A SCSI command on its way through a device server, and how it ends.

Whoever submits a command owns its buffers: ``data_in`` is the memory that will go on the wire, and
the device server reads the medium straight into it. A command may complete before ``submit``
returns, or later on the same thread; ``on_done(command)`` tells either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from scsi_backend.io.located import Located
from scsi_backend.io.scatter import Buffer
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status


class CheckCondition(Exception):
    """Ends the command being executed with CHECK CONDITION and this sense data."""

    def __init__(self, sense: Sense) -> None:
        super().__init__(str(sense))
        self.sense = sense


class OtherStatus(Exception):
    """Ends a command of several steps with a status that brings no sense data."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


class Nexus(Protocol):
    """What a device server may know and do about the I_T_L nexus of a command."""

    outstanding: set[Command]
    # Those of them that end with TASK ABORTED, whatever became of them.
    aborted: set[Command]

    @property
    def id(self) -> ItNexusId:
        """Which I_T nexus this is, over all of its sessions."""

    @property
    def is_read_only(self) -> bool:
        """Whether writes through this nexus are refused for as long as it lasts."""

    @property
    def is_write_protected(self) -> bool:
        """Whether writes through this nexus are refused now: read-only, or SWP."""

    @property
    def uses_descriptor_sense(self) -> bool:
        """Whether sense data goes out in descriptor format (D_SENSE)."""

    @property
    def relative_target_port(self) -> int:
        """The relative target port identifier through which the command came."""

    def take_unit_attention(self) -> Sense | None:
        """Remove and return the oldest pending unit attention or deferred error."""

    def clear_unit_attention(self, sense: Sense) -> None:
        """Forget a pending unit attention on every LUN of this session."""

    def defer_error(self, sense: Sense) -> None:
        """Report the error of a command that already got GOOD with the next one."""

    def faulted(self, command: Command, sense: Sense) -> None:
        """Hear that a command is about to end with CHECK CONDITION."""

    def reported_luns(self) -> Sequence[int]:
        """The LUNs that this session can reach, ascending."""

    def reachable_units(self) -> Sequence[Reachable]:
        """This session's way to each of those LUNs; none when the session has ended."""


class Reachable(Protocol):
    """A logical unit that the initiator of a command can send commands to.

    A device server that copies for the initiator uses it, so that whatever restricts the
    initiator there restricts the copy.
    """

    @property
    def is_write_protected(self) -> bool:
        """Whether writes through this nexus are refused."""

    def submit_within(self, command: Command) -> None:
        """Execute a command that is part of one whose turn in its task set has come already."""


class Command:
    """One CDB with its buffers, and after completion its status.

    ``data_in`` is writable memory of the initiator's allocation length, ``data_out`` what the
    initiator sent; ``data_in_length`` says how much of ``data_in`` holds data once complete.
    Between submission and completion ``on_done`` is not the submitter's to change. ``data_in`` is,
    until a device server has asked for ``lasting`` memory, and ``data_out`` until it has asked for
    ``lasting_out``. One that its nexus has ``aborted`` ends with TASK ABORTED.
    """

    __slots__ = (
        "cdb",
        "data_in",
        "data_in_length",
        "data_out",
        "is_deferred",
        "nexus",
        "on_done",
        "sense",
        "status",
    )

    nexus: Nexus

    def __init__(
        self,
        cdb: bytes,
        data_in: Buffer | None,
        data_out: Buffer | None,
        on_done: Callable[[Command], None],
    ) -> None:
        self.cdb = cdb
        self.data_in = data_in
        self.data_out = data_out
        self.on_done = on_done
        self.data_in_length = 0
        self.status: int | None = None
        self.sense: Sense | None = None
        self.is_deferred = False

    def renew(self, on_done: Callable[[Command], None]) -> None:
        """Make a completed command ready to be submitted once more."""
        self.on_done = on_done
        self.data_in_length = 0
        self.status = None
        self.sense = None
        self.is_deferred = False

    def lasting(self, view: Buffer, moved_bytes: int) -> Buffer:
        """Return memory for the data of a READ that goes on after ``submit`` has returned.

        ``view`` is part of ``data_in`` and has ``moved_bytes`` of the data; so has what is
        returned.
        """
        return view

    def lasting_out(self, view: Buffer) -> Buffer:
        """Return memory with the data of a WRITE that goes on after ``submit`` has returned.

        ``view`` is all of ``data_out`` that the command writes.
        """
        return view

    def complete(self, status: Status = Status.GOOD, sense: Sense | None = None) -> None:
        """End the command; to be called exactly once."""
        self.status = status
        self.sense = sense
        if self.is_deferred:
            nexus = self.nexus
            nexus.outstanding.discard(self)
            if self in nexus.aborted:
                nexus.aborted.discard(self)
                self.status, self.sense, self.data_in_length = Status.TASK_ABORTED, None, 0
        self.on_done(self)

    def check_condition(self, sense: Sense) -> None:
        """End the command with CHECK CONDITION, and others with it where QERR says so."""
        self.data_in_length = 0
        self.nexus.faulted(self, sense)
        self.complete(Status.CHECK_CONDITION, sense)

    def encoded_sense(self) -> bytes:
        """The sense data in the format that D_SENSE of the control mode page selects; or none."""
        if self.sense is None:
            return b""
        return self.sense.encode(descriptor=self.nexus.uses_descriptor_sense)

    def reply(
        self,
        data: bytes | bytearray,
        allocation_length_bytes: int,
        status: Status = Status.GOOD,
        sense: Sense | None = None,
    ) -> None:
        """End the command with parameter data, truncated to what the initiator has room for."""
        room = len(self.data_in) if self.data_in is not None else 0
        length = min(len(data), allocation_length_bytes, room)
        if self.data_in is not None:
            self.data_in[:length] = data[:length]
        self.data_in_length = length
        self.complete(status, sense)


class ReadByReference(Command):
    """A READ whose submitter can do without a copy of the data.

    It completes with ``located``, or else with data in memory that ``provide`` was asked for.
    """

    __slots__ = ("located",)

    located: Located | None

    def provide(self, length_bytes: int) -> memoryview:
        """Return memory for the data, which cannot be located."""
        raise NotImplementedError


Execute = Callable[[Command], None]
