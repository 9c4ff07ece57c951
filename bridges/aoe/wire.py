# SPDX-License-Identifier: GPL-2.0-or-later
"""The AoE wire format: the header and the arguments of the commands, to and from bytes.

Owns offsets, sizes and code sets. What a frame means, and whether to answer it, must not live here.
Header fields are big-endian, the LBA little-endian. Reserved fields are written as zero and ignored
when read. The header and the ATA argument are named tuples because one is made for each frame.

Source: AoEr11 2 (header) and 3 (commands).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from bridges.aoe.address import BROADCAST_SHELF, BROADCAST_SLOT

ETHERTYPE: Final = 0x88A2
VERSION: Final = 1
BROADCAST_MAC: Final = b"\xff" * 6
ETHERNET_HEADER_BYTES: Final = 14
HEADER_BYTES: Final = 24
# IEEE 802.3 without the frame check sequence; aoeping and aoecfg ignore replies that are shorter.
MIN_FRAME_BYTES: Final = 60
SECTOR_BYTES: Final = 512
SECTOR_SHIFT: Final = 9
MAX_CONFIG_STRING_BYTES: Final = 1024

# Offsets in the frame.
ATA_OFFSET: Final = 24
ATA_OPCODE_OFFSET: Final = 27
ATA_DATA_OFFSET: Final = 36
CONFIG_STRING_OFFSET: Final = 32
MASK_DIRECTIVES_OFFSET: Final = 28
RESERVE_MACS_OFFSET: Final = 26
# Both lists count in one byte.
MAX_LIST_ENTRIES: Final = 255
MAC_BYTES: Final = 6


class Command(IntEnum):
    """Byte 19. Codes 4 to 239 are reserved, 240 to 255 are the vendors'."""

    ISSUE_ATA_COMMAND = 0
    QUERY_CONFIG_INFORMATION = 1
    MAC_MASK_LIST = 2
    RESERVE_RELEASE = 3


class HeaderFlag(IntFlag):
    """The low nibble of byte 14; the other two bits are reserved."""

    RESPONSE = 0x08
    ERROR = 0x04


class AoeError(IntEnum):
    """Byte 15 of a reply whose ERROR flag is set."""

    UNRECOGNIZED_COMMAND_CODE = 1
    BAD_ARGUMENT_PARAMETER = 2
    DEVICE_UNAVAILABLE = 3
    CONFIG_STRING_PRESENT = 4
    UNSUPPORTED_VERSION = 5
    TARGET_IS_RESERVED = 6


class AtaFlag(IntFlag):
    """Byte 24 of Issue ATA Command: extended, device/head bit 4, asynchronous, write."""

    E = 0x40
    D = 0x10
    A = 0x02
    W = 0x01


class ConfigCommand(IntEnum):
    """The low nibble of byte 29 of Query Config Information. Codes 5 to 15 are reserved."""

    READ = 0
    TEST = 1
    TEST_PREFIX = 2
    SET_IF_EMPTY = 3
    FORCE_SET = 4


class MaskCommand(IntEnum):
    """Byte 25 of MAC Mask List; codes from 2 on are reserved."""

    READ = 0
    EDIT = 1


class MaskDirective(IntEnum):
    """DCmd, the second byte of a directive."""

    NONE = 0
    ADD = 1
    DELETE = 2


class MaskError(IntEnum):
    """Byte 26 of MAC Mask List, in replies."""

    NONE = 0
    UNSPECIFIED = 1
    BAD_DIRECTIVE = 2
    LIST_FULL = 3


class ReserveCommand(IntEnum):
    """Byte 24 of Reserve/Release; codes from 3 on are reserved."""

    READ = 0
    SET = 1
    FORCE_SET = 2


# 0 destination, 6 source, 12 type, 14 version and flags, 15 error, 16 major, 18 minor,
# 19 command, 20 tag.
_HEADER = struct.Struct(">6s6sHBBHBBI")
# 24 flags, 25 error/feature, 26 sector count, 27 command/status, 28 lba0-3, 32 lba4-5.
_ATA = struct.Struct("<BBBBIH")
_DESTINATION = struct.Struct(">HB")
_DESTINATION_OFFSET: Final = 16
_ATA_FLAGS: Final = int(AtaFlag.E | AtaFlag.D | AtaFlag.A | AtaFlag.W)
_RESPONSE: Final = VERSION << 4 | int(HeaderFlag.RESPONSE)
_ERROR: Final = int(HeaderFlag.ERROR)


class Header(NamedTuple):
    """The 24 bytes before every command's argument, both directions."""

    destination: bytes
    source: bytes
    ethertype: int
    version_flags: int
    error: int
    major: int
    minor: int
    command: int
    tag: int

    @classmethod
    def parse(cls, frame: memoryview | bytes) -> Header:
        """Read the header of a frame, which must have its 24 bytes."""
        return cls._make(_HEADER.unpack_from(frame))

    def serialize(self) -> bytes:
        """Return the 24 bytes."""
        return _HEADER.pack(*self)

    @property
    def version(self) -> int:
        """The AoE version."""
        return self.version_flags >> 4

    @property
    def has_wildcard(self) -> bool:
        """Whether the header may address several targets."""
        return self.major == BROADCAST_SHELF or self.minor == BROADCAST_SLOT


def parse_destination(frame: memoryview | bytes) -> tuple[int, int]:
    """Return the major and minor address of a frame, which must have its 24 bytes."""
    major, minor = _DESTINATION.unpack_from(frame, _DESTINATION_OFFSET)
    return major, minor


def write_reply_header(
    reply: memoryview, request: Header, source: bytes, major: int, minor: int
) -> None:
    """Begin a reply to ``request``: no error, the answering target's own address."""
    _HEADER.pack_into(
        reply,
        0,
        request.source,
        source,
        ETHERTYPE,
        _RESPONSE,
        0,
        major,
        minor,
        request.command,
        request.tag,
    )


def set_error(reply: memoryview, error: int) -> None:
    """Make a reply an error reply."""
    reply[14] |= _ERROR
    reply[15] = error


class AtaArgument(NamedTuple):
    """The argument of Issue ATA Command (bytes 24 to 35), both directions; data may follow.

    ``feature`` and ``opcode`` are the error and status registers in a reply.
    """

    flags: int
    feature: int
    sector_count: int
    opcode: int
    lba_low: int
    lba_high: int

    @classmethod
    def parse(cls, frame: memoryview | bytes) -> AtaArgument:
        """Read the argument of a frame, which must have its 36 bytes."""
        return cls._make(_ATA.unpack_from(frame, ATA_OFFSET))

    def serialize(self) -> bytes:
        """Return the argument's 12 bytes."""
        return _ATA.pack(*self) + bytes(2)


def echo_ata_argument(reply: memoryview, request: memoryview) -> None:
    """Copy a request's ATA argument without its reserved bits."""
    reply[24:34] = request[24:34]
    reply[24] &= _ATA_FLAGS


def set_ata_success(reply: memoryview, status: int, count: int) -> None:
    """Write the status register and the sector count of a command that has succeeded."""
    reply[25] = 0
    reply[26] = count
    reply[27] = status


def set_ata_error(reply: memoryview, error: int, status: int) -> None:
    """Write the error and status registers."""
    reply[25] = error
    reply[27] = status


def set_remaining(reply: memoryview, count: int) -> None:
    """Write the sectors not transferred; the register has eight bits."""
    reply[26] = count & 0xFF


@dataclass(frozen=True, slots=True)
class ConfigArgument:
    """The argument of Query Config Information (from byte 24), both directions.

    ``buffer_count`` is in messages, ``sector_count`` in sectors. ``length_bytes`` is what the
    sender said of the string, which has fewer bytes if the frame ended before it.
    """

    buffer_count: int
    firmware_version: int
    sector_count: int
    version: int
    command: int
    length_bytes: int
    string: bytes

    # 24 buffer count, 26 firmware version, 28 sector count, 29 AoE version and command,
    # 30 string length, 32 string.
    _LAYOUT = struct.Struct(">HHBBH")

    @classmethod
    def parse(cls, frame: memoryview | bytes) -> ConfigArgument:
        """Read the argument of a frame, which must have 32 bytes."""
        buffers, firmware, sectors, code, length = cls._LAYOUT.unpack_from(frame, HEADER_BYTES)
        string = bytes(frame[CONFIG_STRING_OFFSET : CONFIG_STRING_OFFSET + length])
        return cls(buffers, firmware, sectors, code >> 4, code & 0x0F, length, string)

    def serialize(self) -> bytes:
        """Return the argument from byte 24 on."""
        head = self._LAYOUT.pack(
            self.buffer_count,
            self.firmware_version,
            self.sector_count,
            self.version << 4 | self.command,
            self.length_bytes,
        )
        return head + self.string


@dataclass(frozen=True, slots=True)
class MaskArgument:
    """The argument of MAC Mask List (from byte 24), both directions.

    ``count`` is what the sender said of ``directives``, (DCmd, MAC) each, of which there are fewer
    if the frame ended before them; in a reply with an error it is the index of the failed one.
    """

    command: int
    error: int
    count: int
    directives: tuple[tuple[int, bytes], ...] = ()

    # 24 reserved, 25 MCmd, 26 MError, 27 Dir Count; then directives: reserved, DCmd, MAC.
    _LAYOUT = struct.Struct(">xBBB")
    _DIRECTIVE = struct.Struct(">xB6s")
    DIRECTIVE_BYTES = _DIRECTIVE.size

    @classmethod
    def parse(cls, frame: memoryview | bytes) -> MaskArgument:
        """Read the argument of a frame, which must have 28 bytes."""
        command, error, count = cls._LAYOUT.unpack_from(frame, HEADER_BYTES)
        there = (len(frame) - MASK_DIRECTIVES_OFFSET) // cls._DIRECTIVE.size
        end = MASK_DIRECTIVES_OFFSET + min(count, there) * cls._DIRECTIVE.size
        directives = cls._DIRECTIVE.iter_unpack(frame[MASK_DIRECTIVES_OFFSET:end])
        return cls(command, error, count, tuple(directives))

    def serialize(self) -> bytes:
        """Return the argument from byte 24 on."""
        head = self._LAYOUT.pack(self.command, self.error, self.count)
        return head + b"".join(self._DIRECTIVE.pack(*directive) for directive in self.directives)


@dataclass(frozen=True, slots=True)
class ReserveArgument:
    """The argument of Reserve/Release (from byte 24), both directions.

    ``count`` is what the sender said of ``macs``, of which there are fewer if the frame ended
    before them.
    """

    command: int
    count: int
    macs: tuple[bytes, ...] = ()

    # 24 RCmd, 25 NMacs; then the MACs.
    _LAYOUT = struct.Struct(">BB")

    @classmethod
    def parse(cls, frame: memoryview | bytes) -> ReserveArgument:
        """Read the argument of a frame, which must have 26 bytes."""
        command, count = cls._LAYOUT.unpack_from(frame, HEADER_BYTES)
        there = (len(frame) - RESERVE_MACS_OFFSET) // MAC_BYTES
        end = RESERVE_MACS_OFFSET + min(count, there) * MAC_BYTES
        starts = range(RESERVE_MACS_OFFSET, end, MAC_BYTES)
        return cls(command, count, tuple(bytes(frame[at : at + MAC_BYTES]) for at in starts))

    def serialize(self) -> bytes:
        """Return the argument from byte 24 on."""
        return self._LAYOUT.pack(self.command, self.count) + b"".join(self.macs)
