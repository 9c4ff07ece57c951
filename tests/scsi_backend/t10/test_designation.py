# SPDX-License-Identifier: GPL-2.0-or-later
"""Designation descriptors against bytes written out from SPC-5 7.7.6."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import designation
from scsi_backend.t10.designation import Association, CodeSet, DesignatorType

GOLDEN = [
    (designation.t10_vendor_id("SCST_FIO", "1a2b-disk"), "02010011", b"SCST_FIO1a2b-disk"),
    (designation.t10_vendor_id("A", "b"), "02010009", b"A       b"),
    (designation.t10_vendor_id("Longer than eight", ""), "02010008", b"Longer t"),
    (
        designation.t10_vendor_id("A", "nbd/t", Association.TARGET_PORT),
        "0211000d",
        b"A       nbd/t",
    ),
    (designation.t10_vendor_id("plätt", "plätte"), "0201000e", b"pl?tt   pl?tte"),
    (designation.t10_vendor_id("A", "b" * 300), "020100ff", b"A       " + b"b" * 247),
    (designation.eui_64(bytes(range(8))), "01020008", bytes(range(8))),
    (designation.eui_64(bytes(range(16))), "01020010", bytes(range(16))),
    (designation.naa(bytes(range(0x50, 0x58))), "01030008", bytes(range(0x50, 0x58))),
    (designation.naa(bytes(range(0x60, 0x70))), "01030010", bytes(range(0x60, 0x70))),
    (designation.relative_target_port(0x0102), "01140004", bytes.fromhex("00000102")),
    (designation.target_port_group(0x0203), "01150004", bytes.fromhex("00000203")),
    (designation.scsi_device_name("abc"), "03280004", b"abc\0"),
    (designation.scsi_device_name("abcd"), "03280008", b"abcd\0\0\0\0"),
    (designation.scsi_device_name("a" * 251), "032800fc", b"a" * 251 + b"\0"),
]


@pytest.mark.parametrize(("found", "header", "designator"), GOLDEN)
def test_descriptor_has_its_golden_bytes(found: bytes, header: str, designator: bytes) -> None:
    assert found.hex() == header + designator.hex()


def test_codes_are_those_of_spc() -> None:
    assert {each.name: each.value for each in CodeSet} == {"BINARY": 1, "ASCII": 2, "UTF_8": 3}
    assert {each.name: each.value for each in Association} == {
        "LOGICAL_UNIT": 0,
        "TARGET_PORT": 1,
        "TARGET_DEVICE": 2,
    }
    assert {each.name: each.value for each in DesignatorType} == {
        "T10_VENDOR_ID": 1,
        "EUI_64": 2,
        "NAA": 3,
        "RELATIVE_TARGET_PORT": 4,
        "TARGET_PORT_GROUP": 5,
        "SCSI_NAME_STRING": 8,
    }
