# SPDX-License-Identifier: GPL-2.0-or-later
"""MODE SELECT (SPC-5 6.12, 6.13): what may be changed is WCE of the caching mode page.

The whole parameter list is checked before anything of it takes effect. A value that cannot be
changed may be sent as it is, since initiators send back what MODE SENSE gave them.
"""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

from scsi_backend.servers.command import CheckCondition, Command, Nexus
from scsi_backend.servers.errors import write_sense
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.servers.spc_mode import MODE_PAGES
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import mode_pages, sense
from scsi_backend.t10.cdb import Field
from scsi_backend.t10.mode_pages import ModePage
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import invalid_field_in_parameter_list


class _Form(NamedTuple):
    """Where the two forms of the command keep what (SPC-5 tables 442 and 443)."""

    list_length: Field
    header_bytes: int
    medium_type: Field
    # Of the header, None where there is no such bit.
    long_lba: Field | None
    descriptor_length: Field


_FORM_6: Final = _Form(
    fields.MODE_SELECT_6_PARAMETER_LIST_LENGTH, 4, Field(1, 7, 8), None, Field(3, 7, 8)
)
_FORM_10: Final = _Form(
    fields.MODE_SELECT_10_PARAMETER_LIST_LENGTH,
    8,
    Field(2, 7, 8),
    Field(4, 0, 1),
    Field(6, 7, 16),
)


class _Descriptor(NamedTuple):
    """A block descriptor's length and fields, counted from its beginning (SBC-4 6.5.2)."""

    length_bytes: int
    block_count: Field
    block_size_bytes: Field


_SHORT: Final = _Descriptor(8, Field(0, 7, 32), Field(5, 7, 24))
_LONG: Final = _Descriptor(16, Field(0, 7, 64), Field(12, 7, 32))

_SPF_BIT: Final = 0x40
_PAGE_CODE_BITS: Final = 0x3F


def _mode_select(form: _Form, unit: LogicalUnit, command: Command) -> None:
    cdb = command.cdb
    # Neither pages in a vendor's format, nor defaults to revert to, nor a place to save them in.
    if not fields.MODE_SELECT_PF.read(cdb):
        raise CheckCondition(fields.MODE_SELECT_PF.invalid())
    for field in (fields.MODE_SELECT_RTD, fields.MODE_SELECT_SP):
        if field.read(cdb):
            raise CheckCondition(field.invalid())
    length = form.list_length.read(cdb)
    if length == 0:
        command.complete()
        return
    if length < form.header_bytes:
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    data = bytes(data_out_exactly(command, length))
    wce = _checked_wce(unit, command.nexus, data, _check_header(form, unit, data))
    if wce is None:
        command.complete()
    else:
        run_steps(command, _set_write_cache(unit, command.nexus, wce))


def _check_header(form: _Form, unit: LogicalUnit, data: bytes) -> int:
    """Check what comes before the pages; return where they begin."""
    if form.medium_type.read(data):
        raise CheckCondition(_invalid(0, form.medium_type))
    length = form.descriptor_length.read(data)
    if length == 0:
        return form.header_bytes
    is_long = form.long_lba is not None and form.long_lba.read(data)
    descriptor = _LONG if is_long else _SHORT
    # One descriptor, since all blocks are alike.
    if length != descriptor.length_bytes:
        raise CheckCondition(_invalid(0, form.descriptor_length))
    end = form.header_bytes + length
    if end > len(data):
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    body = data[form.header_bytes : end]
    # SBC-4 6.5.2: zero keeps the number of blocks, and all ones is as many as there can be.
    all_ones = (1 << descriptor.block_count.width) - 1
    if descriptor.block_count.read(body) not in (0, min(unit.block_count, all_ones), all_ones):
        raise CheckCondition(_invalid(form.header_bytes, descriptor.block_count))
    if descriptor.block_size_bytes.read(body) != unit.vdisk.block_size_bytes:
        raise CheckCondition(_invalid(form.header_bytes, descriptor.block_size_bytes))
    return end


def _checked_wce(unit: LogicalUnit, nexus: Nexus, data: bytes, position: int) -> bool | None:
    """Check the pages from ``position`` on; return the WCE that they ask for, if they do."""
    wce = None
    while position < len(data):
        if data[position] & _SPF_BIT:
            raise CheckCondition(invalid_field_in_parameter_list(position, 6))
        code = data[position] & _PAGE_CODE_BITS
        row = MODE_PAGES.get(code)
        if row is None:
            raise CheckCondition(invalid_field_in_parameter_list(position, 5))
        current = row.current(unit)
        page = data[position : position + len(current)]
        if len(page) > 1 and page[1] != current[1]:
            raise CheckCondition(invalid_field_in_parameter_list(position + 1, 7))
        if len(page) < len(current):
            raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
        _check_changes(page, current, row.changeable(unit, nexus), position)
        if code == ModePage.CACHING:
            wce = bool(page[2] & mode_pages.WCE_BIT)
        position += len(page)
    return wce


def _check_changes(page: bytes, current: bytes, changeable: bytes, position: int) -> None:
    for index in range(2, len(page)):
        refused = (page[index] ^ current[index]) & ~changeable[index]
        if refused:
            bit = refused.bit_length() - 1
            raise CheckCondition(invalid_field_in_parameter_list(position + index, bit))


def _invalid(base: int, field: Field) -> sense.Sense:
    return invalid_field_in_parameter_list(base + field.byte, field.msb)


def _set_write_cache(unit: LogicalUnit, nexus: Nexus, wce: bool) -> Steps:
    # GOOD while the flush of another such command may still fail would be a promise too early.
    yield unit.mode_change.take
    try:
        yield from _change_write_cache(unit, nexus, wce)
    finally:
        unit.mode_change.leave()


def _change_write_cache(unit: LogicalUnit, nexus: Nexus, wce: bool) -> Steps:
    if wce == unit.vdisk.has_volatile_cache:
        return
    _put_write_cache(unit, wce)
    result = 0
    if not wce:
        # What was written before is to be as stable as what is written from now on.
        result = yield unit.vdisk.sync
        if result < 0:
            _put_write_cache(unit, True)
    # Of a failure too: somebody may have looked meanwhile.
    unit.raise_unit_attention(sense.MODE_PARAMETERS_CHANGED, but=nexus)
    if result < 0:
        raise CheckCondition(write_sense(result, 0))


def _put_write_cache(unit: LogicalUnit, wce: bool) -> None:
    unit.vdisk.has_volatile_cache = wce
    unit.is_write_through = not wce


MODE_SELECT_COMMANDS = (
    CommandRow(Opcode.MODE_SELECT_6, lambda unit: partial(_mode_select, _FORM_6, unit)),
    CommandRow(Opcode.MODE_SELECT_10, lambda unit: partial(_mode_select, _FORM_10, unit)),
)
