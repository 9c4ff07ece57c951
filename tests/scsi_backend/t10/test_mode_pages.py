# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode pages, headers and block descriptors against bytes from SPC-5 7.5 and SBC-4 6.5."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import mode_pages
from scsi_backend.t10.mode_pages import ModeHeader, ModePage, PageControl, PowerCondition

GOLDEN = [
    (
        mode_pages.read_write_error_recovery_page(reports_thresholds=False),
        "010a" + "00" * 10,
    ),
    (
        mode_pages.read_write_error_recovery_page(reports_thresholds=True),
        "010a" + "00" * 5 + "80" + "00" * 4,
    ),
    (mode_pages.disconnect_reconnect_page(), "020e" + "00" * 14),
    (
        # Enabled, soft, decreasing; available LBA mapping resource.
        mode_pages.logical_block_provisioning_page(threshold_count=0x01020304),
        "5c020014" + "00" * 12 + "80" + "01" + "0000" + "01020304",
    ),
    (
        # Sectors per track 56, bytes per sector, interleave 1, HSEC.
        mode_pages.format_device_page(block_size_bytes=512, is_removable=False),
        "0316" + "00" * 8 + "0038" + "0200" + "0001" + "00000000" + "40" + "000000",
    ),
    (
        mode_pages.format_device_page(block_size_bytes=4096, is_removable=True),
        "0316" + "00" * 8 + "0038" + "1000" + "0001" + "00000000" + "60" + "000000",
    ),
    (
        # Cylinders, heads 255, rpm.
        mode_pages.rigid_disk_geometry_page(
            block_count=255 * 56 * 0x010203 + 1, rotation_rate_rpm=15000
        ),
        "0416" + "010203" + "ff" + "00" * 14 + "3a98" + "0000",
    ),
    (
        mode_pages.rigid_disk_geometry_page(block_count=1 << 48, rotation_rate_rpm=0),
        "0416" + "ffffff" + "ff" + "00" * 14 + "0000" + "0000",
    ),
    (mode_pages.caching_page(), "0812" + "00" * 18),
    (mode_pages.control_page(tst=1), "0a0a" + "200000000000" + "ffff0000"),
    (mode_pages.control_page(tst=0), "0a0a" + "000000000000" + "ffff0000"),
    (mode_pages.control_extension_page(), "4a01001c" + "01" + "00" * 27),
    (mode_pages.informational_exceptions_control_page(), "1c0a" + "08" + "00" * 9),
]


@pytest.mark.parametrize(("page", "golden"), GOLDEN)
def test_page_has_its_golden_bytes(page: bytes, golden: str) -> None:
    assert page.hex() == golden


def test_6_byte_header_counts_what_follows_its_first_byte() -> None:
    header = ModeHeader(0x90, bytes(range(8)))
    assert header.with_pages_6(b"\xaa" * 4).hex() == "0f009008" + "0001020304050607" + "aa" * 4


def test_10_byte_header_counts_what_follows_its_first_two_bytes() -> None:
    header = ModeHeader(0x10, bytes(range(16)))
    data = header.with_pages_10(b"\xaa" * 300, is_long_lba=True)
    assert data.hex() == "014200100100" + "0010" + bytes(range(16)).hex() + "aa" * 300


def test_10_byte_header_without_descriptor_or_long_lba() -> None:
    assert ModeHeader(0, b"").with_pages_10(b"", is_long_lba=False).hex() == "0006000000000000"


@pytest.mark.parametrize(
    ("blocks", "golden"),
    [(0x1234, "00001234"), (0xFFFFFFFF, "ffffffff"), (1 << 33, "ffffffff")],
)
def test_short_block_descriptor_says_all_ones_for_a_count_that_does_not_fit(
    blocks: int, golden: str
) -> None:
    assert mode_pages.short_block_descriptor(blocks, 512).hex() == golden + "00000200"


def test_long_block_descriptor_has_a_64_bit_count() -> None:
    data = mode_pages.long_block_descriptor(1 << 33, 4096)
    assert data.hex() == "0000000200000000" + "00000000" + "00001000"


def test_codes_are_those_of_spc() -> None:
    assert {page.name: page.value for page in ModePage} == {
        "READ_WRITE_ERROR_RECOVERY": 0x01,
        "DISCONNECT_RECONNECT": 0x02,
        "FORMAT_DEVICE": 0x03,
        "RIGID_DISK_GEOMETRY": 0x04,
        "CACHING": 0x08,
        "CONTROL": 0x0A,
        "INFORMATIONAL_EXCEPTIONS_CONTROL": 0x1C,
        "ALL": 0x3F,
    }
    assert [control.name for control in sorted(PageControl)] == [
        "CURRENT",
        "CHANGEABLE",
        "DEFAULT",
        "SAVED",
    ]
    assert [control.value for control in sorted(PageControl)] == [0, 1, 2, 3]
    assert {condition.name: condition.value for condition in PowerCondition} == {
        "START_VALID": 0,
        "ACTIVE": 1,
        "IDLE": 2,
        "STANDBY": 3,
    }
