# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the IDENTIFY DEVICE data, word by word."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bridges.aoe.identify import identify_data
from bridges.lun import LunInfo
from scsi_backend.t10.vpd import BlockLimits, Provisioning

_INFO = LunInfo(
    block_size_bytes=512,
    block_count=0x1234567,
    physical_block_exponent=0,
    is_read_only=False,
    has_fua=True,
    has_volatile_cache=True,
    is_rotational=True,
    is_removable=False,
    is_thin_provisioned=False,
    limits=BlockLimits.parse(b""),
    provisioning=Provisioning.parse(b""),
    vendor="SCST_FIO",
    product="disk0",
    revision="0100",
    serial="a1b2c3d",
    naa_id=bytes.fromhex("5000c500a1b2c3d4"),
)


def _words(info: LunInfo, *, durable: bool = False) -> tuple[int, ...]:
    data = identify_data(info, durable=durable)
    assert len(data) == 512
    return struct.unpack("<256H", data)


def _string(words: tuple[int, ...], first: int, last: int) -> str:
    return b"".join(word.to_bytes(2, "big") for word in words[first : last + 1]).decode("ascii")


# Written from ATA8-ACS 7.16.7 for the disk above. 16 heads of 63 sectors make 16383 cylinders at
# most, which are 16514064 (FBFC10h) sectors.
_EXPECTED = {
    0: 0x0040,
    1: 16383,
    3: 16,
    6: 63,
    47: 0x8001,
    48: 0x4000,
    49: 0x0300,
    50: 0x4000,
    53: 0x0007,
    54: 16383,
    55: 16,
    56: 63,
    57: 0xFC10,
    58: 0x00FB,
    59: 0x0101,
    60: 0x4567,
    61: 0x0123,
    63: 0x0007,
    64: 0x0003,
    65: 120,
    66: 120,
    67: 120,
    68: 120,
    80: 0x03F0,
    82: 0x0021,
    83: 0x7400,
    84: 0x4140,
    85: 0x0021,
    86: 0x3400,
    87: 0x4140,
    88: 0x203F,
    93: 0x400B,
    100: 0x4567,
    101: 0x0123,
    106: 0x4000,
    108: 0x5000,
    109: 0xC500,
    110: 0xA1B2,
    111: 0xC3D4,
    217: 15000,
}
_STRINGS = (*range(10, 20), *range(23, 47))


@pytest.mark.parametrize("number", sorted(set(range(255)) - set(_STRINGS)))
def test_word(number: int) -> None:
    assert _words(_INFO)[number] == _EXPECTED.get(number, 0)


def test_strings_are_padded_and_have_the_first_character_in_the_high_byte() -> None:
    words = _words(_INFO)
    assert _string(words, 10, 19) == "a1b2c3d             "
    assert _string(words, 23, 26) == "0100    "
    assert _string(words, 27, 46) == "SCST_FIO disk0                          "
    # In the data, each pair of characters is therefore swapped.
    assert identify_data(_INFO, durable=False)[20:28] == b"1a2b3c d"


def test_all_bytes_add_up_to_zero() -> None:
    data = identify_data(_INFO, durable=True)
    assert data[510] == 0xA5
    assert sum(data) % 256 == 0


@pytest.mark.parametrize(
    ("sectors", "words_60_61", "words_100_103"),
    [
        (0x0FFFFFFF, (0xFFFF, 0x0FFF), (0xFFFF, 0x0FFF, 0, 0)),
        (0x10000000, (0xFFFF, 0x0FFF), (0x0000, 0x1000, 0, 0)),
        (0x123456789ABC, (0xFFFF, 0x0FFF), (0x9ABC, 0x5678, 0x1234, 0)),
        (1 << 48, (0xFFFF, 0x0FFF), (0xFFFF, 0xFFFF, 0xFFFF, 0)),
    ],
)
def test_capacity_is_cut_to_what_each_command_set_can_reach(
    sectors: int, words_60_61: tuple[int, ...], words_100_103: tuple[int, ...]
) -> None:
    words = _words(replace(_INFO, block_count=sectors))
    assert words[60:62] == words_60_61
    assert words[100:104] == words_100_103


def test_a_small_disk_has_fewer_cylinders() -> None:
    words = _words(replace(_INFO, block_count=2048))
    assert (words[1], words[3], words[6]) == (2, 16, 63)
    assert words[57:59] == (2016, 0)


@pytest.mark.parametrize(
    ("has_volatile_cache", "durable", "supported", "enabled"),
    [
        (True, False, 0x21, 0x21),
        (True, True, 0x21, 0x01),
        (False, False, 0x01, 0x01),
        (False, True, 0x01, 0x01),
    ],
)
def test_write_cache_is_off_for_a_client_whose_writes_are_durable(
    has_volatile_cache: bool, durable: bool, supported: int, enabled: int
) -> None:
    words = _words(replace(_INFO, has_volatile_cache=has_volatile_cache), durable=durable)
    assert (words[82], words[85]) == (supported, enabled)


@pytest.mark.parametrize("durable", [True, False])
def test_a_write_cache_that_can_be_turned_on_is_supported_while_it_is_off(durable: bool) -> None:
    info = replace(_INFO, has_volatile_cache=False, can_change_write_cache=True)
    words = _words(info, durable=durable)
    assert (words[82], words[85]) == (0x21, 0x01)


def test_fua_and_world_wide_name_are_claimed_only_if_they_are_there() -> None:
    words = _words(replace(_INFO, has_fua=False, naa_id=None))
    assert (words[84], words[87]) == (0x4000, 0x4000)
    assert words[108:112] == (0, 0, 0, 0)


@pytest.mark.parametrize("name", [b"\x60" + bytes(15), b"\x30" + bytes(7), b"\x20" + bytes(7)])
def test_a_name_that_ata_does_not_have_is_left_out(name: bytes) -> None:
    words = _words(replace(_INFO, naa_id=name))
    assert words[84] == 0x4040
    assert words[108:112] == (0, 0, 0, 0)


def test_physical_sectors_of_4096_bytes_are_shown() -> None:
    words = _words(replace(_INFO, physical_block_exponent=3))
    assert (words[106], words[209]) == (0x6003, 0x4000)


def test_a_disk_that_does_not_rotate_says_so() -> None:
    assert _words(replace(_INFO, is_rotational=False))[217] == 1


_THIN = replace(
    _INFO,
    is_thin_provisioned=True,
    provisioning=Provisioning(
        has_unmap=True,
        has_write_same_16=True,
        has_write_same_10=True,
        reads_zeros=True,
        is_thin=True,
    ),
)


@pytest.mark.parametrize(
    ("info", "word_69", "word_105", "word_169"),
    [
        (_THIN, 0x4020, 1, 1),
        (replace(_THIN, provisioning=replace(_THIN.provisioning, reads_zeros=False)), 0, 1, 1),
        (replace(_THIN, provisioning=replace(_THIN.provisioning, has_unmap=False)), 0, 0, 0),
        (replace(_THIN, is_thin_provisioned=False), 0, 0, 0),
    ],
    ids=["zeros", "anything", "no UNMAP", "no LBPME"],
)
def test_trim_is_claimed_only_if_it_is_served(
    info: LunInfo, word_69: int, word_105: int, word_169: int
) -> None:
    words = _words(info)
    assert (words[69], words[105], words[169]) == (word_69, word_105, word_169)
