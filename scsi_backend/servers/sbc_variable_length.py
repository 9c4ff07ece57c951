# SPDX-License-Identifier: GPL-2.0-or-later
"""The 32-byte forms of block commands: opcode 7Fh, each with a service action (SBC-4 5).

SBC-4 has them for units with type 2 protection only, whose tags they carry. A device with
``long_cdbs`` deviates: they do what the shorter forms do, with RDPROTECT, WRPROTECT and VRPROTECT
of zero, and ignore the tags.
"""

from __future__ import annotations

from collections.abc import Callable

from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import bind_read, bind_write
from scsi_backend.servers.sbc_verify import bind_verify, bind_write_and_verify
from scsi_backend.servers.sbc_write_atomic import bind_write_atomic, has_write_atomic
from scsi_backend.servers.sbc_write_same import bind_write_same
from scsi_backend.t10.cdb_block import (
    ADDITIONAL_CDB_LENGTH,
    ATOMIC_BOUNDARY_32,
    LENGTH_32,
    RANGE_32,
    blocks_32,
)
from scsi_backend.t10.opcodes import Opcode, VariableLength

Bind = Callable[[LogicalUnit], Execute]

_ADDITIONAL_BYTES = LENGTH_32 - 8


def _bind_whole(bind: Bind) -> Bind:
    """Refuse a CDB that has not, or does not say that it has, the 32 bytes that are to be read."""

    def bind_checked(unit: LogicalUnit) -> Execute:
        execute_whole = bind(unit)

        def execute(command: Command) -> None:
            cdb = command.cdb
            if len(cdb) < LENGTH_32 or ADDITIONAL_CDB_LENGTH.read(cdb) != _ADDITIONAL_BYTES:
                raise CheckCondition(ADDITIONAL_CDB_LENGTH.invalid())
            execute_whole(command)

        return execute

    return bind_checked


def _has_long_cdbs(vdisk: Vdisk) -> bool:
    return vdisk.has_long_cdbs


def _has_long_write_atomic(vdisk: Vdisk) -> bool:
    return vdisk.has_long_cdbs and has_write_atomic(vdisk)


def _reads(action: VariableLength, bind: Bind) -> CommandRow:
    return CommandRow(
        Opcode.VARIABLE_LENGTH,
        _bind_whole(bind),
        service_action=action,
        blocks_of=blocks_32,
        is_supported=_has_long_cdbs,
    )


def _writes(action: VariableLength, bind: Bind) -> CommandRow:
    return CommandRow(
        Opcode.VARIABLE_LENGTH,
        _bind_whole(bind),
        service_action=action,
        writes_medium=True,
        blocks_of=blocks_32,
        is_supported=_has_long_cdbs,
    )


VARIABLE_LENGTH_COMMANDS = (
    _reads(VariableLength.READ_32, bind_read(RANGE_32)),
    _reads(VariableLength.VERIFY_32, bind_verify(RANGE_32)),
    _writes(VariableLength.WRITE_32, bind_write(RANGE_32)),
    _writes(VariableLength.WRITE_AND_VERIFY_32, bind_write_and_verify(RANGE_32)),
    _writes(VariableLength.WRITE_SAME_32, bind_write_same(RANGE_32)),
    CommandRow(
        Opcode.VARIABLE_LENGTH,
        _bind_whole(bind_write_atomic(RANGE_32, ATOMIC_BOUNDARY_32)),
        service_action=VariableLength.WRITE_ATOMIC_32,
        writes_medium=True,
        blocks_of=blocks_32,
        is_atomic=True,
        is_supported=_has_long_write_atomic,
    ),
)
