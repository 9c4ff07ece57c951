# SPDX-License-Identifier: GPL-2.0-or-later
"""SEND DIAGNOSTIC (SPC-5 6.42): the default self-test, and the form that asks for nothing."""

from __future__ import annotations

from functools import partial

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import FAILED_SELF_TEST


def send_diagnostic(unit: LogicalUnit, command: Command) -> None:
    """SEND DIAGNOSTIC; there are no self-tests in the background and no diagnostic pages."""
    cdb = command.cdb
    for field in (fields.SELF_TEST_CODE, fields.SEND_DIAGNOSTIC_PARAMETER_LIST_LENGTH):
        if field.read(cdb):
            raise CheckCondition(field.invalid())
    if fields.SELFTEST.read(cdb):
        run_steps(command, _self_test(unit))
    else:
        command.complete()


def _self_test(unit: LogicalUnit) -> Steps:
    """Read the first and the last block, which a backing store cut short does not have."""
    buffer = memoryview(bytearray(unit.vdisk.block_size_bytes))
    for lba in (0, unit.block_count - 1):
        result = yield partial(unit.vdisk.read, buffer, max(lba, 0) << unit.block_shift)
        if result < len(buffer):
            raise CheckCondition(FAILED_SELF_TEST)


DIAGNOSTIC_COMMANDS = (
    CommandRow(Opcode.SEND_DIAGNOSTIC, lambda unit: partial(send_diagnostic, unit)),
)
