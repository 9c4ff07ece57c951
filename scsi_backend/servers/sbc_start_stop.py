# SPDX-License-Identifier: GPL-2.0-or-later
"""START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL (SBC-4 5.31, 5.15).

On a removable device LOEJ ejects and loads the medium, for all nexuses. There is nothing that could
spin down, so everything else is a flush.

Deviation: START=0 without LOEJ leaves the unit ready, as SCST's does; SBC-4 has it answer 02/04/02
until START=1. A device has several doors here, and the clients of the NBD door know no START. For
the same reason, and as SCST, each power condition is taken, reserved ones too, and ends at once.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.errors import write_sense
from scsi_backend.servers.logical_unit import CommandRow, Layer, LogicalUnit, Restriction
from scsi_backend.servers.performer import performer_of, run_alone
from scsi_backend.servers.sbc_medium import flush
from scsi_backend.servers.steps import Steps
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import cdb_medium as medium_fields
from scsi_backend.t10 import sense
from scsi_backend.t10.opcodes import Opcode

# What a logical unit does without a medium; every other command needs one.
WITHOUT_MEDIUM: Final = frozenset(
    {
        Opcode.REQUEST_SENSE,
        Opcode.INQUIRY,
        Opcode.MODE_SELECT_6,
        Opcode.RESERVE_6,
        Opcode.RELEASE_6,
        Opcode.MODE_SENSE_6,
        Opcode.START_STOP_UNIT,
        Opcode.RECEIVE_DIAGNOSTIC_RESULTS,
        Opcode.PREVENT_ALLOW_MEDIUM_REMOVAL,
        Opcode.WRITE_BUFFER,
        Opcode.READ_BUFFER,
        Opcode.LOG_SELECT,
        Opcode.LOG_SENSE,
        Opcode.MODE_SELECT_10,
        Opcode.RESERVE_10,
        Opcode.RELEASE_10,
        Opcode.MODE_SENSE_10,
        Opcode.PERSISTENT_RESERVE_IN,
        Opcode.PERSISTENT_RESERVE_OUT,
        Opcode.RECEIVE_COPY_RESULTS,
        Opcode.REPORT_LUNS,
        Opcode.MAINTENANCE_IN,
        Opcode.MAINTENANCE_OUT,
    }
)


def _no_medium(command: Command) -> None:
    command.check_condition(sense.MEDIUM_NOT_PRESENT)


NO_MEDIUM: Final = Restriction(lambda row: row.opcode not in WITHOUT_MEDIUM, _no_medium)


def start_stop_unit(unit: LogicalUnit, command: Command) -> None:
    """START STOP UNIT: eject, load, or flush."""
    cdb = command.cdb
    is_start = bool(medium_fields.START.read(cdb))
    # SBC-4 5.31: a power condition makes a device ignore START and LOEJ.
    if fields.POWER_CONDITION.read(cdb):
        _flush(unit, command)
    elif fields.LOEJ.read(cdb):
        if not unit.vdisk.is_removable:
            raise CheckCondition(fields.LOEJ.invalid())
        if is_start:
            _load(unit, command)
        else:
            _eject(unit, command)
    elif is_start and not unit.medium.is_present:
        raise CheckCondition(sense.MEDIUM_NOT_PRESENT)
    else:
        _flush(unit, command)


def _flush(unit: LogicalUnit, command: Command) -> None:
    if fields.NO_FLUSH.read(command.cdb):
        command.complete()
    else:
        is_immediate = bool(fields.START_STOP_IMMED.read(command.cdb))
        flush(unit, command, 0, is_immediate=is_immediate)


def _load(unit: LogicalUnit, command: Command) -> None:
    if not unit.medium.is_present:
        # A locked tray neither opens nor closes; iscsi-test-cu asks for it.
        _check_removal(unit)
        _insert(unit, but=command.nexus)
    command.complete()


def _eject(unit: LogicalUnit, command: Command) -> None:
    cdb = command.cdb
    if not unit.medium.is_present:
        command.complete()
        return
    _check_removal(unit)
    # Before the flush, which waits for what came earlier: so nothing is written behind it.
    unit.medium.is_present = False
    unit.restrict(Layer.MEDIUM, NO_MEDIUM)
    is_immediate = bool(fields.START_STOP_IMMED.read(cdb))
    steps = _flush_ejected(unit, is_wanted=not fields.NO_FLUSH.read(cdb))
    performer = performer_of(command, partial(_ejected, unit, None if is_immediate else command))
    run_alone(unit, performer, steps, command)
    if is_immediate:
        command.complete()


def _flush_ejected(unit: LogicalUnit, *, is_wanted: bool) -> Steps:
    if is_wanted:
        result = yield unit.vdisk.sync
        if result < 0:
            raise CheckCondition(write_sense(result, 0))


def _ejected(unit: LogicalUnit, command: Command | None, performer: Command) -> None:
    """End the command, if it still waits; a medium that could not be flushed is back."""
    failure = performer.sense
    if failure is not None:
        _insert(unit, but=performer.nexus)
    if command is None:
        if failure is not None:
            performer.nexus.defer_error(failure.as_deferred())
    elif failure is None:
        command.complete()
    else:
        command.check_condition(failure)


def _check_removal(unit: LogicalUnit) -> None:
    if unit.medium.is_removal_prevented:
        raise CheckCondition(sense.MEDIUM_REMOVAL_PREVENTED)


def _insert(unit: LogicalUnit, *, but: object) -> None:
    """Have the medium in again; those who did not see to it hear of it."""
    if unit.medium.is_present:
        return
    unit.medium.is_present = True
    unit.restrict(Layer.MEDIUM, None)
    unit.raise_unit_attention(sense.MEDIUM_MAY_HAVE_CHANGED, but=but)


_ALLOW, _PREVENT = 0, 1


def prevent_allow(unit: LogicalUnit, command: Command) -> None:
    """PREVENT ALLOW MEDIUM REMOVAL, for the nexus by which it came; 1xb are obsolete."""
    prevent = medium_fields.PREVENT.read(command.cdb)
    if prevent not in (_ALLOW, _PREVENT):
        raise CheckCondition(medium_fields.PREVENT.invalid())
    if prevent == _PREVENT:
        unit.medium.prevent_removal(command.nexus)
    else:
        unit.medium.allow_removal(command.nexus)
    command.complete()


START_STOP_COMMANDS = (
    CommandRow(Opcode.START_STOP_UNIT, lambda unit: partial(start_stop_unit, unit)),
    CommandRow(Opcode.PREVENT_ALLOW_MEDIUM_REMOVAL, lambda unit: partial(prevent_allow, unit)),
)
