# SPDX-License-Identifier: GPL-2.0-or-later
"""SEND DIAGNOSTIC (SPC-5 6.42) and RECEIVE DIAGNOSTIC RESULTS: the default self-test, page 00h."""

from __future__ import annotations

from functools import partial

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import cdb_reports as report_fields
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import FAILED_SELF_TEST, invalid_field_in_parameter_list

_SUPPORTED_PAGES_CODE = 0x00
_ASK_FOR_SUPPORTED_PAGES = bytes(4)
# Page code, reserved, page length, and the one page that there is.
_SUPPORTED_PAGES = bytes((_SUPPORTED_PAGES_CODE, 0, 0, 1, _SUPPORTED_PAGES_CODE))


def send_diagnostic(unit: LogicalUnit, command: Command) -> None:
    """SEND DIAGNOSTIC; there are no self-tests in the background, and no page but 00h."""
    cdb = command.cdb
    if fields.SELF_TEST_CODE.read(cdb):
        raise CheckCondition(fields.SELF_TEST_CODE.invalid())
    length = fields.SEND_DIAGNOSTIC_PARAMETER_LIST_LENGTH.read(cdb)
    if length:
        _check_page(command, length)
    if fields.SELFTEST.read(cdb):
        run_steps(command, _self_test(unit))
    else:
        command.complete()


def _check_page(command: Command, length_bytes: int) -> None:
    """Refuse whatever is not page 00h, which asks for what RECEIVE DIAGNOSTIC RESULTS tells."""
    cdb = command.cdb
    # A self-test takes no page, and a page of the vendor's own format there is none.
    is_page = report_fields.SEND_DIAGNOSTIC_PF.read(cdb) and not fields.SELFTEST.read(cdb)
    if not is_page or length_bytes != len(_ASK_FOR_SUPPORTED_PAGES):
        raise CheckCondition(fields.SEND_DIAGNOSTIC_PARAMETER_LIST_LENGTH.invalid())
    page = data_out_exactly(command, length_bytes)
    if page[0] != _SUPPORTED_PAGES_CODE:
        raise CheckCondition(invalid_field_in_parameter_list(0, 7))
    if page[2] or page[3]:
        raise CheckCondition(invalid_field_in_parameter_list(2, 7))


def receive_diagnostic_results(unit: LogicalUnit, command: Command) -> None:
    """RECEIVE DIAGNOSTIC RESULTS (SPC-5 6.27).

    Without PCV it is about the page of the last SEND DIAGNOSTIC, which can be no other than 00h.
    """
    cdb = command.cdb
    if report_fields.RECEIVE_DIAGNOSTIC_PAGE_CODE.read(cdb) != _SUPPORTED_PAGES_CODE:
        raise CheckCondition(report_fields.RECEIVE_DIAGNOSTIC_PAGE_CODE.invalid())
    allocation_length = report_fields.RECEIVE_DIAGNOSTIC_ALLOCATION_LENGTH.read(cdb)
    command.reply(_SUPPORTED_PAGES, allocation_length)


def _self_test(unit: LogicalUnit) -> Steps:
    """Read the first and the last block, which a backing store cut short does not have."""
    buffer = memoryview(bytearray(unit.vdisk.block_size_bytes))
    for lba in (0, unit.block_count - 1):
        result = yield partial(unit.vdisk.read, buffer, max(lba, 0) << unit.block_shift)
        if result < len(buffer):
            raise CheckCondition(FAILED_SELF_TEST)


DIAGNOSTIC_COMMANDS = (
    CommandRow(Opcode.SEND_DIAGNOSTIC, lambda unit: partial(send_diagnostic, unit)),
    CommandRow(
        Opcode.RECEIVE_DIAGNOSTIC_RESULTS, lambda unit: partial(receive_diagnostic_results, unit)
    ),
)
