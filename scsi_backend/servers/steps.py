# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that take several storage operations, written as generators.

The generator yields an operation that wants only its ``done`` callback, and is resumed with the
result: a byte count or a negated errno.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator

from scsi_backend.io.engine import Done
from scsi_backend.io.trampoline import Trampoline
from scsi_backend.servers.command import CheckCondition, Command, OtherStatus
from scsi_backend.t10.opcodes import opcode_text
from scsi_backend.t10.sense import INTERNAL_TARGET_FAILURE, Sense
from scsi_backend.t10.status import Status

_log = logging.getLogger(__name__)

Steps = Generator[Callable[[Done], None], int, None]


def run_steps(command: Command, steps: Steps) -> None:
    """Run ``steps`` to their end, then complete the command with GOOD.

    A ``CheckCondition`` raised by the generator ends it with that sense data instead, an
    ``OtherStatus`` with that status, and an error in the generator with INTERNAL TARGET FAILURE.
    """

    def ended(failure: Sense | None) -> None:
        if failure is None:
            command.complete()
        else:
            command.check_condition(failure)

    perform(command.cdb, steps, ended, command.complete)


def perform(
    cdb: bytes,
    steps: Steps,
    ended: Callable[[Sense | None], None],
    ended_otherwise: Callable[[Status], None] | None = None,
) -> None:
    """Run ``steps`` of a command to their end, then tell what ``run_steps`` would end it with.

    None is GOOD. An ``OtherStatus`` is told to ``ended_otherwise``.
    """

    def finish(nothing: None) -> None:
        ended(None)

    def fail(failure: Exception) -> None:
        if isinstance(failure, CheckCondition):
            ended(failure.sense)
        elif isinstance(failure, OtherStatus) and ended_otherwise is not None:
            ended_otherwise(failure.status)
        else:
            # Nobody else would end the command once it has waited.
            _log.error("%s failed", opcode_text(cdb), exc_info=failure)
            ended(INTERNAL_TARGET_FAILURE)

    Trampoline(steps, _begin, finish, Exception, fail).start()


def _begin(operation: Callable[[Done], None], done: Done) -> None:
    operation(done)
