# SPDX-License-Identifier: GPL-2.0-or-later
"""AoE as scapy layers: requests to bytes, and replies from bytes.

Owns the clients' layouts, which must not come from the daemon's: each tells on the other's faults.
scapy's own (scapy.contrib.aoe) name the flag bits in reverse order: Response reads as "r2" there.
Nothing is bound to Ethernet for all of scapy: its own layers may be loaded, too.

Source: AoEr11 2 (header) and 3 (commands).
"""

# The tables of fields are lists because scapy's are.
# ruff: noqa: RUF012

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from scapy.fields import (
    BitEnumField,
    BitField,
    ByteEnumField,
    ByteField,
    FieldLenField,
    FieldListField,
    FlagsField,
    MACField,
    PacketListField,
    ShortField,
    StrLenField,
    XByteField,
    XIntField,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, bind_layers

from bridges.aoe.address import BROADCAST_SHELF, BROADCAST_SLOT, Address
from bridges.aoe.wire import (
    ETHERNET_HEADER_BYTES,
    ETHERTYPE,
    HEADER_BYTES,
    MIN_FRAME_BYTES,
    VERSION,
    AoeError,
    Command,
    ConfigCommand,
    HeaderFlag,
    MaskCommand,
    MaskDirective,
    MaskError,
    ReserveCommand,
)

ANY_TARGET: Final = Address(BROADCAST_SHELF, BROADCAST_SLOT)

_NO_MAC = "00:00:00:00:00:00"
_ETHERTYPE_OFFSET: Final = 12


def _names(codes: type[IntEnum]) -> dict[int, str]:
    return {code.value: code.name for code in codes}


class AoeHeader(Packet):
    """The header from the version on; scapy lists names of flags from the lowest bit up."""

    name = "AoE"
    fields_desc = [
        BitField("version", VERSION, 4),
        FlagsField("flags", 0, 4, ["reserved0", "reserved1", "error", "response"]),
        ByteEnumField("error", 0, _names(AoeError)),
        ShortField("major", BROADCAST_SHELF),
        ByteField("minor", BROADCAST_SLOT),
        ByteEnumField("cmd", 0, _names(Command)),
        XIntField("tag", 0),
    ]


class IssueAta(Packet):
    """Issue ATA Command: the registers, which data may follow."""

    name = "Issue ATA Command"
    fields_desc = [
        FlagsField("flags", 0, 8, ["w", "a", "z2", "z3", "d", "z5", "e", "z7"]),
        XByteField("feature", 0),
        ByteField("sector_count", 0),
        XByteField("opcode", 0),
        *(XByteField(f"lba{index}", 0) for index in range(6)),
        ShortField("reserved", 0),
    ]


class QueryConfig(Packet):
    """Query Config Information."""

    name = "Query Config Information"
    fields_desc = [
        ShortField("buffer_count", 0),
        ShortField("firmware_version", 0),
        ByteField("sector_count", 0),
        BitField("version", VERSION, 4),
        BitEnumField("ccmd", 0, 4, _names(ConfigCommand)),
        FieldLenField("length", None, fmt="H", length_of="string"),
        StrLenField("string", b"", length_from=lambda packet: packet.length),
    ]


class Directive(Packet):
    """One entry of MAC Mask List."""

    name = "Directive"
    fields_desc = [
        ByteField("reserved", 0),
        ByteEnumField("dcmd", 0, _names(MaskDirective)),
        MACField("mac", _NO_MAC),
    ]

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        """Leave what follows to the next directive."""
        return b"", s


class MacMaskList(Packet):
    """MAC Mask List."""

    name = "MAC Mask List"
    fields_desc = [
        ByteField("reserved", 0),
        ByteEnumField("mcmd", 0, _names(MaskCommand)),
        ByteEnumField("merror", 0, _names(MaskError)),
        FieldLenField("count", None, fmt="B", count_of="directives"),
        PacketListField("directives", [], Directive, count_from=lambda packet: packet.count),
    ]


class ReserveRelease(Packet):
    """Reserve/Release."""

    name = "Reserve/Release"
    fields_desc = [
        ByteEnumField("rcmd", 0, _names(ReserveCommand)),
        FieldLenField("count", None, fmt="B", count_of="macs"),
        FieldListField("macs", [], MACField("", _NO_MAC), count_from=lambda packet: packet.count),
    ]


# Both ways: the argument's class decides the code, and the code the class.
bind_layers(AoeHeader, IssueAta, cmd=Command.ISSUE_ATA_COMMAND.value)
bind_layers(AoeHeader, QueryConfig, cmd=Command.QUERY_CONFIG_INFORMATION.value)
bind_layers(AoeHeader, MacMaskList, cmd=Command.MAC_MASK_LIST.value)
bind_layers(AoeHeader, ReserveRelease, cmd=Command.RESERVE_RELEASE.value)


# Where the arguments' fixed part ends in a frame. What scapy does with less depends on its version.
_FIXED_END: Final[dict[type[Packet], int]] = {
    IssueAta: 36,
    QueryConfig: 32,
    MacMaskList: 28,
    ReserveRelease: 26,
}


def command_of(argument: Packet) -> Command:
    """Return the command that an argument belongs to."""
    return Command((AoeHeader() / argument).cmd)


def request_frame(
    source: bytes, destination: bytes, address: Address, argument: Packet, tag: int
) -> bytes:
    """Return a request as it goes on the wire, padded to Ethernet's least length."""
    header = AoeHeader(major=address.shelf, minor=address.slot, tag=tag)
    ethernet = Ether(src=source.hex(":"), dst=destination.hex(":"), type=ETHERTYPE)
    return bytes(ethernet / header / argument).ljust(MIN_FRAME_BYTES, b"\0")


class Reply(NamedTuple):
    """A target's reply. ``error`` is zero without the header's error flag.

    ``argument`` is None if the frame is too short for it.
    """

    destination: bytes
    source: bytes
    address: Address
    error: int
    command: int
    tag: int
    argument: Packet | None


def parse_reply(frame: bytes) -> Reply | None:
    """Return what a frame says, None for one that is no AoE reply."""
    if len(frame) < HEADER_BYTES:
        return None
    ethertype = frame[_ETHERTYPE_OFFSET:ETHERNET_HEADER_BYTES]
    header = AoeHeader(frame[ETHERNET_HEADER_BYTES:])
    if int.from_bytes(ethertype, "big") != ETHERTYPE or not header.flags & HeaderFlag.RESPONSE:
        return None
    has_error = bool(header.flags & HeaderFlag.ERROR)
    return Reply(
        destination=frame[:6],
        source=frame[6:12],
        address=Address(header.major, header.minor),
        error=header.error if has_error else 0,
        command=header.cmd,
        tag=header.tag,
        argument=_argument(header, len(frame)),
    )


def _argument(header: AoeHeader, frame_bytes: int) -> Packet | None:
    argument = header.payload
    # scapy turns what it cannot read into a layer of plain bytes.
    end = _FIXED_END.get(type(argument))
    return argument if end is not None and frame_bytes >= end else None


def mac_bytes(text: str) -> bytes:
    """Return the bytes of a MAC address that scapy has read."""
    return bytes.fromhex(text.replace(":", ""))
