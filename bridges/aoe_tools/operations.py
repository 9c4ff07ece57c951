# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client can ask of targets: one function each, from a request to a record.

All but ``discover`` ask one port of a target, which ``find`` has found. Each may be asked twice
without harm: an answer to a repetition that the first request's success makes a refusal counts as
success. Raises RefusedError where a target refuses or answers nonsense, NoAnswerError where it is
silent, LinkError where the interface fails.

Source: AoEr11 3; what an error reply carries, from vblade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, TypeVar

from scapy.packet import Packet

from bridges.aoe.address import Address
from bridges.aoe.ata import AtaError, AtaStatus
from bridges.aoe.ata_codes import AtaOpcode
from bridges.aoe.wire import (
    BROADCAST_MAC,
    MAX_CONFIG_STRING_BYTES,
    SECTOR_BYTES,
    AoeError,
    ConfigCommand,
    MaskCommand,
    MaskDirective,
    MaskError,
    ReserveCommand,
)
from bridges.aoe_tools.errors import (
    ArgumentError,
    NoAnswerError,
    RefusedError,
    aoe_error_text,
    printable,
    reserved,
)
from bridges.aoe_tools.exchange import Exchanger
from bridges.aoe_tools.layers import (
    ANY_TARGET,
    Directive,
    IssueAta,
    MacMaskList,
    QueryConfig,
    Reply,
    ReserveRelease,
    mac_bytes,
)

ArgumentT = TypeVar("ArgumentT", bound=Packet)

# What Linux's driver writes to the Device register; its four high bits mean nothing any more.
_DEVICE: Final = 0xA0
_FAILED: Final = AtaStatus.ERR | AtaStatus.DF
_MAX_LIST: Final = 255


@dataclass(frozen=True, slots=True)
class Found:
    """One port of a target, as Query Config Information describes it.

    ``buffer_count`` is in messages, ``sector_count`` in sectors of 512 bytes.
    """

    address: Address
    mac: bytes
    buffer_count: int
    firmware_version: int
    sector_count: int
    config_string: bytes


def discover(exchanger: Exchanger) -> list[Found]:
    """Return every port that answers a broadcast within the time, by address and MAC."""
    replies = exchanger.replies(BROADCAST_MAC, ANY_TARGET, QueryConfig())
    ports = {(reply.address, reply.source): _found(reply) for reply in replies}
    return [found for _, found in sorted(ports.items()) if found is not None]


def find(exchanger: Exchanger, address: Address) -> Found:
    """Return the port of a target that answers first."""
    for reply in exchanger.replies(BROADCAST_MAC, address, QueryConfig()):
        found = _found(reply)
        if found is not None:
            return found
    raise NoAnswerError(
        f"no answer from {address} within {exchanger.timeout_s:g} s: it is not on this network, "
        f"or it is on this host, or its MAC mask list lacks {exchanger.mac.hex(':')}"
    )


def _found(reply: Reply) -> Found | None:
    config = reply.argument
    if reply.error or not isinstance(config, QueryConfig):
        return None
    return Found(
        reply.address,
        reply.source,
        config.buffer_count,
        config.firmware_version,
        config.sector_count,
        bytes(config.string),
    )


def identify(exchanger: Exchanger, target: Found) -> bytes:
    """Return the 512 bytes of IDENTIFY DEVICE data."""
    request = IssueAta(opcode=AtaOpcode.IDENTIFY_DEVICE.value, sector_count=1, lba3=_DEVICE)
    error, reply = _ask(exchanger, target, request)
    if error == AoeError.TARGET_IS_RESERVED:
        raise reserved(target.address, reserve(exchanger, target, ReserveCommand.READ))
    _check(target, request, error)
    if reply.opcode & _FAILED:
        status, reason = AtaStatus(reply.opcode), AtaError(reply.feature)
        raise RefusedError(
            f"{target.address}: IDENTIFY DEVICE failed: status {_flags(status)}, "
            f"error {_flags(reason)}"
        )
    data = bytes(reply.payload)[:SECTOR_BYTES]
    if len(data) < SECTOR_BYTES:
        raise RefusedError(
            f"{target.address}: {len(data)} bytes of IDENTIFY DEVICE data: expected {SECTOR_BYTES}"
        )
    return data


def _flags(register: IntFlag) -> str:
    names = [flag.name for flag in type(register) if flag.name and flag in register]
    return f"{int(register):02X}h" + (f" ({' '.join(names)})" if names else "")


def config(
    exchanger: Exchanger, target: Found, command: ConfigCommand, string: bytes = b""
) -> bytes:
    """Return the config string after a command; RefusedError also where a test fails."""
    if len(string) > MAX_CONFIG_STRING_BYTES:
        raise ArgumentError(
            f"config string of {len(string)} bytes: expected at most {MAX_CONFIG_STRING_BYTES}"
        )
    request = QueryConfig(ccmd=command.value, string=string)
    if command in (ConfigCommand.TEST, ConfigCommand.TEST_PREFIX):
        reply = exchanger.first_reply(target.mac, target.address, request)
        if reply is None:
            raise _mismatch(exchanger, target, command, string)
        error, answer = _argument(target, request, reply)
    else:
        error, answer = _ask(exchanger, target, request)
    current = bytes(answer.string)
    if error == AoeError.CONFIG_STRING_PRESENT:
        if command is ConfigCommand.SET_IF_EMPTY and current == string:
            return current
        raise RefusedError(f"{target.address}: {aoe_error_text(error)}: '{printable(current)}'")
    _check(target, request, error)
    if len(current) != answer.length:
        raise _malformed(target, request)
    return current


def _mismatch(
    exchanger: Exchanger, target: Found, command: ConfigCommand, string: bytes
) -> RefusedError | NoAnswerError:
    """Tell silence that means "no" from silence of a target that is gone."""
    current = config(exchanger, target, ConfigCommand.READ)
    is_prefix = command is ConfigCommand.TEST_PREFIX
    if current.startswith(string) if is_prefix else current == string:
        return _silence(exchanger, target, QueryConfig())
    verb = "does not begin with" if is_prefix else "is not"
    return RefusedError(
        f"{target.address}: the config string is '{printable(current)}': "
        f"it {verb} '{printable(string)}'"
    )


def reserve(
    exchanger: Exchanger, target: Found, command: ReserveCommand, macs: Sequence[bytes] = ()
) -> tuple[bytes, ...]:
    """Return the reserve list after a command; an empty list to set is a release."""
    _check_length(macs)
    request = ReserveRelease(rcmd=command.value, macs=[mac.hex(":") for mac in macs])
    error, answer = _ask(exchanger, target, request)
    current = tuple(mac_bytes(mac) for mac in answer.macs)
    if error == AoeError.TARGET_IS_RESERVED:
        if set(current) == set(macs):
            return current
        raise reserved(target.address, current)
    _check(target, request, error)
    if len(current) != answer.count:
        raise _malformed(target, request)
    return current


def mask(
    exchanger: Exchanger, target: Found, directive: MaskDirective, macs: Sequence[bytes] = ()
) -> tuple[bytes, ...]:
    """Return the MAC mask list after adding or deleting addresses, or doing nothing to it."""
    _check_length(macs)
    command = MaskCommand.READ if directive is MaskDirective.NONE else MaskCommand.EDIT
    request = MacMaskList(
        mcmd=command.value,
        directives=[Directive(dcmd=directive.value, mac=mac.hex(":")) for mac in macs],
    )
    error, answer = _ask(exchanger, target, request)
    _check(target, request, error)
    if answer.merror:
        raise _mask_refusal(target, answer, macs)
    entries = answer.directives
    if len(entries) != answer.count or any(not isinstance(entry, Directive) for entry in entries):
        raise _malformed(target, request)
    return tuple(mac_bytes(entry.mac) for entry in entries)


def _mask_refusal(target: Found, answer: MacMaskList, macs: Sequence[bytes]) -> RefusedError:
    try:
        name = MaskError(answer.merror).name.lower().replace("_", " ")
    except ValueError:
        name = "unknown error"
    at = macs[answer.count].hex(":") if answer.count < len(macs) else f"directive {answer.count}"
    return RefusedError(
        f"{target.address}: MAC mask list: {name} (MError {answer.merror}) at {at}; "
        "what was before it is done"
    )


def _check_length(macs: Sequence[bytes]) -> None:
    if len(macs) > _MAX_LIST:
        raise ArgumentError(f"{len(macs)} MAC addresses: expected at most {_MAX_LIST}")


def _ask(exchanger: Exchanger, target: Found, request: ArgumentT) -> tuple[int, ArgumentT]:
    """Return the error code and the argument of the reply."""
    reply = exchanger.first_reply(target.mac, target.address, request)
    if reply is None:
        raise _silence(exchanger, target, request)
    return _argument(target, request, reply)


def _argument(target: Found, request: ArgumentT, reply: Reply) -> tuple[int, ArgumentT]:
    if isinstance(reply.argument, type(request)):
        return reply.error, reply.argument
    _check(target, request, reply.error)
    raise _malformed(target, request)


def _check(target: Found, request: Packet, error: int) -> None:
    if error:
        raise RefusedError(f"{target.address}: {request.name}: {aoe_error_text(error)}")


def _silence(exchanger: Exchanger, target: Found, request: Packet) -> NoAnswerError:
    return NoAnswerError(
        f"{target.address} at {target.mac.hex(':')}: no answer to {request.name} "
        f"within {exchanger.timeout_s:g} s"
    )


def _malformed(target: Found, request: Packet) -> RefusedError:
    return RefusedError(
        f"{target.address} at {target.mac.hex(':')}: malformed answer to {request.name}"
    )
