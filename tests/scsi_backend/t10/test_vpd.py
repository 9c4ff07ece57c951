# SPDX-License-Identifier: GPL-2.0-or-later
"""INQUIRY data against bytes written out from SPC-5 6.7, 7.7 and SBC-4 6.6."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsi_backend.t10 import vpd
from scsi_backend.t10.vpd import (
    BlockLimits,
    ExtendedInquiry,
    Provisioning,
    StandardInquiry,
    VpdPage,
)

STANDARD = (
    "000006125b000002"
    + b"SCST_FIO".hex()
    + b"disk1           ".hex()
    + b"0100".hex()
    + "00" * 22
    + "00a0046004c0"
    + "00" * 32
)


PLAIN = StandardInquiry(vendor="SCST_FIO", product="disk1", revision="0100")


def test_standard_inquiry_has_its_golden_bytes() -> None:
    assert PLAIN.serialize().hex() == STANDARD
    assert len(PLAIN.serialize()) == 96


@pytest.mark.parametrize(
    ("data", "byte", "value"),
    [
        (replace(PLAIN, peripheral=0x7F), 0, 0x7F),
        (replace(PLAIN, is_removable=True), 1, 0x80),
        (replace(PLAIN, has_third_party_copy=True), 5, 0x08),
        (replace(PLAIN, tpgs=3), 5, 0x30),
        (replace(PLAIN, is_multiport=True), 6, 0x10),
    ],
    ids=["peripheral", "RMB", "3PC", "TPGS", "MULTIP"],
)
def test_each_claim_changes_its_byte_only(data: StandardInquiry, byte: int, value: int) -> None:
    golden = bytearray.fromhex(STANDARD)
    golden[byte] = value
    assert data.serialize() == golden


def test_vendor_specific_data_of_20_bytes_are_at_byte_36_and_longer_ones_at_the_end() -> None:
    short = replace(PLAIN, vendor_specific=b"v" * 20).serialize()
    assert short.hex() == STANDARD[:72] + "76" * 20 + STANDARD[112:]
    long = replace(PLAIN, vendor_specific=b"v" * 21).serialize()
    assert long.hex() == STANDARD[:8] + "70" + STANDARD[10:] + "76" * 21
    longest = replace(PLAIN, vendor_specific=b"v" * 160).serialize()
    assert (len(longest), longest[4]) == (256, 251)


def test_long_and_foreign_text_is_cut_and_replaced() -> None:
    assert vpd.ascii_field("plättchen und mehr", 8) == b"pl?ttche"


def test_supported_pages_are_ascending() -> None:
    codes = [VpdPage.BLOCK_LIMITS, VpdPage.SUPPORTED_VPD_PAGES, VpdPage.UNIT_SERIAL_NUMBER]
    assert vpd.supported_pages(codes).hex() == "00000003" + "0080b0"


def test_unit_serial_number_has_its_golden_bytes() -> None:
    assert vpd.unit_serial_number("1a2b").hex() == "00800004" + b"1a2b".hex()


def test_device_identification_has_its_descriptors_in_order() -> None:
    data = vpd.device_identification([b"\x02\x01\0\x01a", b"\x01\x14\0\x01b"])
    assert data.hex() == "0083000a" + "0201000161" + "0114000162"


@pytest.mark.parametrize(("has_volatile_cache", "v_sup"), [(True, "01"), (False, "00")])
def test_extended_inquiry_has_its_golden_bytes(has_volatile_cache: bool, v_sup: str) -> None:
    # HEADSUP ORDSUP SIMPSUP; V_SUP; LUICLR; maximum sense data length in byte 13.
    data = ExtendedInquiry(has_volatile_cache=has_volatile_cache, max_sense_bytes=0x40)
    golden = "0086003c" + "00" + "07" + v_sup + "01" + "00" * 5 + "40" + "00" * 50
    assert data.serialize().hex() == golden


def test_mode_page_policy_is_one_for_all_pages() -> None:
    assert vpd.mode_page_policy().hex() == "00870004" + "3fff0000"


def test_scsi_ports_have_their_golden_bytes() -> None:
    one = "0000" + "0001" + "0000" + "0000" + "0000" + "0002" + "aabb"
    other = "0000" + "0102" + "0000" + "0000" + "0000" + "0000"
    data = vpd.scsi_ports([(1, b"\xaa\xbb"), (0x0102, b"")])
    assert data.hex() == "0088001a" + one + other
    assert vpd.scsi_ports([]).hex() == "00880000"


BLOCK_LIMITS = BlockLimits(
    optimal_granularity=0x0102,
    max_transfer=0x03040506,
    optimal_transfer=0x0708090A,
    max_unmap=0x0B0C0D0E,
    max_unmap_descriptors=0x0F101112,
    unmap_granularity=0x13141516,
    max_write_same=0x1718191A1B1C1D1E,
    is_write_same_non_zero=True,
    max_compare_and_write=0x1F,
    max_atomic=0x20212223,
)
BLOCK_LIMITS_BYTES = (
    "00b0003c" + "011f" + "0102" + "03040506" + "0708090a" + "00000000"
    "0b0c0d0e" + "0f101112" + "13141516" + "80000000" + "1718191a1b1c1d1e" + "20212223" + "00" * 16
)


def test_block_limits_have_their_golden_bytes() -> None:
    assert BLOCK_LIMITS.serialize().hex() == BLOCK_LIMITS_BYTES


def test_golden_block_limits_parse_into_the_record() -> None:
    assert BlockLimits.parse(memoryview(bytes.fromhex(BLOCK_LIMITS_BYTES))) == BLOCK_LIMITS


def test_block_limits_without_unmap_claim_no_alignment() -> None:
    limits = BlockLimits(8, 0, 0, 0, 0, 0, 0, is_write_same_non_zero=False)
    assert limits.serialize().hex() == "00b0003c" + "00000008" + "00" * 56


@given(st.binary(max_size=64))
def test_block_limits_of_any_length_parse(data: bytes) -> None:
    whole = data.ljust(64, b"\0")
    assert BlockLimits.parse(data) == BlockLimits.parse(whole)
    assert BlockLimits.parse(data).max_transfer == int.from_bytes(whole[8:12], "big")


@pytest.mark.parametrize(("is_rotational", "rate"), [(True, "3a98"), (False, "0001")])
def test_characteristics_tell_the_rotation_rate(is_rotational: bool, rate: str) -> None:
    data = vpd.block_device_characteristics(is_rotational=is_rotational)
    assert data.hex() == "00b1003c" + rate + "00" * 58


def test_characteristics_say_that_reads_are_good_after_a_block_erase() -> None:
    data = vpd.block_device_characteristics(is_rotational=False, has_block_erase=True)
    assert data.hex() == "00b1003c" + "00010040" + "00" * 56


@pytest.mark.parametrize(
    ("record", "golden"),
    [
        (Provisioning(True, True, True, True, True), "00b20004" + "00e40200"),
        (Provisioning(True, True, True, True, True, 11), "00b20004" + "0be40200"),
        (Provisioning(True, False, False, False, True), "00b20004" + "00800200"),
        (Provisioning(False, True, False, False, False), "00b20004" + "00400100"),
        (Provisioning(False, False, True, True, False), "00b20004" + "00240100"),
    ],
)
def test_provisioning_has_its_golden_bytes_and_parses(record: Provisioning, golden: str) -> None:
    assert record.serialize().hex() == golden
    assert Provisioning.parse(bytes.fromhex(golden)) == record


def test_only_lbprz_xx1b_means_zeros_and_few_bytes_parse() -> None:
    for lbprz, reads_zeros in ((0x00, False), (0x04, True), (0x08, False), (0x0C, True)):
        page = bytes.fromhex("00b20004") + bytes((0, lbprz, 0, 0))
        assert Provisioning.parse(page).reads_zeros is reads_zeros
    assert Provisioning.parse(b"") == Provisioning(False, False, False, False, False)


def test_page_codes_are_those_of_spc_and_sbc() -> None:
    assert {page.name: page.value for page in VpdPage} == {
        "SUPPORTED_VPD_PAGES": 0x00,
        "UNIT_SERIAL_NUMBER": 0x80,
        "DEVICE_IDENTIFICATION": 0x83,
        "EXTENDED_INQUIRY_DATA": 0x86,
        "MODE_PAGE_POLICY": 0x87,
        "SCSI_PORTS": 0x88,
        "THIRD_PARTY_COPY": 0x8F,
        "BLOCK_LIMITS": 0xB0,
        "BLOCK_DEVICE_CHARACTERISTICS": 0xB1,
        "LOGICAL_BLOCK_PROVISIONING": 0xB2,
    }
