# SPDX-License-Identifier: GPL-2.0-or-later
"""INQUIRY data against bytes written out from SPC-5 6.7, 7.7 and SBC-4 6.6."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsi_backend.t10 import vpd
from scsi_backend.t10.vpd import BlockLimits, Provisioning, VpdPage

STANDARD = (
    "000006125b000002"
    + b"SCST_FIO".hex()
    + b"disk1           ".hex()
    + b"0100".hex()
    + "00" * 22
    + "00a0046004c0"
    + "00" * 32
)


def test_standard_inquiry_has_its_golden_bytes() -> None:
    data = vpd.standard_inquiry(
        vendor="SCST_FIO", product="disk1", revision="0100", is_removable=False
    )
    assert data.hex() == STANDARD
    assert len(data) == 96


def test_removable_and_peripheral_change_the_first_two_bytes_only() -> None:
    data = vpd.standard_inquiry(
        vendor="SCST_FIO", product="disk1", revision="0100", is_removable=True, peripheral=0x7F
    )
    assert data.hex() == "7f80" + STANDARD[4:]


@pytest.mark.parametrize("tpgs", [1, 3])
def test_tpgs_lies_in_byte_five(tpgs: int) -> None:
    data = vpd.standard_inquiry(
        vendor="SCST_FIO", product="disk1", revision="0100", is_removable=False, tpgs=tpgs
    )
    assert data.hex() == STANDARD[:10] + f"{tpgs}0" + STANDARD[12:]


def test_long_and_foreign_text_is_cut_and_replaced() -> None:
    assert vpd.ascii_field("plättchen und mehr", 8) == b"pl?ttche"


def test_supported_pages_are_ascending() -> None:
    codes = [VpdPage.BLOCK_LIMITS, VpdPage.SUPPORTED_VPD_PAGES, VpdPage.UNIT_SERIAL_NUMBER]
    assert vpd.supported_pages(codes).hex() == "00000003" + "0080b0"


def test_unit_serial_number_has_its_golden_bytes() -> None:
    assert vpd.unit_serial_number("1a2b").hex() == "00800004" + b"1a2b".hex()


def test_device_identification_has_its_golden_bytes() -> None:
    data = vpd.device_identification(
        vendor="SCST_FIO",
        t10_dev_id="1a2b-disk",
        naa_id=bytes.fromhex("5000c50000000001"),
        relative_target_port=0x0102,
    )
    designators = "02010011" + b"SCST_FIO1a2b-disk".hex()
    designators += "01140004" + "00000102"
    designators += "01030008" + "5000c50000000001"
    assert data.hex() == "0083" + "0029" + designators


def test_device_identification_without_naa_has_two_designators() -> None:
    data = vpd.device_identification(
        vendor="A", t10_dev_id="b", naa_id=None, relative_target_port=1
    )
    designators = "02010009" + b"A       b".hex() + "01140004" + "00000001"
    assert data.hex() == "0083" + "0015" + designators


def test_device_identification_names_the_target_port_group_after_the_port() -> None:
    data = vpd.device_identification(
        vendor="A",
        t10_dev_id="b",
        naa_id=bytes.fromhex("5000c50000000001"),
        relative_target_port=1,
        target_port_group=0x0203,
    )
    designators = "02010009" + b"A       b".hex() + "01140004" + "00000001"
    designators += "01150004" + "00000203" + "01030008" + "5000c50000000001"
    assert data.hex() == "0083" + "0029" + designators


def test_device_identification_survives_a_name_beyond_ascii() -> None:
    data = vpd.device_identification(
        vendor="A", t10_dev_id="plätte", naa_id=None, relative_target_port=1
    )
    assert b"A       pl?tte" in data


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
)
BLOCK_LIMITS_BYTES = (
    "00b0003c" + "011f" + "0102" + "03040506" + "0708090a" + "00000000"
    "0b0c0d0e" + "0f101112" + "13141516" + "80000000" + "1718191a1b1c1d1e" + "00" * 20
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


@pytest.mark.parametrize(
    ("record", "golden"),
    [
        (Provisioning(True, True, True, True, True), "00b20004" + "00e40200"),
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
        "BLOCK_LIMITS": 0xB0,
        "BLOCK_DEVICE_CHARACTERISTICS": 0xB1,
        "LOGICAL_BLOCK_PROVISIONING": 0xB2,
    }
