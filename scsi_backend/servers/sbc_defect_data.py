# SPDX-License-Identifier: GPL-2.0-or-later
"""READ DEFECT DATA (SBC-4 5.22, 5.23): lists that are empty, a file having no defects of its own.

Only the two formats that name blocks are kept. Asked for another one, the unit answers in the
format that it has and says so, as SBC-4 wants it: RECOVERED ERROR, DEFECT LIST NOT FOUND.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from scsi_backend.servers.command import Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.cdb import Field
from scsi_backend.t10.cdb_block import (
    DEFECT_ALLOCATION_LENGTH_10,
    DEFECT_ALLOCATION_LENGTH_12,
    DEFECT_FLAGS_10,
    DEFECT_FLAGS_12,
)
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status

# DEFECT LIST FORMAT: short and long block format.
_SHORT_BLOCK, _LONG_BLOCK = 0b000, 0b011
_FORMAT_BITS = 0x07
# REQ_PLIST and REQ_GLIST, which are answered with PLISTV and GLISTV of the same bits.
_LISTS_BITS = 0x18
_NOT_FOUND = Sense(SenseKey.RECOVERED_ERROR, AdditionalSense.DEFECT_LIST_NOT_FOUND)


@dataclass(frozen=True, slots=True)
class _Form:
    """Where one width has its fields, and the header that precedes the (missing) descriptors.

    (10): reserved, PLISTV GLISTV FORMAT, LENGTH of two bytes. (12): the same with a GENERATION
    CODE, which zero says is not kept, before a LENGTH of four.
    """

    flags: Field
    allocation_length: Field
    header: struct.Struct
    own_format: int


_FORM_10 = _Form(DEFECT_FLAGS_10, DEFECT_ALLOCATION_LENGTH_10, struct.Struct(">xB2x"), _SHORT_BLOCK)
_FORM_12 = _Form(DEFECT_FLAGS_12, DEFECT_ALLOCATION_LENGTH_12, struct.Struct(">xB6x"), _LONG_BLOCK)


def _read_defect_data(form: _Form, command: Command) -> None:
    flags = form.flags.read(command.cdb)
    asked, lists = flags & _FORMAT_BITS, flags & _LISTS_BITS
    is_kept = asked in (_SHORT_BLOCK, _LONG_BLOCK)
    data = form.header.pack(lists | (asked if is_kept else form.own_format))
    length = form.allocation_length.read(command.cdb)
    if is_kept:
        command.reply(data, length)
    else:
        command.reply(data, length, Status.CHECK_CONDITION, _NOT_FOUND)


def _bind(form: _Form) -> Callable[[LogicalUnit], Callable[[Command], None]]:
    return lambda unit: partial(_read_defect_data, form)


DEFECT_DATA_COMMANDS = (
    CommandRow(Opcode.READ_DEFECT_DATA_10, _bind(_FORM_10)),
    CommandRow(Opcode.READ_DEFECT_DATA_12, _bind(_FORM_12)),
)
