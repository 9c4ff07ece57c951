# SPDX-License-Identifier: GPL-2.0-or-later
"""IDENTIFY DEVICE data decoded: a disk of every feature, vblade's, the daemon's, and nonsense."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.aoe.identify import identify_data
from bridges.aoe_tools.identity import Feature, decode_identity
from bridges.lun import LunInfo
from scsi_backend.t10.vpd import BlockLimits, Provisioning

VALID = 0x4000


def data_of(words: Mapping[int, int]) -> bytes:
    """Data with some words, and zero in the others."""
    return struct.pack("<256H", *(words.get(number, 0) for number in range(256)))


def text_words(first: int, text: str) -> dict[int, int]:
    """Words of a string: the first of two characters in the high byte."""
    pairs = struct.unpack(f">{len(text) // 2}H", text.encode("ascii"))
    return {first + index: pair for index, pair in enumerate(pairs)}


# vblade 25 for 6144 sectors, as it was received; the host's name is part of the serial number.
VBLADE = {
    **text_words(10, "7.1:host".ljust(20)),
    **text_words(23, "V25".ljust(8)),
    **text_words(27, "Coraid EtherDrive vblade".ljust(40)),
    47: 0x8000,
    49: 0x0200,
    50: 0x4000,
    60: 6144,
    83: 0x5400,
    84: 0x4000,
    86: 0x1400,
    87: 0x4000,
    93: 0x400B,
    100: 6144,
}


def test_vblade_s_data_are_decoded() -> None:
    identity = decode_identity(data_of(VBLADE))
    assert identity.model == "Coraid EtherDrive vblade"
    assert identity.serial_number == "7.1:host"
    assert identity.firmware_revision == "V25"
    assert identity.sectors == 6144
    assert identity.size_bytes == 3 << 20
    assert (identity.sector_bytes, identity.physical_sector_bytes) == (512, 512)
    assert identity.rotation_rate_rpm is None
    assert identity.world_wide_name == ""
    assert identity.standard == ""
    assert identity.features == (
        Feature("LBA", None),
        Feature("48-bit addresses", True),
        Feature("FLUSH CACHE", True),
    )
    assert identity.has_valid_checksum is None


def test_the_daemon_s_data_are_decoded() -> None:
    info = LunInfo(
        block_size_bytes=512,
        block_count=(1 << 40) + 5,
        physical_block_exponent=3,
        is_read_only=False,
        has_fua=True,
        has_volatile_cache=True,
        is_rotational=False,
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
    identity = decode_identity(identify_data(info, durable=True))
    assert identity.model == "SCST_FIO disk0"
    assert identity.serial_number == "a1b2c3d"
    assert identity.firmware_revision == "0100"
    assert identity.sectors == (1 << 40) + 5
    assert (identity.sector_bytes, identity.physical_sector_bytes) == (512, 4096)
    assert identity.rotation_rate_rpm == 0
    assert identity.world_wide_name == "5000c500a1b2c3d4"
    assert Feature("volatile write cache", False) in identity.features
    assert Feature("FLUSH CACHE EXT", True) in identity.features
    assert identity.has_valid_checksum is True


# From ACS-2 table 45: feature, the word and bit that tell of it, the word that tells if it is on.
FEATURES = [
    ("DMA", 49, 8, None),
    ("LBA", 49, 9, None),
    ("reads after TRIM are deterministic", 69, 14, None),
    ("reads after TRIM are zeros", 69, 5, None),
    ("NCQ", 76, 8, None),
    ("SMART", 82, 0, 85),
    ("security", 82, 1, 85),
    ("power management", 82, 3, 85),
    ("PACKET", 82, 4, 85),
    ("volatile write cache", 82, 5, 85),
    ("read look-ahead", 82, 6, 85),
    ("host protected area", 82, 10, 85),
    ("WRITE BUFFER", 82, 12, 85),
    ("READ BUFFER", 82, 13, 85),
    ("NOP", 82, 14, 85),
    ("DOWNLOAD MICROCODE", 83, 0, 86),
    ("advanced power management", 83, 3, 86),
    ("power-up in standby", 83, 5, 86),
    ("48-bit addresses", 83, 10, 86),
    ("device configuration overlay", 83, 11, 86),
    ("FLUSH CACHE", 83, 12, 86),
    ("FLUSH CACHE EXT", 83, 13, 86),
    ("SMART error log", 84, 0, 87),
    ("SMART self-test", 84, 1, 87),
    ("streaming", 84, 4, 87),
    ("general purpose logs", 84, 5, 87),
    ("WRITE DMA FUA EXT", 84, 6, 87),
    ("world wide name", 84, 8, 87),
    ("IDLE IMMEDIATE with unload", 84, 13, 87),
    ("write-read-verify", 119, 1, 120),
    ("WRITE UNCORRECTABLE EXT", 119, 2, 120),
    ("READ LOG DMA EXT", 119, 3, 120),
    ("sense data reporting", 119, 6, 120),
    ("TRIM", 169, 0, None),
]
VOUCHERS = {83: VALID, 84: VALID, 87: VALID, 119: VALID, 120: VALID}


@pytest.mark.parametrize(("name", "word", "bit", "enabled"), FEATURES)
def test_each_feature_has_its_bit(name: str, word: int, bit: int, enabled: int | None) -> None:
    words = dict(VOUCHERS)
    assert decode_identity(data_of(words)).features == ()
    words[word] = words.get(word, 0) | 1 << bit
    off = None if enabled is None else False
    assert decode_identity(data_of(words)).features == (Feature(name, off),)
    if enabled is not None:
        words[enabled] = words.get(enabled, 0) | 1 << bit
        assert decode_identity(data_of(words)).features == (Feature(name, True),)


def test_every_feature_is_in_the_list() -> None:
    words = dict.fromkeys(range(256), 0x7FFF)
    names = {feature.name for feature in decode_identity(data_of(words)).features}
    assert names == {name for name, *_ in FEATURES}


def test_words_that_nothing_vouches_for_are_not_believed() -> None:
    words = {82: 0x4020, 83: 0x3400, 84: 0x0140, 119: 0x000E, 60: 1000, 100: 2000, 108: 0x5000}
    identity = decode_identity(data_of(words))
    assert identity.features == ()
    assert identity.sectors == 1000
    assert identity.world_wide_name == ""


def test_whether_a_feature_is_on_may_be_unknown() -> None:
    identity = decode_identity(data_of({82: 0x0020, 83: VALID, 85: 0x0020}))
    assert identity.features == (Feature("volatile write cache", None),)


@pytest.mark.parametrize("word", [0x0000, 0xFFFF])
def test_all_zeros_and_all_ones_mean_not_reported(word: int) -> None:
    identity = decode_identity(data_of(dict.fromkeys(range(256), word)))
    assert (identity.features, identity.standard) == ((), "")
    assert identity.rotation_rate_rpm is None


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ({}, (512, 512, 0)),
        ({106: 0x4000}, (512, 512, 0)),
        ({106: 0x6003}, (512, 4096, 0)),
        ({106: 0x6003, 209: 0x4007}, (512, 4096, 7)),
        ({106: 0x6003, 209: 0x0007}, (512, 4096, 0)),
        ({106: 0x5000, 117: 2048}, (4096, 4096, 0)),
        ({106: 0x7001, 117: 0x8000}, (65536, 131072, 0)),
        ({106: 0x5000}, (512, 512, 0)),
        # Not valid.
        ({106: 0x3003, 117: 2048}, (512, 512, 0)),
    ],
)
def test_sector_sizes_are_decoded(words: dict[int, int], sizes: tuple[int, int, int]) -> None:
    identity = decode_identity(data_of(words))
    found = (identity.sector_bytes, identity.physical_sector_bytes, identity.first_physical)
    assert found == sizes


@pytest.mark.parametrize(
    ("word", "rate"),
    [
        (0, None),
        (1, 0),
        (2, None),
        (0x0400, None),
        (0x0401, 0x0401),
        (7200, 7200),
        (0xFFFE, 0xFFFE),
        (0xFFFF, None),
    ],
)
def test_rotation_rates_are_decoded(word: int, rate: int | None) -> None:
    assert decode_identity(data_of({217: word})).rotation_rate_rpm == rate


@pytest.mark.parametrize(
    ("word", "standard"),
    [
        (0x0010, "ATA/ATAPI-4"),
        (0x00F0, "ATA/ATAPI-7"),
        (0x01F0, "ATA8-ACS"),
        (0x03F0, "ACS-2"),
        (0x07F0, "ACS-3"),
        (0x0FF0, "ACS-4"),
        (0x1FF0, "ACS-5"),
        (0x000E, "major version 3"),
        (0x2000, "major version 13"),
    ],
)
def test_the_highest_standard_is_told(word: int, standard: str) -> None:
    assert decode_identity(data_of({80: word})).standard == standard


def test_a_wrong_checksum_is_noticed() -> None:
    words = {0: 0x0040, 255: 0x1BA5}
    assert decode_identity(data_of(words)).has_valid_checksum is True
    assert decode_identity(data_of(words | {0: 0x0041})).has_valid_checksum is False


def test_strings_end_at_zeros_and_have_no_control_characters() -> None:
    words = text_words(27, "a\x1b[2Jdisk\0\0trash") | text_words(10, " 12 ")
    identity = decode_identity(data_of(words))
    assert identity.model == "a\ufffd[2Jdisk"
    assert identity.serial_number == "12"


@given(st.binary(min_size=512, max_size=512))
def test_no_data_are_too_much_for_the_decoder(data: bytes) -> None:
    identity = decode_identity(data)
    assert identity.model.isprintable()
    assert identity.size_bytes >= 0
