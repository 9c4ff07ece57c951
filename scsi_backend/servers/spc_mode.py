# SPDX-License-Identifier: GPL-2.0-or-later
"""The mode pages of an emulated disk, one table row for each, and MODE SENSE (SPC-5 6.14, 6.15).

Changing them is spc_mode_select.py's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from scsi_backend.servers.command import CheckCondition, Command, Nexus
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.vital_product_data import THRESHOLD_SET_SHIFT
from scsi_backend.t10 import cdb as fields
from scsi_backend.t10 import mode_pages, sense
from scsi_backend.t10.mode_pages import ModeHeader, ModePage, PageControl
from scsi_backend.t10.mode_values import CHANGEABLE, ModeValues, Parameter
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.vpd import ROTATION_RATE_RPM


@dataclass(frozen=True, slots=True)
class ModePageRow:
    """A page: its bytes with what can be changed left zero, and what can be changed.

    Units that it ``applies`` not to do not have it.
    """

    build: Callable[[LogicalUnit], bytes]
    parameters: Sequence[Parameter] = ()
    applies: Callable[[LogicalUnit], bool] = lambda unit: True

    def with_values(self, unit: LogicalUnit, values: ModeValues) -> bytes:
        """The page as MODE SENSE shows it, with PS set if it can be saved."""
        page = bytearray(self.build(unit))
        for parameter in self.parameters:
            parameter.field.write(page, int(getattr(values, parameter.name)))
        return bytes(self._marked(unit, page))

    def changeable(self, unit: LogicalUnit, nexus: Nexus) -> bytes:
        """The mask of the bits that the nexus may change, behind the page's header."""
        built = self.build(unit)
        header_bytes = 4 if built[0] & mode_pages.SPF_BIT else 2
        mask = bytearray(built[:header_bytes]).ljust(len(built), b"\0")
        for parameter in self.parameters:
            if _may_change(unit, nexus, parameter):
                parameter.field.write(mask, (1 << parameter.field.width) - 1)
        return bytes(self._marked(unit, mask))

    def _marked(self, unit: LogicalUnit, page: bytearray) -> bytearray:
        if self.parameters and unit.modes.can_save:
            page[0] |= mode_pages.PS_BIT
        return page


def _may_change(unit: LogicalUnit, nexus: Nexus, parameter: Parameter) -> bool:
    # Whoever may not write decides nothing about the writes of others. As SCST: WCE can be changed
    # unless nv_cache makes a flush needless.
    return not nexus.is_read_only and (parameter.name != "wce" or unit.vdisk.needs_sync)


def _has_threshold(unit: LogicalUnit) -> bool:
    return unit.vdisk.soft_threshold_bytes > 0


def _error_recovery(unit: LogicalUnit) -> bytes:
    return mode_pages.read_write_error_recovery_page(reports_thresholds=_has_threshold(unit))


def _format_device(unit: LogicalUnit) -> bytes:
    return mode_pages.format_device_page(
        block_size_bytes=unit.vdisk.block_size_bytes, is_removable=unit.vdisk.is_removable
    )


def _geometry(unit: LogicalUnit) -> bytes:
    return mode_pages.rigid_disk_geometry_page(
        block_count=unit.block_count,
        rotation_rate_rpm=ROTATION_RATE_RPM if unit.vdisk.is_rotational else 0,
    )


def _control(unit: LogicalUnit) -> bytes:
    return mode_pages.control_page(tst=unit.control.tst)


def _provisioning(unit: LogicalUnit) -> bytes:
    count = unit.vdisk.soft_threshold_bytes >> THRESHOLD_SET_SHIFT
    return mode_pages.logical_block_provisioning_page(threshold_count=count)


# By code and subpage code, ascending.
MODE_PAGES: Mapping[tuple[int, int], ModePageRow] = MappingProxyType(
    {
        (ModePage.READ_WRITE_ERROR_RECOVERY, 0): ModePageRow(_error_recovery),
        (ModePage.DISCONNECT_RECONNECT, 0): ModePageRow(
            lambda unit: mode_pages.disconnect_reconnect_page()
        ),
        (ModePage.FORMAT_DEVICE, 0): ModePageRow(_format_device),
        (ModePage.RIGID_DISK_GEOMETRY, 0): ModePageRow(_geometry),
        (ModePage.CACHING, 0): ModePageRow(
            lambda unit: mode_pages.caching_page(), CHANGEABLE[ModePage.CACHING]
        ),
        (ModePage.CONTROL, 0): ModePageRow(_control, CHANGEABLE[ModePage.CONTROL]),
        (ModePage.CONTROL, mode_pages.CONTROL_EXTENSION_SUBPAGE): ModePageRow(
            lambda unit: mode_pages.control_extension_page()
        ),
        (ModePage.INFORMATIONAL_EXCEPTIONS_CONTROL, 0): ModePageRow(
            lambda unit: mode_pages.informational_exceptions_control_page()
        ),
        (
            ModePage.INFORMATIONAL_EXCEPTIONS_CONTROL,
            mode_pages.LOGICAL_BLOCK_PROVISIONING_SUBPAGE,
        ): ModePageRow(_provisioning, applies=_has_threshold),
    }
)


def mode_page_rows(unit: LogicalUnit) -> Mapping[tuple[int, int], ModePageRow]:
    """The rows of a unit's pages, in their order."""
    return {key: row for key, row in MODE_PAGES.items() if row.applies(unit)}


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
    control = PageControl(fields.PAGE_CONTROL.read(command.cdb))
    if control is PageControl.SAVED and not unit.modes.can_save:
        raise CheckCondition(sense.SAVING_PARAMETERS_NOT_SUPPORTED)
    rows = _rows(mode_page_rows(unit), command.cdb)
    if control is PageControl.CHANGEABLE:
        return b"".join(row.changeable(unit, command.nexus) for row in rows)
    values = {
        PageControl.CURRENT: unit.modes.current,
        PageControl.DEFAULT: unit.modes.default,
        PageControl.SAVED: unit.modes.saved,
    }[control]
    return b"".join(row.with_values(unit, values) for row in rows)


def _rows(pages: Mapping[tuple[int, int], ModePageRow], cdb: bytes) -> list[ModePageRow]:
    """Those of a unit's pages that a CDB asks for."""
    code, subpage = fields.MODE_PAGE_CODE.read(cdb), fields.SUBPAGE_CODE.read(cdb)
    of_code = [key for key in pages if code in (key[0], ModePage.ALL)]
    if not of_code:
        raise CheckCondition(fields.MODE_PAGE_CODE.invalid())
    found = [key for key in of_code if subpage in (key[1], mode_pages.ALL_SUBPAGES)]
    if not found or (code == ModePage.ALL and subpage not in (0, mode_pages.ALL_SUBPAGES)):
        raise CheckCondition(fields.SUBPAGE_CODE.invalid())
    return [pages[key] for key in found]


def _row(opcode: Opcode, function: Callable[[LogicalUnit, Command], None]) -> CommandRow:
    return CommandRow(opcode, lambda unit: partial(function, unit))


MODE_COMMANDS = (
    _row(Opcode.MODE_SENSE_6, mode_sense_6),
    _row(Opcode.MODE_SENSE_10, mode_sense_10),
)
