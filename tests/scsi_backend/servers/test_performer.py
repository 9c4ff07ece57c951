# SPDX-License-Identifier: GPL-2.0-or-later
"""A command of the device server's own, among those of initiators."""

from __future__ import annotations

from dataclasses import replace

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.disk import disk
from scsi_backend.servers.performer import performer_of, run_alone
from scsi_backend.servers.steps import Steps
from scsi_backend.t10.sense import WRITE_PROTECTED
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Pending
from tests.scsi_backend.locking import NEW, join, nexus_of, read, write


def fail() -> Steps:
    """End with an error."""
    yield from ()
    raise CheckCondition(WRITE_PROTECTED)


def test_it_waits_for_what_came_before_and_keeps_out_what_comes_after() -> None:
    vdisk = FaultyVdisk()
    unit = disk(vdisk)
    initiator = join(unit)
    vdisk.is_held, vdisk.immediate_bytes = True, NOT_NOW
    write(initiator, 0, NEW)
    command = Pending(cdbs.TEST_UNIT_READY, None, None).command
    command.nexus = nexus_of(initiator)
    ended: list[int | None] = []

    def flush() -> Steps:
        yield vdisk.sync

    performer = performer_of(command, lambda performer: ended.append(performer.status))
    run_alone(unit, performer, flush(), command)
    late = read(initiator, 0)
    vdisk.release()
    assert (vdisk.names, ended) == (["write_now", "write", "sync"], [])
    vdisk.release_all()
    assert (ended, late.outcome.data) == ([Status.GOOD], NEW)


def test_its_failure_aborts_no_command_of_an_initiator() -> None:
    vdisk = FaultyVdisk()
    unit = disk(vdisk)
    unit.modes.put(replace(unit.control, qerr=1))
    initiator = join(unit)
    vdisk.is_held = True
    flush = initiator.start(cdbs.raw("35000000000000000000"))
    ended: list[Command] = []
    performer = performer_of(flush.command, ended.append)
    run_alone(unit, performer, fail(), flush.command)
    assert [each.sense for each in ended] == [WRITE_PROTECTED]
    vdisk.release()
    assert flush.outcome.status == Status.GOOD
