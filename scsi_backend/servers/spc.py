# SPDX-License-Identifier: GPL-2.0-or-later
"""Primary commands (SPC-5) that every logical unit answers; the mode commands are spc_mode.py's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

from scsi_backend.servers import access_states
from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.vital_product_data import VPD_PAGES
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import sense
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.vpd import StandardInquiry


def test_unit_ready(unit: LogicalUnit, command: Command) -> None:
    """TEST UNIT READY (SPC-5 6.46): ready, unless a restriction of the unit answers instead."""
    command.complete()


def request_sense(unit: LogicalUnit, command: Command) -> None:
    """REQUEST SENSE (SPC-5 6.39): a pending unit attention, which it clears, or the condition."""
    nexus = command.nexus
    pending = nexus.take_unit_attention() or _condition(unit, nexus.relative_target_port)
    descriptor = bool(fields.DESC.read(command.cdb))
    command.reply(
        pending.encode(descriptor=descriptor),
        fields.REQUEST_SENSE_ALLOCATION_LENGTH.read(command.cdb),
    )


def _condition(unit: LogicalUnit, relative_target_port: int) -> Sense:
    """What TEST UNIT READY would say, were it sent instead through the same port."""
    of_port = access_states.condition(unit, relative_target_port)
    if of_port is not None:
        return of_port
    if unit.operation is not None:
        return unit.operation.sense
    return sense.NO_SENSE if unit.medium.is_present else sense.MEDIUM_NOT_PRESENT


def inquiry(unit: LogicalUnit, command: Command) -> None:
    """INQUIRY (SPC-5 6.7), standard data or a vital product data page."""
    cdb = command.cdb
    check_inquiry(cdb)
    allocation_length = fields.INQUIRY_ALLOCATION_LENGTH.read(cdb)
    peripheral = access_states.peripheral(unit, command.nexus.relative_target_port)
    if not fields.EVPD.read(cdb):
        command.reply(_standard_inquiry(unit, peripheral), allocation_length)
        return
    row = VPD_PAGES.get(fields.INQUIRY_PAGE_CODE.read(cdb))
    if row is None or not row.applies(unit):
        raise CheckCondition(fields.INQUIRY_PAGE_CODE.invalid())
    page = row.build(unit, command.nexus)
    command.reply(bytes((peripheral,)) + page[1:], allocation_length)


def _standard_inquiry(unit: LogicalUnit, peripheral: int) -> bytes:
    identity = unit.vdisk.identity
    return StandardInquiry(
        vendor=identity.vendor,
        product=identity.product,
        revision=identity.revision,
        peripheral=peripheral,
        vendor_specific=identity.inq_vend_specific,
        is_removable=unit.vdisk.is_removable,
        is_multiport=len(unit.ports) > 1,
        has_third_party_copy=Opcode.EXTENDED_COPY in unit.rows,
        tpgs=access_states.tpgs(unit),
    ).serialize()


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
    _row(Opcode.REPORT_LUNS, report_luns, skips_attention=True),
)
