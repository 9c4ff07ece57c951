# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode pages, headers and block descriptors against bytes from SPC-5 7.5 and SBC-4 6.5."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import mode_pages
from scsi_backend.t10.mode_pages import ModeHeader, ModePage, PageControl, PowerCondition


@pytest.mark.parametrize(("wce", "flags"), [(True, "04"), (False, "00")])
def test_caching_page_tells_wce(wce: bool, flags: str) -> None:
    assert mode_pages.caching_page(wce=wce).hex() == "0812" + flags + "00" * 17


@pytest.mark.parametrize(
    ("tst", "d_sense", "swp", "golden"),
    [
        (1, False, False, "0a0a" + "201000000000" + "ffff0000"),
        (0, True, False, "0a0a" + "041000000000" + "ffff0000"),
        (0, False, True, "0a0a" + "001008000000" + "ffff0000"),
    ],
)
def test_control_page_has_its_golden_bytes(tst: int, d_sense: bool, swp: bool, golden: str) -> None:
    assert mode_pages.control_page(tst=tst, d_sense=d_sense, swp=swp).hex() == golden


def test_changeable_mask_keeps_the_header_and_clears_the_rest() -> None:
    page = mode_pages.control_page(tst=1, d_sense=True, swp=True)
    assert mode_pages.changeable_mask(page).hex() == "0a0a" + "00" * 10


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
        "CACHING": 0x08,
        "CONTROL": 0x0A,
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
