# SPDX-License-Identifier: GPL-2.0-or-later
"""MODE SELECT (SPC-5 6.12, 6.13): what may be changed is in t10/mode_values.py.

The whole parameter list is checked before anything of it takes effect. A value that cannot be
changed may be sent as it is, since initiators send back what MODE SENSE gave them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

from scsi_backend.servers.command import CheckCondition, Command, Nexus
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.servers.spc_mode import ModePageRow, mode_page_rows
from scsi_backend.servers.steps import run_steps
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import mode_pages, sense
from scsi_backend.t10.cdb import Field
from scsi_backend.t10.mode_values import Parameter
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

_PAGE_CODE_BITS: Final = 0x3F


def _mode_select(form: _Form, unit: LogicalUnit, command: Command) -> None:
    cdb = command.cdb
    # Neither pages in a vendor's format, nor defaults to revert to.
    if not fields.MODE_SELECT_PF.read(cdb):
        raise CheckCondition(fields.MODE_SELECT_PF.invalid())
    if fields.MODE_SELECT_RTD.read(cdb):
        raise CheckCondition(fields.MODE_SELECT_RTD.invalid())
    is_saved = bool(fields.MODE_SELECT_SP.read(cdb))
    nexus = command.nexus
    if is_saved and (nexus.is_read_only or not unit.modes.can_save):
        raise CheckCondition(fields.MODE_SELECT_SP.invalid())
    changes = _checked_list(form, unit, command)
    if not changes and not is_saved:
        command.complete()
        return
    tell = partial(unit.raise_unit_attention, sense.MODE_PARAMETERS_CHANGED, but=nexus)
    run_steps(command, unit.modes.change(changes, is_saved=is_saved, tell=tell))


def _checked_list(form: _Form, unit: LogicalUnit, command: Command) -> Mapping[str, int]:
    """Check the whole parameter list; return the changeable parameters that it has."""
    length = form.list_length.read(command.cdb)
    if length == 0:
        return {}
    if length < form.header_bytes:
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    data = bytes(data_out_exactly(command, length))
    return _checked_pages(unit, command.nexus, data, _check_header(form, unit, data))


def _check_header(form: _Form, unit: LogicalUnit, data: bytes) -> int:
    """Check what comes before the pages; return where they begin."""
    if form.medium_type.read(data):
        raise CheckCondition(form.medium_type.invalid_in_list())
    length = form.descriptor_length.read(data)
    if length == 0:
        return form.header_bytes
    is_long = form.long_lba is not None and form.long_lba.read(data)
    descriptor = _LONG if is_long else _SHORT
    # One descriptor, since all blocks are alike.
    if length != descriptor.length_bytes:
        raise CheckCondition(form.descriptor_length.invalid_in_list())
    end = form.header_bytes + length
    if end > len(data):
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    body = data[form.header_bytes : end]
    # SBC-4 6.5.2: zero keeps the number of blocks, and all ones is as many as there can be.
    all_ones = (1 << descriptor.block_count.width) - 1
    if descriptor.block_count.read(body) not in (0, min(unit.block_count, all_ones), all_ones):
        raise CheckCondition(descriptor.block_count.invalid_in_list(form.header_bytes))
    if descriptor.block_size_bytes.read(body) != unit.vdisk.block_size_bytes:
        raise CheckCondition(descriptor.block_size_bytes.invalid_in_list(form.header_bytes))
    return end


def _checked_pages(
    unit: LogicalUnit, nexus: Nexus, data: bytes, position: int
) -> Mapping[str, int]:
    """Check the pages from ``position`` on; return the changeable parameters that they have."""
    pages = mode_page_rows(unit)
    found: dict[str, int] = {}
    while position < len(data):
        row = _row_at(pages, data, position)
        current = row.with_values(unit, unit.modes.current)
        page = data[position : position + len(current)]
        _check_length(page, current, position)
        _check_changes(page, current, row.changeable(unit, nexus), position)
        for parameter in row.parameters:
            found[parameter.name] = _checked_value(parameter, page, position)
        position += len(page)
    return found


def _row_at(
    pages: Mapping[tuple[int, int], ModePageRow], data: bytes, position: int
) -> ModePageRow:
    code = data[position] & _PAGE_CODE_BITS
    subpage = 0
    if data[position] & mode_pages.SPF_BIT:
        if position + 1 == len(data):
            raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
        subpage = data[position + 1]
    row = pages.get((code, subpage))
    if row is None and not any(known == code for known, _ in pages):
        raise CheckCondition(invalid_field_in_parameter_list(position, 5))
    # The form without subpage is for subpage zero only.
    if row is None or (data[position] & mode_pages.SPF_BIT and not subpage):
        raise CheckCondition(invalid_field_in_parameter_list(position + 1, 7))
    return row


def _check_length(page: bytes, current: bytes, position: int) -> None:
    # PAGE LENGTH is a byte, or two behind the subpage code.
    start, end = (2, 4) if current[0] & mode_pages.SPF_BIT else (1, 2)
    if len(page) >= end and page[start:end] != current[start:end]:
        raise CheckCondition(invalid_field_in_parameter_list(position + start, 7))
    if len(page) < len(current):
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)


def _check_changes(page: bytes, current: bytes, changeable: bytes, position: int) -> None:
    # What the pages begin with has been compared; PS is reserved here.
    for index in range(2, len(page)):
        refused = (page[index] ^ current[index]) & ~changeable[index]
        if refused:
            bit = refused.bit_length() - 1
            raise CheckCondition(invalid_field_in_parameter_list(position + index, bit))


def _checked_value(parameter: Parameter, page: bytes, position: int) -> int:
    value = parameter.read(page)
    if value not in parameter.allowed:
        raise CheckCondition(parameter.field.invalid_in_list(position))
    return value


MODE_SELECT_COMMANDS = (
    CommandRow(Opcode.MODE_SELECT_6, lambda unit: partial(_mode_select, _FORM_6, unit)),
    CommandRow(Opcode.MODE_SELECT_10, lambda unit: partial(_mode_select, _FORM_10, unit)),
)
