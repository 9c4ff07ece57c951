# SPDX-License-Identifier: GPL-2.0-or-later
"""MODE SENSE: pages, headers, block descriptors."""

from __future__ import annotations

import pytest

from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

CACHING_WCE = "0812" + "04" + "00" * 17
CACHING_NO_WCE = "0812" + "00" * 18
CONTROL = "0a0a" + "201000000000" + "ffff0000"
CHANGEABLE = "0812" + "04" + "00" * 17 + "0a0a" + "00" * 10
DESCRIPTOR = "00000400" + "00000200"


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


@pytest.mark.parametrize(
    ("byte_2", "golden"),
    [
        ("08", CACHING_WCE),
        ("0a", CONTROL),
        ("3f", CACHING_WCE + CONTROL),
        ("88", CACHING_WCE),
        ("bf", CACHING_WCE + CONTROL),
        ("48", CHANGEABLE[:40]),
        ("4a", CHANGEABLE[40:]),
        ("7f", CHANGEABLE),
    ],
    ids=["08", "0A", "all", "default 08", "default all", "mask 08", "mask 0A", "mask all"],
)
def test_mode_sense_returns_pages_by_code_and_control(
    initiator: Initiator, byte_2: str, golden: str
) -> None:
    length = len(golden) // 2
    without = initiator.good(cdbs.raw(f"1a08{byte_2}00ff00"), None, 255)
    assert without.hex() == f"{length + 3:02x}001000" + golden
    with_descriptor = initiator.good(cdbs.raw(f"1a00{byte_2}00ff00"), None, 255)
    assert with_descriptor.hex() == f"{length + 11:02x}001008" + DESCRIPTOR + golden
    without = initiator.good(cdbs.raw(f"5a08{byte_2}0000000000ff00"), None, 255)
    assert without.hex() == f"{length + 6:04x}001000000000" + golden
    with_descriptor = initiator.good(cdbs.raw(f"5a00{byte_2}0000000000ff00"), None, 255)
    assert with_descriptor.hex() == f"{length + 14:04x}001000000008" + DESCRIPTOR + golden


def test_long_lba_accepted_gives_the_16_byte_descriptor(initiator: Initiator) -> None:
    data = initiator.good(cdbs.raw("5a10080000000000ff00"), None, 255)
    descriptor = "0000000000000400" + "00000000" + "00000200"
    assert data.hex() == "002a001001000010" + descriptor + CACHING_WCE


def test_long_lba_without_block_descriptors_is_not_set(initiator: Initiator) -> None:
    data = initiator.good(cdbs.raw("5a18080000000000ff00"), None, 255)
    assert data.hex() == "001a001000000000" + CACHING_WCE


def test_mode_data_is_cut_to_the_allocation_length(initiator: Initiator) -> None:
    assert initiator.good(cdbs.raw("1a003f000400"), None, 255).hex() == "2b001008"
    assert initiator.good(cdbs.raw("5a003f00000000000800"), None, 255).hex() == "002e001000000008"


@pytest.mark.parametrize(
    ("vdisk", "golden"),
    [
        (FaultyVdisk(write_through=True), "17001000" + CACHING_NO_WCE),
        (FaultyVdisk(nv_cache=True), "17001000" + CACHING_NO_WCE),
        (FaultyVdisk(read_only=True), "17009000" + CACHING_NO_WCE),
    ],
    ids=["write_through", "nv_cache", "read_only"],
)
def test_caching_and_write_protection_show(vdisk: FaultyVdisk, golden: str) -> None:
    assert connect(vdisk).good(cdbs.raw("1a080800ff00"), None, 255).hex() == golden


def test_read_only_lun_shows_as_write_protected() -> None:
    initiator = connect(FaultyVdisk(), is_read_only=True)
    assert initiator.good(cdbs.raw("1a080800ff00"), None, 255).hex() == "17009000" + CACHING_WCE


@pytest.mark.parametrize("opcode", ["1a", "5a"])
@pytest.mark.parametrize(
    ("rest", "code", "at"),
    [
        ("08c800", "05/39/00", None),
        ("08ff00", "05/39/00", None),
        ("080a01", "05/24/00", (3, 7)),
        ("080100", "05/24/00", (2, 5)),
        ("083e00", "05/24/00", (2, 5)),
    ],
    ids=["saved", "all saved", "subpage", "page 01h", "page 3Eh"],
)
def test_mode_sense_refuses_what_it_does_not_have(
    initiator: Initiator, opcode: str, rest: str, code: str, at: tuple[int, int] | None
) -> None:
    outcome = initiator.send(cdbs.raw(opcode + rest + "ff000000ff0000"), None, 255)
    assert_check_condition(outcome, code, at=at)
