# SPDX-License-Identifier: GPL-2.0-or-later
"""AoE frames of the load generator and of the reflector: bytes only (AoEr11, 2 and 3).

Written apart from bridges/aoe, so that a mistake there is not made here, too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

ETHERTYPE = 0x88A2
SHELF, SLOT = 1, 1
BROADCAST = b"\xff" * 6
# Ethernet header, AoE header and ATA argument.
HEADER_BYTES = 36
VERSION_OFFSET = 14
CONFIG_BYTES = 32
MIN_FRAME_BYTES = 60
ATA, CONFIG = 0, 1
# Version 1 in the upper half; R, and R with E, in the lower.
REQUEST, RESPONSE, ERROR = 0x10, 0x18, 0x1C
READ_EXT, WRITE_EXT = 0x24, 0x34
# Flags of the ATA argument: E (48-bit), W (data from the initiator).
LBA48, WRITE = 0x40, 0x01
DRDY = 0x40

# Destination, source, ethertype, version and flags, error, shelf, slot, command. The tag comes
# next; the target sends it back unseen, so it is written in the order of bytes of this machine.
_AOE = struct.Struct(">6s6sHBBHBB")
_TAG = struct.Struct("=I")
TAG_OFFSET = _AOE.size
# Flags, error or feature, sector count, command or status, LBA 0-5, two reserved bytes.
_ATA = struct.Struct("<BBBBIH2x")
ATA_OFFSET = TAG_OFFSET + _TAG.size
# Buffer count, firmware version, sector count, AoE version and command, string length.
_CONFIG = struct.Struct(">HHBBH")


@dataclass(frozen=True, slots=True)
class Route:
    """The two MAC addresses, of the target and of the initiator."""

    target: bytes
    initiator: bytes

    def aoe(self, command: int, tag: int) -> bytes:
        """The Ethernet and AoE headers of a request."""
        head = (self.target, self.initiator, ETHERTYPE, REQUEST, 0, SHELF, SLOT, command)
        return _AOE.pack(*head) + _TAG.pack(tag)

    def ata(self, direction: str, lba: int, sectors: int, tag: int) -> bytes:
        """The 36 bytes in front of the data of a READ or WRITE SECTORS EXT."""
        flags, command = (LBA48 | WRITE, WRITE_EXT) if direction == "write" else (LBA48, READ_EXT)
        argument = _ATA.pack(flags, 0, sectors, command, lba & 0xFFFFFFFF, lba >> 32)
        return self.aoe(ATA, tag) + argument

    def query_config(self, tag: int) -> bytes:
        """A request for the config string, and with it for buffer and sector count."""
        return self.aoe(CONFIG, tag) + bytes(CONFIG_BYTES - ATA_OFFSET)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the generator looks at in a frame that it received."""

    source: bytes
    flags: int
    error: int
    command: int
    tag: int
    status: int
    data: bytes

    @classmethod
    def parse(cls, frame: bytes) -> Reply:
        """Read a frame of any length: what it is too short for is zero."""
        padded = frame.ljust(HEADER_BYTES, b"\0")
        _, source, _, flags, error, _, _, command = _AOE.unpack_from(padded)
        (tag,) = _TAG.unpack_from(padded, TAG_OFFSET)
        return cls(source, flags, error, command, tag, padded[ATA_OFFSET + 3], frame[HEADER_BYTES:])

    @property
    def is_announcement(self) -> bool:
        """Whether a target tells of itself without having been asked (AoEr11, 3.2)."""
        return self.command == CONFIG and self.tag == 0


def sectors_of_config(frame: bytes) -> int:
    """The sector count of a Query Config response. Raises ValueError for any other frame."""
    if len(frame) < CONFIG_BYTES or frame[14] != RESPONSE or frame[19] != CONFIG:
        raise ValueError(f"no Query Config response: {frame[14:CONFIG_BYTES].hex(' ')}")
    return int(_CONFIG.unpack_from(frame, ATA_OFFSET)[2])


def reply_head() -> bytes:
    """The six bytes from version to command that every good reply to an Issue ATA has."""
    return struct.pack(">BBHBB", RESPONSE, 0, SHELF, SLOT, ATA)


def reply_lengths(direction: str, sectors: int) -> tuple[int, ...]:
    """The lengths that a reply may have; a reply without data may be padded for Ethernet."""
    if direction == "read":
        return (HEADER_BYTES + sectors * 512,)
    return (MIN_FRAME_BYTES, HEADER_BYTES)
