# SPDX-License-Identifier: GPL-2.0-or-later
"""Primary commands (SPC-5): what every logical unit answers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.vital_product_data import VPD_PAGES
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import mode_pages, sense, vpd
from scsi_backend.t10.mode_pages import ModeHeader, ModePage, PageControl
from scsi_backend.t10.opcodes import Opcode


def test_unit_ready(unit: LogicalUnit, command: Command) -> None:
    """TEST UNIT READY (SPC-5 6.46): an emulated disk is ready while it exists."""
    command.complete()


def request_sense(unit: LogicalUnit | None, command: Command) -> None:
    """REQUEST SENSE (SPC-5 6.39): returns and clears a pending unit attention."""
    pending = command.nexus.take_unit_attention() or sense.NO_SENSE
    descriptor = bool(fields.DESC.read(command.cdb))
    command.reply(
        pending.encode(descriptor=descriptor),
        fields.REQUEST_SENSE_ALLOCATION_LENGTH.read(command.cdb),
    )


def inquiry(unit: LogicalUnit, command: Command) -> None:
    """INQUIRY (SPC-5 6.7), standard data or a vital product data page."""
    cdb = command.cdb
    check_inquiry(cdb)
    allocation_length = fields.INQUIRY_ALLOCATION_LENGTH.read(cdb)
    if not fields.EVPD.read(cdb):
        identity = unit.vdisk.identity
        data = vpd.standard_inquiry(
            vendor=identity.vendor,
            product=identity.product,
            revision=identity.revision,
            is_removable=unit.vdisk.is_removable,
        )
        command.reply(data, allocation_length)
        return
    row = VPD_PAGES.get(fields.INQUIRY_PAGE_CODE.read(cdb))
    if row is None or not row.applies(unit):
        raise CheckCondition(fields.INQUIRY_PAGE_CODE.invalid())
    command.reply(row.build(unit, command.nexus), allocation_length)


def check_inquiry(cdb: bytes) -> None:
    """Refuse CMDDT, which SPC-3 made obsolete, and a page code without EVPD."""
    if fields.CMDDT.read(cdb):
        raise CheckCondition(fields.CMDDT.invalid())
    if not fields.EVPD.read(cdb) and fields.INQUIRY_PAGE_CODE.read(cdb):
        raise CheckCondition(fields.INQUIRY_PAGE_CODE.invalid())


# SPC-5 table 229: 00h and 02h without, 01h only well-known logical units (there is none).
_SELECT_REPORT_ALL = frozenset({0x00, 0x02})
_SELECT_REPORT_WELL_KNOWN = 0x01
_REPORT_LUNS_MIN_ALLOCATION = 16


def report_luns(unit: LogicalUnit | None, command: Command) -> None:
    """REPORT LUNS (SPC-5 6.33); clears REPORTED LUNS DATA HAS CHANGED (SPC-5 5.14)."""
    select = fields.SELECT_REPORT.read(command.cdb)
    if select not in _SELECT_REPORT_ALL and select != _SELECT_REPORT_WELL_KNOWN:
        raise CheckCondition(fields.SELECT_REPORT.invalid())
    allocation_length = fields.REPORT_LUNS_ALLOCATION_LENGTH.read(command.cdb)
    if allocation_length < _REPORT_LUNS_MIN_ALLOCATION:
        raise CheckCondition(fields.REPORT_LUNS_ALLOCATION_LENGTH.invalid())
    luns = command.nexus.reported_luns() if select in _SELECT_REPORT_ALL else ()
    body = b"".join(encode_lun(lun) for lun in luns)
    command.nexus.clear_unit_attention(sense.REPORTED_LUNS_CHANGED)
    command.reply(struct.pack(">I4x", len(body)) + body, allocation_length)


def encode_lun(lun: int) -> bytes:
    """A single-level LUN (SAM-5 4.7.7): peripheral addressing to 255, flat space beyond."""
    return struct.pack(">H6x", lun if lun < 256 else 0x4000 | lun)


def _caching(unit: LogicalUnit) -> bytes:
    return mode_pages.caching_page(wce=unit.vdisk.has_volatile_cache)


def _control(unit: LogicalUnit) -> bytes:
    # TST=001b: each I_T nexus has a task set of its own, SCST's default.
    return mode_pages.control_page(tst=1, d_sense=False, swp=False)


MODE_PAGES: Mapping[int, Callable[[LogicalUnit], bytes]] = MappingProxyType(
    {ModePage.CACHING: _caching, ModePage.CONTROL: _control}
)


def mode_sense_6(unit: LogicalUnit, command: Command) -> None:
    """MODE SENSE(6) (SPC-5 6.14)."""
    header = _mode_header(unit, command, is_long_lba=False)
    data = header.with_pages_6(_mode_pages(unit, command.cdb))
    command.reply(data, fields.MODE_SENSE_6_ALLOCATION_LENGTH.read(command.cdb))


def mode_sense_10(unit: LogicalUnit, command: Command) -> None:
    """MODE SENSE(10) (SPC-5 6.15)."""
    cdb = command.cdb
    is_long_lba = bool(fields.LLBAA.read(cdb)) and not fields.DBD.read(cdb)
    header = _mode_header(unit, command, is_long_lba=is_long_lba)
    data = header.with_pages_10(_mode_pages(unit, cdb), is_long_lba=is_long_lba)
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


def _mode_pages(unit: LogicalUnit, cdb: bytes) -> bytes:
    control = PageControl(fields.PAGE_CONTROL.read(cdb))
    if control is PageControl.SAVED:
        raise CheckCondition(sense.SAVING_PARAMETERS_NOT_SUPPORTED)
    if fields.SUBPAGE_CODE.read(cdb):
        raise CheckCondition(fields.SUBPAGE_CODE.invalid())
    code = fields.MODE_PAGE_CODE.read(cdb)
    if code == ModePage.ALL:
        pages = [MODE_PAGES[known](unit) for known in sorted(MODE_PAGES)]
    elif code in MODE_PAGES:
        pages = [MODE_PAGES[code](unit)]
    else:
        raise CheckCondition(fields.MODE_PAGE_CODE.invalid())
    if control is PageControl.CHANGEABLE:
        pages = [mode_pages.changeable_mask(page) for page in pages]
    return b"".join(pages)


def _row(
    opcode: Opcode,
    function: Callable[[LogicalUnit, Command], None],
    *,
    skips_attention: bool = False,
) -> CommandRow:
    return CommandRow(opcode, lambda unit: partial(function, unit), skips_attention=skips_attention)


SPC_COMMANDS = (
    _row(Opcode.TEST_UNIT_READY, test_unit_ready),
    _row(Opcode.REQUEST_SENSE, request_sense, skips_attention=True),
    _row(Opcode.INQUIRY, inquiry, skips_attention=True),
    _row(Opcode.MODE_SENSE_6, mode_sense_6),
    _row(Opcode.MODE_SENSE_10, mode_sense_10),
    _row(Opcode.REPORT_LUNS, report_luns, skips_attention=True),
)
