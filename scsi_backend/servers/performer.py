# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands of the device server's own, which no initiator knows of.

What a command begins, and what may outlive it, needs one that stands for it where commands wait for
each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.steps import Steps, perform
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status


def performer_of(command: Command, ended: Callable[[Command], None]) -> Command:
    """Return one that does what a command wants; ``ended`` finds the failure in its ``sense``."""
    performer = Command(command.cdb, None, None, ended)
    performer.nexus = command.nexus
    return performer


def run_alone(unit: LogicalUnit, performer: Command, steps: Steps, command: Command) -> None:
    """Run ``steps`` when those before ``command`` have ended, and keep others out meanwhile."""
    unit.lock.run_alone(partial(_perform, steps), performer, command)


def _perform(steps: Steps, performer: Command) -> None:
    def ended(failure: Sense | None) -> None:
        # Not with ``check_condition``, by which QERR would abort commands of the initiator's.
        performer.complete(Status.GOOD if failure is None else Status.CHECK_CONDITION, failure)

    perform(performer.cdb, steps, ended)
