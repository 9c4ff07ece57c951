# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that take several storage operations, written as generators.

The generator yields an operation that wants only its ``done`` callback, and is resumed with the
result: a byte count or a negated errno.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from scsi_backend.io.engine import Done
from scsi_backend.io.trampoline import Trampoline
from scsi_backend.servers.command import CheckCondition, Command

Steps = Generator[Callable[[Done], None], int, None]


def run_steps(command: Command, steps: Steps) -> None:
    """Run ``steps`` to their end, then complete the command with GOOD.

    A ``CheckCondition`` raised by the generator ends it with that sense data instead.
    """

    def finish(nothing: None) -> None:
        command.complete()

    def fail(failure: CheckCondition) -> None:
        command.check_condition(failure.sense)

    Trampoline(steps, _begin, finish, CheckCondition, fail).start()


def _begin(operation: Callable[[Done], None], done: Done) -> None:
    operation(done)
