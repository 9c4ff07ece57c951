# SPDX-License-Identifier: GPL-2.0-or-later
"""IDENTIFY DEVICE data: a LUN described in ATA's 256 words.

Claims only what ata.py serves: no security, no host protected area, no logs and no self-tests,
hence no bits for them. Transfer modes mean nothing in a frame; the words name usual ones because
clients decode them.

Source: ATA8-ACS 7.16.7 (T13/1699), ACS-2 for words 69, 105, 106, 169, 209 and 217.
"""

from __future__ import annotations

import struct
from typing import Final

from bridges.aoe.ata import MAX_TRIM_BLOCKS
from bridges.aoe.smart import with_checksum
from bridges.aoe.trim import can_trim
from bridges.lun import LunInfo
from scsi_backend.t10.vpd import NON_ROTATING, ROTATION_RATE_RPM

_WORDS: Final = 256
_MAX_LBA28_SECTORS: Final = 0x0FFFFFFF
_MAX_LBA48_SECTORS: Final = (1 << 48) - 1
_HEADS: Final = 16
_SECTORS_PER_TRACK: Final = 63
_MAX_CYLINDERS: Final = 16383

# Words whose value does not depend on the LUN.
_FIXED: Final = {
    # Not ATAPI, fixed device.
    0: 0x0040,
    # READ and WRITE MULTIPLE: at most one sector in a block, and one set.
    47: 0x8001,
    59: 0x0101,
    48: 0x4000,
    # LBA and DMA supported.
    49: 0x0300,
    50: 0x4000,
    # Words 54 to 58, 64 to 70 and 88 are valid.
    53: 0x0007,
    # Multiword DMA 0 to 2, PIO 3 and 4 with 120 ns cycles, Ultra DMA 0 to 5 with 5 selected.
    63: 0x0007,
    64: 0x0003,
    65: 120,
    66: 120,
    67: 120,
    68: 120,
    88: 0x203F,
    # ATA/ATAPI-4 to ACS-2.
    80: 0x03F0,
    # Hardware reset result: device 0, as vblade has it.
    93: 0x400B,
}

# Word 69: deterministic data, and zeros, in sectors that were trimmed.
_DRAT: Final = 1 << 14
_RZAT: Final = 1 << 5
# Words 82 and 85.
_SMART: Final = 1 << 0
_WRITE_CACHE: Final = 1 << 5
# Words 83 and 86: FLUSH CACHE EXT, FLUSH CACHE, 48-bit addresses.
_LBA48_AND_FLUSH: Final = 1 << 13 | 1 << 12 | 1 << 10
# Words 83, 84, 87, 106 and 209: bit 15 zero and bit 14 one say that the word is valid.
_VALID: Final = 1 << 14
# Words 84 and 87.
_WORLD_WIDE_NAME: Final = 1 << 8
_WRITE_FUA: Final = 1 << 6
# Word 169.
_TRIM: Final = 1 << 0
# Word 106.
_MULTIPLE_LOGICAL_SECTORS: Final = 1 << 13

_CHECKSUM_SIGNATURE: Final = 0xA5
# The NAA formats 2, 3 and 5 fill the four words of the world wide name; NAA 6 is longer.
_NAA_IEEE_REGISTERED: Final = 5


def identify_data(info: LunInfo, *, durable: bool) -> bytes:
    """Return the 512 bytes; ``durable``: every write is stable before its reply."""
    words = [0] * _WORDS
    for number, value in _FIXED.items():
        words[number] = value
    _put_geometry(words, info.block_count)
    _put_strings(words, info)
    _put_features(words, info, durable=durable)
    _put_sector_sizes(words, info.physical_block_exponent)
    if can_trim(info):
        words[69] = _DRAT | _RZAT if info.provisioning.reads_zeros else 0
        words[105] = MAX_TRIM_BLOCKS
        words[169] = _TRIM
    words[217] = ROTATION_RATE_RPM if info.is_rotational else NON_ROTATING
    return _with_checksum(struct.pack("<256H", *words))


def _put_geometry(words: list[int], sectors: int) -> None:
    cylinders = min(sectors // (_HEADS * _SECTORS_PER_TRACK), _MAX_CYLINDERS)
    chs = (cylinders, _HEADS, _SECTORS_PER_TRACK)
    words[1], words[3], words[6] = chs
    words[54:57] = chs
    words[57:59] = _little_endian_words(cylinders * _HEADS * _SECTORS_PER_TRACK, 2)
    words[60:62] = _little_endian_words(min(sectors, _MAX_LBA28_SECTORS), 2)
    words[100:104] = _little_endian_words(min(sectors, _MAX_LBA48_SECTORS), 4)


def _put_strings(words: list[int], info: LunInfo) -> None:
    words[10:20] = _string_words(info.serial, 20)
    words[23:27] = _string_words(info.revision, 8)
    words[27:47] = _string_words(f"{info.vendor} {info.product}".strip(), 40)


def _put_features(words: list[int], info: LunInfo, *, durable: bool) -> None:
    extended = _VALID
    if info.has_fua:
        extended |= _WRITE_FUA
    # ACS-3, words 108 to 111: ATA knows no other name than NAA 5.
    if info.naa_id is not None and info.naa_id[0] >> 4 == _NAA_IEEE_REGISTERED:
        extended |= _WORLD_WIDE_NAME
        words[108:112] = struct.unpack(">4H", info.naa_id)
    has_cache = info.has_volatile_cache or info.can_change_write_cache
    words[82] = _SMART | (_WRITE_CACHE if has_cache else 0)
    words[83] = _VALID | _LBA48_AND_FLUSH
    words[84] = extended
    # To this client the cache is off while each of its writes is stable before the reply.
    is_cached = info.has_volatile_cache and not durable
    words[85] = _SMART | (_WRITE_CACHE if is_cached else 0)
    words[86] = _LBA48_AND_FLUSH
    words[87] = extended


def _put_sector_sizes(words: list[int], physical_block_exponent: int) -> None:
    words[106] = _VALID
    if physical_block_exponent:
        words[106] |= _MULTIPLE_LOGICAL_SECTORS | physical_block_exponent
        # LBA 0 begins a physical sector.
        words[209] = _VALID


def _little_endian_words(value: int, count: int) -> list[int]:
    return [value >> 16 * index & 0xFFFF for index in range(count)]


def _string_words(text: str, length_bytes: int) -> tuple[int, ...]:
    """ASCII padded with blanks; the first character of each pair is the word's high byte."""
    field = text.encode("ascii", "replace")[:length_bytes].ljust(length_bytes)
    return struct.unpack(f">{length_bytes // 2}H", field)


def _with_checksum(data: bytes) -> bytes:
    """Word 255: a signature, and the byte that makes all 512 bytes add up to zero."""
    return with_checksum(data[:510] + bytes((_CHECKSUM_SIGNATURE,)))
