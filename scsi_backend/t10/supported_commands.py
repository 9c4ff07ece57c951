# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameter data of REPORT SUPPORTED OPERATION CODES (SPC-5 6.35)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from scsi_backend.t10.command_usage import Timeouts

# opcode, reserved, service action, reserved, flags, CDB length.
_COMMAND_DESCRIPTOR = struct.Struct(">BxHxBH")
_SERVACTV = 0x01
_CTDP = 0x02
# length, reserved, command specific, nominal, recommended.
_TIMEOUTS_DESCRIPTOR = struct.Struct(">HxBII")
_TIMEOUTS_LENGTH = _TIMEOUTS_DESCRIPTOR.size - 2
# reserved, flags, CDB size.
_ONE_COMMAND = struct.Struct(">xBH")
_ONE_COMMAND_CTDP = 0x80
# SUPPORT: as the standard has it, and not at all.
_SUPPORTED = 0x03
_NOT_SUPPORTED = 0x01


def all_commands(descriptors: Iterable[bytes]) -> bytes:
    """The all_commands parameter data of descriptors that are in order."""
    body = b"".join(descriptors)
    return struct.pack(">I", len(body)) + body


def command_descriptor(
    opcode: int, service_action: int | None, cdb_length_bytes: int, timeouts: Timeouts | None
) -> bytes:
    """One command of the all_commands parameter data, with its timeouts if they are given."""
    flags = _SERVACTV if service_action is not None else 0
    if timeouts is not None:
        flags |= _CTDP
    head = _COMMAND_DESCRIPTOR.pack(opcode, service_action or 0, flags, cdb_length_bytes)
    return head + _timeouts_descriptor(timeouts)


def one_command(usage_data: bytes, timeouts: Timeouts | None) -> bytes:
    """The one_command parameter data of a supported command."""
    flags = _SUPPORTED if timeouts is None else _SUPPORTED | _ONE_COMMAND_CTDP
    head = _ONE_COMMAND.pack(flags, len(usage_data))
    return head + usage_data + _timeouts_descriptor(timeouts)


def unsupported_command() -> bytes:
    """The one_command parameter data of a command that is not supported."""
    return _ONE_COMMAND.pack(_NOT_SUPPORTED, 0)


def _timeouts_descriptor(timeouts: Timeouts | None) -> bytes:
    if timeouts is None:
        return b""
    return _TIMEOUTS_DESCRIPTOR.pack(_TIMEOUTS_LENGTH, 0, *timeouts)
