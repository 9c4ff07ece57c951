# SPDX-License-Identifier: GPL-2.0-or-later
"""START STOP UNIT (SBC-4 5.31): as SCST, a flush. There is nothing that could spin down."""

from __future__ import annotations

from functools import partial

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_medium import flush
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10.mode_pages import PowerCondition
from scsi_backend.t10.opcodes import Opcode

_POWER_CONDITIONS = frozenset(PowerCondition)


def start_stop_unit(unit: LogicalUnit, command: Command) -> None:
    """START STOP UNIT: whatever condition it asks for, the next command is served at once."""
    cdb = command.cdb
    # There is no medium to load or eject.
    if fields.LOEJ.read(cdb):
        raise CheckCondition(fields.LOEJ.invalid())
    if fields.POWER_CONDITION.read(cdb) not in _POWER_CONDITIONS:
        raise CheckCondition(fields.POWER_CONDITION.invalid())
    if fields.NO_FLUSH.read(cdb):
        command.complete()
    else:
        flush(unit, command, 0, is_immediate=bool(fields.START_STOP_IMMED.read(cdb)))


START_STOP_COMMANDS = (
    CommandRow(Opcode.START_STOP_UNIT, lambda unit: partial(start_stop_unit, unit)),
)
