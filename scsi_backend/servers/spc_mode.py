# SPDX-License-Identifier: GPL-2.0-or-later
"""The mode pages of an emulated disk, one table row for each, and MODE SENSE (SPC-5 6.14, 6.15).

Changing them is spc_mode_select.py's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from scsi_backend.servers.command import CheckCondition, Command, Nexus
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import mode_pages, sense
from scsi_backend.t10.mode_pages import ModeHeader, ModePage, PageControl
from scsi_backend.t10.opcodes import Opcode


@dataclass(frozen=True, slots=True)
class ModePageRow:
    """A page as it is, as it was configured, and which of its bits a nexus may change."""

    current: Callable[[LogicalUnit], bytes]
    default: Callable[[LogicalUnit], bytes]
    changeable: Callable[[LogicalUnit, Nexus], bytes]


def _caching(unit: LogicalUnit) -> bytes:
    return mode_pages.caching_page(wce=unit.vdisk.has_volatile_cache)


def _default_caching(unit: LogicalUnit) -> bytes:
    return mode_pages.caching_page(wce=unit.has_volatile_cache_by_default)


def _changeable_caching(unit: LogicalUnit, nexus: Nexus) -> bytes:
    # As SCST: WCE, unless nv_cache makes a flush needless. Whoever may not write decides nothing
    # about the writes of others.
    may_change = unit.vdisk.needs_sync and not nexus.is_write_protected
    return mode_pages.caching_page(wce=may_change)


def _control(unit: LogicalUnit) -> bytes:
    # TST=001b: each I_T nexus has a task set of its own, SCST's default.
    return mode_pages.control_page(tst=1, d_sense=False, swp=False)


def _nothing_in_control(unit: LogicalUnit, nexus: Nexus) -> bytes:
    return mode_pages.changeable_mask(_control(unit))


MODE_PAGES: Mapping[int, ModePageRow] = MappingProxyType(
    {
        ModePage.CACHING: ModePageRow(_caching, _default_caching, _changeable_caching),
        ModePage.CONTROL: ModePageRow(_control, _control, _nothing_in_control),
    }
)


def mode_sense_6(unit: LogicalUnit, command: Command) -> None:
    """MODE SENSE(6) (SPC-5 6.14)."""
    header = _mode_header(unit, command, is_long_lba=False)
    data = header.with_pages_6(_mode_pages(unit, command))
    command.reply(data, fields.MODE_SENSE_6_ALLOCATION_LENGTH.read(command.cdb))


def mode_sense_10(unit: LogicalUnit, command: Command) -> None:
    """MODE SENSE(10) (SPC-5 6.15)."""
    cdb = command.cdb
    is_long_lba = bool(fields.LLBAA.read(cdb)) and not fields.DBD.read(cdb)
    header = _mode_header(unit, command, is_long_lba=is_long_lba)
    data = header.with_pages_10(_mode_pages(unit, command), is_long_lba=is_long_lba)
    command.reply(data, fields.MODE_SENSE_10_ALLOCATION_LENGTH.read(cdb))


def _mode_header(unit: LogicalUnit, command: Command, *, is_long_lba: bool) -> ModeHeader:
    device_specific = mode_pages.DPOFUA_BIT
    if command.nexus.is_write_protected:
        device_specific |= mode_pages.WP_BIT
    descriptor = b""
    if not fields.DBD.read(command.cdb):
        build = (
            mode_pages.long_block_descriptor if is_long_lba else mode_pages.short_block_descriptor
        )
        descriptor = build(unit.block_count, unit.vdisk.block_size_bytes)
    return ModeHeader(device_specific, descriptor)


def _mode_pages(unit: LogicalUnit, command: Command) -> bytes:
    cdb = command.cdb
    control = PageControl(fields.PAGE_CONTROL.read(cdb))
    if control is PageControl.SAVED:
        raise CheckCondition(sense.SAVING_PARAMETERS_NOT_SUPPORTED)
    if fields.SUBPAGE_CODE.read(cdb):
        raise CheckCondition(fields.SUBPAGE_CODE.invalid())
    code = fields.MODE_PAGE_CODE.read(cdb)
    if code == ModePage.ALL:
        rows = [MODE_PAGES[known] for known in sorted(MODE_PAGES)]
    elif code in MODE_PAGES:
        rows = [MODE_PAGES[code]]
    else:
        raise CheckCondition(fields.MODE_PAGE_CODE.invalid())
    if control is PageControl.CHANGEABLE:
        return b"".join(row.changeable(unit, command.nexus) for row in rows)
    if control is PageControl.DEFAULT:
        return b"".join(row.default(unit) for row in rows)
    return b"".join(row.current(unit) for row in rows)


def _row(opcode: Opcode, function: Callable[[LogicalUnit, Command], None]) -> CommandRow:
    return CommandRow(opcode, lambda unit: partial(function, unit))


MODE_COMMANDS = (
    _row(Opcode.MODE_SENSE_6, mode_sense_6),
    _row(Opcode.MODE_SENSE_10, mode_sense_10),
)
