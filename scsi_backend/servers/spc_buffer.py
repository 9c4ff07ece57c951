# SPDX-License-Identifier: GPL-2.0-or-later
"""READ BUFFER and WRITE BUFFER (SPC-5 6.21, 6.49): data and echo; microcode is not for download."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from scsi_backend.servers.buffers import DATA_BUFFER_BYTES, ECHO_BUFFER_BYTES
from scsi_backend.servers.command import CheckCondition, Command
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.t10 import cdb_reports as fields
from scsi_backend.t10.cdb_reports import BufferMode
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import COMMAND_SEQUENCE_ERROR

_Transfer = Callable[[LogicalUnit, Command], None]

_DATA_BUFFER_ID = 0
# EBOS: an echo buffer holds what its own nexus wrote.
_EBOS = 0x01


def _run(modes: Mapping[int, _Transfer], unit: LogicalUnit, command: Command) -> None:
    transfer = modes.get(fields.BUFFER_MODE.read(command.cdb))
    if transfer is None:
        raise CheckCondition(fields.BUFFER_MODE.invalid())
    transfer(unit, command)


def _offset_in_data_buffer(cdb: bytes) -> int:
    if fields.BUFFER_ID.read(cdb) != _DATA_BUFFER_ID:
        raise CheckCondition(fields.BUFFER_ID.invalid())
    offset_bytes = fields.BUFFER_OFFSET.read(cdb)
    if offset_bytes > DATA_BUFFER_BYTES:
        raise CheckCondition(fields.BUFFER_OFFSET.invalid())
    return offset_bytes


def _write_data(unit: LogicalUnit, command: Command) -> None:
    offset_bytes = _offset_in_data_buffer(command.cdb)
    length_bytes = fields.BUFFER_LENGTH.read(command.cdb)
    if offset_bytes + length_bytes > DATA_BUFFER_BYTES:
        raise CheckCondition(fields.BUFFER_LENGTH.invalid())
    unit.buffers.write_data(offset_bytes, data_out_exactly(command, length_bytes))
    command.complete()


def _read_data(unit: LogicalUnit, command: Command) -> None:
    offset_bytes = _offset_in_data_buffer(command.cdb)
    length_bytes = fields.BUFFER_LENGTH.read(command.cdb)
    command.reply(unit.buffers.read_data(offset_bytes, length_bytes), length_bytes)


def _read_descriptor(unit: LogicalUnit, command: Command) -> None:
    # OFFSET BOUNDARY of zero is one byte; a buffer that there is not has all zeros.
    is_there = fields.BUFFER_ID.read(command.cdb) == _DATA_BUFFER_ID
    descriptor = struct.pack(">I", DATA_BUFFER_BYTES if is_there else 0)
    command.reply(descriptor, fields.BUFFER_LENGTH.read(command.cdb))


def _write_echo(unit: LogicalUnit, command: Command) -> None:
    length_bytes = fields.BUFFER_LENGTH.read(command.cdb)
    if length_bytes > ECHO_BUFFER_BYTES:
        raise CheckCondition(fields.BUFFER_LENGTH.invalid())
    unit.buffers.write_echo(command.nexus, bytes(data_out_exactly(command, length_bytes)))
    command.complete()


def _read_echo(unit: LogicalUnit, command: Command) -> None:
    echo = unit.buffers.read_echo(command.nexus)
    if echo is None:
        raise CheckCondition(COMMAND_SEQUENCE_ERROR)
    command.reply(echo, fields.BUFFER_LENGTH.read(command.cdb))


def _read_echo_descriptor(unit: LogicalUnit, command: Command) -> None:
    descriptor = struct.pack(">BxH", _EBOS, ECHO_BUFFER_BYTES)
    command.reply(descriptor, fields.BUFFER_LENGTH.read(command.cdb))


_WRITE_MODES: Mapping[int, _Transfer] = MappingProxyType(
    {BufferMode.DATA: _write_data, BufferMode.ECHO: _write_echo}
)
_READ_MODES: Mapping[int, _Transfer] = MappingProxyType(
    {
        BufferMode.DATA: _read_data,
        BufferMode.DESCRIPTOR: _read_descriptor,
        BufferMode.ECHO: _read_echo,
        BufferMode.ECHO_DESCRIPTOR: _read_echo_descriptor,
    }
)

BUFFER_COMMANDS = (
    CommandRow(Opcode.WRITE_BUFFER, lambda unit: partial(_run, _WRITE_MODES, unit)),
    CommandRow(Opcode.READ_BUFFER, lambda unit: partial(_run, _READ_MODES, unit)),
)
