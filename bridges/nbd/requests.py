# SPDX-License-Identifier: GPL-2.0-or-later
"""What is checked of a request before it is carried out, and the error value for what is wrong.

One table of the commands and the order of the checks; proto.md, "Request types" and "Error values".
The session serves plain READs and WRITEs without coming here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import MappingProxyType

from bridges.lun import LunInfo
from bridges.nbd import wire
from bridges.nbd.errors import OUT_OF_RANGE
from bridges.nbd.negotiated import Negotiated, ReplyForm
from bridges.nbd.wire import Command, CommandFlag, Error


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not carried out."""

    error: Error
    text: str


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a command may be; ``flags`` beyond FUA, which goes with every command."""

    flags: int = 0
    writes: bool = False
    has_range: bool = True
    is_transfer: bool = False


# FUA "MUST be accepted on all commands" once offered; Linux sets it on READ.
_RULES = MappingProxyType(
    {
        Command.READ: _Rule(flags=CommandFlag.DF, is_transfer=True),
        Command.WRITE: _Rule(writes=True, is_transfer=True),
        Command.FLUSH: _Rule(has_range=False),
        Command.TRIM: _Rule(writes=True),
        Command.CACHE: _Rule(),
        Command.WRITE_ZEROES: _Rule(flags=CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO, writes=True),
        Command.BLOCK_STATUS: _Rule(flags=CommandFlag.REQ_ONE),
    }
)


def check(
    info: LunInfo, negotiated: Negotiated, flags: int, kind: int, offset: int, length: int
) -> Refusal | None:
    """Say what is wrong with a request, None where it may proceed.

    ``flags`` are without PAYLOAD_LEN, which belongs to the form of the request.
    """
    rule = _RULES.get(kind)  # type: ignore[call-overload]
    if rule is None:
        return Refusal(Error.EINVAL, f"unknown command {kind}")
    command = Command(kind)
    # Plain numbers: ``~`` of an IntFlag knows only the bits that have names.
    allowed = int(CommandFlag.FUA | rule.flags)
    if negotiated.form is ReplyForm.SIMPLE:
        # SEND_DF is not offered then.
        allowed &= ~int(CommandFlag.DF)
    if flags & ~allowed:
        return Refusal(Error.EINVAL, f"{command.name}: flags {flags:#x}: expected {allowed:#x}")
    if command is Command.BLOCK_STATUS and not negotiated.contexts:
        return Refusal(Error.EINVAL, "BLOCK_STATUS: no metadata context was selected")
    if command is Command.BLOCK_STATUS and length == 0:
        # proto.md: success has "exactly one status chunk" per context, with an extent in it.
        return Refusal(Error.EINVAL, "BLOCK_STATUS: expected at least one byte")
    if rule.writes and info.is_read_only:
        return Refusal(Error.EPERM, f"{command.name}: the export is read-only")
    if not rule.has_range:
        return None
    return _check_range(info, negotiated, rule, command, flags, offset, length)


def _check_range(
    info: LunInfo,
    negotiated: Negotiated,
    rule: _Rule,
    command: Command,
    flags: int,
    offset: int,
    length: int,
) -> Refusal | None:
    if offset + length > info.size_bytes:
        return Refusal(
            OUT_OF_RANGE.get(command, Error.EINVAL),
            f"{command.name} of {length} bytes at {offset}: past the end, {info.size_bytes} bytes",
        )
    if rule.is_transfer and length > wire.MAX_PAYLOAD_BYTES:
        # proto.md: a READ that cannot come in one piece is EOVERFLOW if DF asks for just that.
        error = Error.EOVERFLOW if flags & CommandFlag.DF else Error.EINVAL
        limit = wire.MAX_PAYLOAD_BYTES
        return Refusal(error, f"{command.name} of {length} bytes: expected at most {limit}")
    if negotiated.knows_block_sizes and (offset | length) & (info.block_size_bytes - 1):
        return Refusal(
            Error.EINVAL,
            f"{command.name} of {length} bytes at {offset}:"
            f" expected whole blocks of {info.block_size_bytes} bytes",
        )
    return None


@dataclass(frozen=True, slots=True)
class StatusFilter:
    """What the payload of a BLOCK_STATUS asks for."""

    length_bytes: int
    contexts: tuple[int, ...]


def status_filter(
    info: LunInfo, negotiated: Negotiated, flags: int, offset: int, payload: memoryview
) -> StatusFilter | Refusal:
    """Read and check a BLOCK_STATUS request's payload (proto.md, "BLOCK_STATUS_PAYLOAD").

    ``flags`` are without PAYLOAD_LEN.
    """
    head = wire.BLOCK_STATUS_PAYLOAD.size
    if len(payload) < head or len(payload) % _CONTEXT_ID.size:
        return Refusal(Error.EINVAL, "BLOCK_STATUS: malformed payload")
    (length,) = wire.BLOCK_STATUS_PAYLOAD.unpack_from(payload)
    wanted = tuple(number for (number,) in _CONTEXT_ID.iter_unpack(payload[head:]))
    known = {number for number, _ in negotiated.contexts}
    if len(set(wanted)) < len(wanted) or not known.issuperset(wanted):
        return Refusal(Error.EINVAL, f"BLOCK_STATUS: contexts {wanted}: expected some of {known}")
    refusal = check(info, negotiated, flags, Command.BLOCK_STATUS, offset, length)
    return refusal or StatusFilter(length, wanted)


_CONTEXT_ID = struct.Struct(">I")
