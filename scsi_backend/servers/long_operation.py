# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations on all of a medium, which keep a logical unit from being used until they end.

FORMAT UNIT (SBC-4 5.4) and SANITIZE (SBC-4 4.11) go on when the command that began them has got
its status (IMMED) or is aborted, when its initiator has left, and over resets. While one is under
way, and after it has failed, most commands end with its sense data, which REQUEST SENSE gives as
well. Commands that came before the operation end before it touches the medium.

An operation ends with the process: it is not taken up again at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, Layer, LogicalUnit, Restriction
from scsi_backend.servers.performer import performer_of, run_alone
from scsi_backend.servers.steps import Steps
from scsi_backend.t10.opcodes import Opcode, opcode_text
from scsi_backend.t10.sense import Sense, in_progress
from scsi_backend.t10.status import Status

_log = logging.getLogger(__name__)

# SBC-4 4.11.2, 5.4.1: what is answered as ever.
SERVED_MEANWHILE = frozenset({Opcode.INQUIRY, Opcode.REPORT_LUNS, Opcode.REQUEST_SENSE})


@dataclass(frozen=True, slots=True)
class OperationKind:
    """What others are told of an operation.

    ``in_progress`` ends commands while it is under way. If it fails, its own command ends with
    ``failed``, and those that ``is_refused_after_failure`` with ``after_failure``.
    """

    in_progress: Sense
    failed: Sense
    after_failure: Sense
    is_refused_after_failure: Callable[[CommandRow], bool]


class LongOperation:
    """One such operation of a logical unit: how far it is, and whether it has failed.

    ``total_bytes`` is what its steps will count with ``advance``. ``allows_exit``: a failure may be
    left without a success (AUSE of SANITIZE).
    """

    def __init__(
        self,
        unit: LogicalUnit,
        kind: OperationKind,
        total_bytes: int,
        *,
        allows_exit: bool = False,
    ) -> None:
        self.kind = kind
        self.allows_exit = allows_exit
        self.is_failed = False
        self._unit = unit
        self._done_bytes = 0
        self._total_bytes = total_bytes
        self._is_stopped = False
        # What still waits for the operation to end.
        self._command: Command | None = None

    @property
    def sense(self) -> Sense:
        """What commands that are refused end with, and REQUEST SENSE tells."""
        if self.is_failed:
            return self.kind.after_failure
        return in_progress(self.kind.in_progress, self._done_bytes, self._total_bytes)

    def advance(self, done_bytes: int) -> None:
        """Count what has been done; raises CheckCondition where the operation is to stop."""
        self._done_bytes += done_bytes
        if self._is_stopped:
            raise CheckCondition(self.kind.failed)

    def stop(self) -> None:
        """Let the operation fail after the storage operation that it waits for."""
        self._is_stopped = True

    def begin(self, command: Command, steps: Steps, *, is_immediate: bool) -> None:
        """Run ``steps`` over the unit, then end the command; ``is_immediate`` ends it before.

        Raises CheckCondition where another operation is under way, which began while the command
        waited for its turn.
        """
        unit = self._unit
        if unit.operation is not None and not unit.operation.is_failed:
            raise CheckCondition(unit.operation.sense)
        unit.operation = self
        unit.restrict(Layer.OPERATION, Restriction(_is_refused_meanwhile, self._refuse))
        if not unit.vdisk.keeps_data:
            steps.close()
            steps = _no_steps()
        self._command = None if is_immediate else command
        self.performer = performer_of(command, self._ended)
        run_alone(unit, self.performer, steps, command)
        if is_immediate:
            command.complete()

    def abandon(self, aborted: Collection[Command]) -> None:
        """End the operation's command, if it is among these, but not the operation."""
        command = self._command
        if command is not None and command in aborted:
            self._command = None
            command.complete(Status.TASK_ABORTED)

    def _ended(self, performer: Command) -> None:
        unit, command, cause = self._unit, self._command, performer.sense
        self._command = None
        if cause is None:
            self.leave()
        else:
            how = "stopped, and will not go on" if self._is_stopped else f"failed: {cause}"
            _log.error("%s: %s %s", unit.name, opcode_text(performer.cdb), how)
            self.is_failed = True
            refusal = Restriction(self.kind.is_refused_after_failure, self._refuse)
            unit.restrict(Layer.OPERATION, refusal)
        if command is None:
            if cause is not None:
                performer.nexus.defer_error(self.kind.failed.as_deferred())
        elif cause is None:
            command.complete()
        else:
            command.check_condition(self.kind.failed)

    def leave(self) -> None:
        """Let all commands be executed again."""
        self._unit.operation = None
        self._unit.restrict(Layer.OPERATION, None)

    def _refuse(self, command: Command) -> None:
        command.check_condition(self.sense)


def _is_refused_meanwhile(row: CommandRow) -> bool:
    return row.opcode not in SERVED_MEANWHILE


def _no_steps() -> Steps:
    yield from ()
