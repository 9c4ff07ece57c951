# SPDX-License-Identifier: GPL-2.0-or-later
"""IDENTIFY DEVICE data decoded: 256 little-endian words, any disk's.

Owns the clients' reading of the words; what the daemon's disks say is written elsewhere. Groups of
words are believed only where the data say that they are valid.

Source: ACS-2 7.12 (T13/2015), table 45.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from bridges.aoe.wire import SECTOR_BYTES

_WORDS = struct.Struct("<256H")
_NON_ROTATING: Final = 1
_CHECKSUM_SIGNATURE: Final = 0xA5
_NOT_REPORTED: Final = (0x0000, 0xFFFF)

# Word 80: the bit of each standard.
_STANDARDS: Final = {
    4: "ATA/ATAPI-4",
    5: "ATA/ATAPI-5",
    6: "ATA/ATAPI-6",
    7: "ATA/ATAPI-7",
    8: "ATA8-ACS",
    9: "ACS-2",
    10: "ACS-3",
    11: "ACS-4",
    12: "ACS-5",
}

# Words whose bits 15:14 are 01b if they, or the words that they vouch for, are valid.
_VOUCHED_BY: Final = {82: 83, 83: 83, 84: 84, 85: 87, 86: 87, 87: 87, 119: 119, 120: 120}


class _Row(NamedTuple):
    name: str
    word: int
    bit: int
    enabled_word: int = 0


# In the order of the words; the bit that tells whether a feature is on is the same in both words.
_FEATURES: Final = (
    _Row("DMA", 49, 8),
    _Row("LBA", 49, 9),
    _Row("reads after TRIM are deterministic", 69, 14),
    _Row("reads after TRIM are zeros", 69, 5),
    _Row("NCQ", 76, 8),
    _Row("SMART", 82, 0, 85),
    _Row("security", 82, 1, 85),
    _Row("power management", 82, 3, 85),
    _Row("PACKET", 82, 4, 85),
    _Row("volatile write cache", 82, 5, 85),
    _Row("read look-ahead", 82, 6, 85),
    _Row("host protected area", 82, 10, 85),
    _Row("WRITE BUFFER", 82, 12, 85),
    _Row("READ BUFFER", 82, 13, 85),
    _Row("NOP", 82, 14, 85),
    _Row("DOWNLOAD MICROCODE", 83, 0, 86),
    _Row("advanced power management", 83, 3, 86),
    _Row("power-up in standby", 83, 5, 86),
    _Row("48-bit addresses", 83, 10, 86),
    _Row("device configuration overlay", 83, 11, 86),
    _Row("FLUSH CACHE", 83, 12, 86),
    _Row("FLUSH CACHE EXT", 83, 13, 86),
    _Row("SMART error log", 84, 0, 87),
    _Row("SMART self-test", 84, 1, 87),
    _Row("streaming", 84, 4, 87),
    _Row("general purpose logs", 84, 5, 87),
    _Row("WRITE DMA FUA EXT", 84, 6, 87),
    _Row("world wide name", 84, 8, 87),
    _Row("IDLE IMMEDIATE with unload", 84, 13, 87),
    _Row("write-read-verify", 119, 1, 120),
    _Row("WRITE UNCORRECTABLE EXT", 119, 2, 120),
    _Row("READ LOG DMA EXT", 119, 3, 120),
    _Row("sense data reporting", 119, 6, 120),
    _Row("TRIM", 169, 0),
)


class Feature(NamedTuple):
    """A feature that the disk supports; ``is_enabled`` is None where the disk does not say."""

    name: str
    is_enabled: bool | None


@dataclass(frozen=True, slots=True)
class Identity:
    """What a disk says of itself.

    ``sector_bytes`` are of a logical sector, in which ``sectors`` and ``first_physical`` count (how
    far LBA 0 is into a physical sector). ``rotation_rate_rpm`` is 0 for a medium that does not
    rotate, None where the disk does not say. ``world_wide_name`` is in hex digits, or empty.
    ``has_valid_checksum`` is None for data without a checksum.
    """

    model: str
    serial_number: str
    firmware_revision: str
    sectors: int
    sector_bytes: int
    physical_sector_bytes: int
    first_physical: int
    rotation_rate_rpm: int | None
    world_wide_name: str
    standard: str
    features: tuple[Feature, ...]
    has_valid_checksum: bool | None

    @property
    def size_bytes(self) -> int:
        """The capacity."""
        return self.sectors * self.sector_bytes


def decode_identity(data: bytes) -> Identity:
    """Return what 512 bytes of IDENTIFY DEVICE data say; every content is possible."""
    words = _WORDS.unpack(data[:SECTOR_BYTES])
    sector_bytes, physical_sector_bytes, first_physical = _sector_sizes(words)
    return Identity(
        model=_text(words, 27, 20),
        serial_number=_text(words, 10, 10),
        firmware_revision=_text(words, 23, 4),
        sectors=_sectors(words),
        sector_bytes=sector_bytes,
        physical_sector_bytes=physical_sector_bytes,
        first_physical=first_physical,
        rotation_rate_rpm=_rotation_rate(words[217]),
        world_wide_name=_world_wide_name(words),
        standard=_standard(words[80]),
        features=tuple(_features(words)),
        has_valid_checksum=_has_valid_checksum(data, words[255]),
    )


def _text(words: tuple[int, ...], first: int, count: int) -> str:
    """ASCII, the first character of each pair in the word's high byte; padded with blanks."""
    field = struct.pack(f">{count}H", *words[first : first + count])
    text = field.split(b"\0")[0].decode("ascii", "replace").strip()
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _sectors(words: tuple[int, ...]) -> int:
    if _bit(words, 83, 10):
        return _number(words, 100, 4)
    return _number(words, 60, 2)


def _sector_sizes(words: tuple[int, ...]) -> tuple[int, int, int]:
    """Bytes of a logical and of a physical sector, and where the first one begins."""
    logical = SECTOR_BYTES
    exponent = first = 0
    word = words[106]
    if _is_valid(word):
        # Bit 12: words 117 and 118 have the size in words of 16 bits.
        if word & 1 << 12:
            logical = 2 * _number(words, 117, 2) or SECTOR_BYTES
        if word & 1 << 13:
            exponent = word & 0x0F
            first = words[209] & 0x3FFF if _is_valid(words[209]) else 0
    return logical, logical << exponent, first


def _rotation_rate(word: int) -> int | None:
    if word == _NON_ROTATING:
        return 0
    # 0401h to FFFEh are rates.
    return word if 0x0401 <= word <= 0xFFFE else None


def _world_wide_name(words: tuple[int, ...]) -> str:
    if not _bit(words, 87, 8):
        return ""
    return struct.pack(">4H", *words[108:112]).hex()


def _standard(word: int) -> str:
    if word in _NOT_REPORTED:
        return ""
    highest = word.bit_length() - 1
    return _STANDARDS.get(highest, f"major version {highest}")


def _features(words: tuple[int, ...]) -> list[Feature]:
    return [
        Feature(row.name, _bit(words, row.enabled_word, row.bit) if row.enabled_word else None)
        for row in _FEATURES
        if _bit(words, row.word, row.bit)
    ]


def _bit(words: tuple[int, ...], number: int, bit: int) -> bool | None:
    """A bit of a word, None if the word is not to be believed."""
    word = words[number]
    voucher = _VOUCHED_BY.get(number)
    is_believed = word not in _NOT_REPORTED if voucher is None else _is_valid(words[voucher])
    return bool(word & 1 << bit) if is_believed else None


def _is_valid(word: int) -> bool:
    return word >> 14 == 0b01


def _number(words: tuple[int, ...], first: int, count: int) -> int:
    return sum(words[first + index] << 16 * index for index in range(count))


def _has_valid_checksum(data: bytes, word: int) -> bool | None:
    if word & 0xFF != _CHECKSUM_SIGNATURE:
        return None
    return sum(data[:SECTOR_BYTES]) & 0xFF == 0
