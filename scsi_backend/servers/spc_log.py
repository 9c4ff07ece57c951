# SPDX-License-Identifier: GPL-2.0-or-later
"""LOG SENSE and LOG SELECT (SPC-5 6.7, 6.8); the pages themselves are log_pages.py's.

There are no thresholds, nothing is saved, and what can be set is that the counters begin again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from scsi_backend.handlers.vdisk import Space
from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.log_pages import LOG_PAGES, LogPageRow, LogView
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.servers.statistics import Counters
from scsi_backend.t10 import cdb_reports as fields
from scsi_backend.t10 import log_pages, sense
from scsi_backend.t10.log_pages import ALL_SUBPAGES, LogPage, LogPageControl
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import invalid_field_in_parameter_list

_PAGE_HEADER_BYTES = 4
_PARAMETER_HEADER_BYTES = 4
_PAGE_CODE_BITS = 0x3F
_SPF_BIT = 0x40
_THRESHOLDS = frozenset({LogPageControl.THRESHOLD, LogPageControl.DEFAULT_THRESHOLD})


def log_sense(unit: LogicalUnit, command: Command) -> None:
    """LOG SENSE (SPC-5 6.8)."""
    cdb = command.cdb
    for field in (fields.LOG_PPC, fields.LOG_SP):
        if field.read(cdb):
            raise CheckCondition(field.invalid())
    code, subpage = fields.LOG_PAGE_CODE.read(cdb), fields.LOG_SUBPAGE_CODE.read(cdb)
    if code == LogPage.SUPPORTED:
        data = _supported(unit, subpage)
        # A page without parameters has none to begin with.
        if fields.LOG_PARAMETER_POINTER.read(cdb):
            raise CheckCondition(fields.LOG_PARAMETER_POINTER.invalid())
        command.reply(data, fields.LOG_SENSE_ALLOCATION_LENGTH.read(cdb))
        return
    row = LOG_PAGES.get(code)
    if row is None or not row.applies(unit):
        raise CheckCondition(fields.LOG_PAGE_CODE.invalid())
    if subpage:
        raise CheckCondition(fields.LOG_SUBPAGE_CODE.invalid())
    _reply_with_page(unit, command, LogPage(code), row)


def _supported(unit: LogicalUnit, subpage: int) -> bytes:
    codes = [LogPage.SUPPORTED, *(code for code, row in LOG_PAGES.items() if row.applies(unit))]
    if subpage == 0:
        return log_pages.supported_log_pages(codes)
    if subpage == ALL_SUBPAGES:
        pages = [(code, 0) for code in codes]
        return log_pages.supported_subpages([*pages, (LogPage.SUPPORTED, ALL_SUBPAGES)])
    raise CheckCondition(fields.LOG_SUBPAGE_CODE.invalid())


def _reply_with_page(unit: LogicalUnit, command: Command, code: LogPage, row: LogPageRow) -> None:
    cdb = command.cdb
    control = fields.LOG_PAGE_CONTROL.read(cdb)
    # Of parameters that are no counters there is but one kind of value.
    if row.is_counted and control in _THRESHOLDS:
        raise CheckCondition(fields.LOG_PAGE_CONTROL.invalid())
    first = fields.LOG_PARAMETER_POINTER.read(cdb)
    wanted = [(number, each) for number, each in row.parameters.items() if number >= first]
    if not wanted:
        raise CheckCondition(fields.LOG_PARAMETER_POINTER.invalid())
    is_default = control == LogPageControl.DEFAULT_CUMULATIVE
    counters = Counters() if is_default else unit.statistics.counters(code)
    view = LogView(unit, counters, Space())

    def finish(result: int) -> None:
        if result < 0:
            command.check_condition(sense.INTERNAL_TARGET_FAILURE)
            return
        parameters = (
            log_pages.parameter(number, each.control, each.value(view)) for number, each in wanted
        )
        page = log_pages.log_page(code, parameters)
        command.reply(page, fields.LOG_SENSE_ALLOCATION_LENGTH.read(cdb))

    if row.needs_space:
        unit.vdisk.measure_space(view.space, finish)
    else:
        finish(0)


def log_select(unit: LogicalUnit, command: Command) -> None:
    """LOG SELECT (SPC-5 6.7)."""
    cdb = command.cdb
    if fields.LOG_SP.read(cdb):
        raise CheckCondition(fields.LOG_SP.invalid())
    length = fields.LOG_SELECT_PARAMETER_LIST_LENGTH.read(cdb)
    if length:
        _check_list_is_allowed(cdb)
        _check_list(unit, bytes(data_out_exactly(command, length)))
        command.complete()
        return
    codes = _selected(unit, cdb)
    control = fields.LOG_PAGE_CONTROL.read(cdb)
    if fields.LOG_PCR.read(cdb) or control == LogPageControl.DEFAULT_CUMULATIVE:
        _reset(unit, command, codes)
    # Otherwise there is nothing to change: thresholds would get the defaults that they do not have.
    command.complete()


def _check_list_is_allowed(cdb: bytes) -> None:
    """With a parameter list, the list says which pages, and resetting is another thing."""
    if fields.LOG_PCR.read(cdb):
        raise CheckCondition(fields.LOG_SELECT_PARAMETER_LIST_LENGTH.invalid())
    for field in (fields.LOG_PAGE_CODE, fields.LOG_SUBPAGE_CODE):
        if field.read(cdb):
            raise CheckCondition(field.invalid())


def _selected(unit: LogicalUnit, cdb: bytes) -> Sequence[int]:
    """The pages that a CDB without parameter list is about; code 00h is for all of them."""
    code, subpage = fields.LOG_PAGE_CODE.read(cdb), fields.LOG_SUBPAGE_CODE.read(cdb)
    if code and (code not in LOG_PAGES or not LOG_PAGES[code].applies(unit)):
        raise CheckCondition(fields.LOG_PAGE_CODE.invalid())
    if subpage and (code or subpage != ALL_SUBPAGES):
        raise CheckCondition(fields.LOG_SUBPAGE_CODE.invalid())
    return (code,) if code else tuple(LOG_PAGES)


def _reset(unit: LogicalUnit, command: Command, codes: Sequence[int]) -> None:
    counted = [code for code in codes if LOG_PAGES[code].is_counted]
    for code in counted:
        unit.statistics.reset(code)
    if counted:
        unit.raise_unit_attention(sense.LOG_PARAMETERS_CHANGED, but=command.nexus)


def _check_list(unit: LogicalUnit, data: bytes) -> None:
    """Go through a parameter list, in which no parameter can be set."""
    position = 0
    while position < len(data):
        header = data[position : position + _PAGE_HEADER_BYTES]
        if len(header) < _PAGE_HEADER_BYTES:
            raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
        row = LOG_PAGES.get(header[0] & _PAGE_CODE_BITS)
        if row is None or not row.applies(unit):
            raise CheckCondition(invalid_field_in_parameter_list(position, 5))
        if header[0] & _SPF_BIT or header[1]:
            raise CheckCondition(invalid_field_in_parameter_list(position + 1, 7))
        length = int.from_bytes(header[2:4], "big")
        if length:
            if length < _PARAMETER_HEADER_BYTES or position + 4 + length > len(data):
                raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
            raise CheckCondition(invalid_field_in_parameter_list(position + 4, 7))
        position += _PAGE_HEADER_BYTES


LOG_COMMANDS = (
    CommandRow(Opcode.LOG_SELECT, lambda unit: partial(log_select, unit)),
    CommandRow(Opcode.LOG_SENSE, lambda unit: partial(log_sense, unit)),
)
