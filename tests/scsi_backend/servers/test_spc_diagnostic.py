# SPDX-License-Identifier: GPL-2.0-or-later
"""SEND DIAGNOSTIC, the default self-test and the form without a test; what can be received."""

from __future__ import annotations

import errno

import pytest

from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import assert_check_condition, connect


def test_the_self_test_reads_the_first_and_the_last_block() -> None:
    vdisk = FaultyVdisk()
    connect(vdisk).good(cdbs.raw("1d0400000000"))
    assert vdisk.log == [("read", 0, 512), ("read", 1023 * 512, 512)]


@pytest.mark.parametrize("lba", [0, 1023])
def test_a_block_that_cannot_be_read_fails_the_self_test(lba: int) -> None:
    vdisk = FaultyVdisk()
    vdisk.faults.errno_at[lba] = errno.EIO
    assert_check_condition(connect(vdisk).send(cdbs.raw("1d0400000000")), "04/3e/03")


def test_a_backing_store_cut_short_fails_the_self_test() -> None:
    vdisk = FaultyVdisk()
    vdisk.faults.stored_bytes = 1023 * 512 + 511
    assert_check_condition(connect(vdisk).send(cdbs.raw("1d0400000000")), "04/3e/03")


def test_a_disk_without_blocks_cannot_pass() -> None:
    assert_check_condition(
        connect(FaultyVdisk(blocks=0)).send(cdbs.raw("1d0400000000")), "04/3e/03"
    )


@pytest.mark.parametrize("cdb", ["1d0000000000", "1d1000000000", "1d0300000000"])
def test_without_a_test_there_is_nothing_to_do(cdb: str) -> None:
    vdisk = FaultyVdisk()
    connect(vdisk).good(cdbs.raw(cdb))
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("cdb", "at"),
    [
        ("1d2000000000", (1, 7)),
        ("1d8400000000", (1, 7)),
        ("1d1000000800", (3, 7)),
        ("1d1000000300", (3, 7)),
        ("1d0000000400", (3, 7)),
        ("1d1400000400", (3, 7)),
    ],
    ids=[
        "background self-test",
        "abort with SELFTEST",
        "two diagnostic pages",
        "page cut short",
        "page of the vendor",
        "page with SELFTEST",
    ],
)
def test_other_diagnostics_are_refused(cdb: str, at: tuple[int, int]) -> None:
    assert_check_condition(connect(FaultyVdisk()).send(cdbs.raw(cdb), bytes(8)), "05/24/00", at=at)


SUPPORTED_PAGES = bytes.fromhex("0000000100")


@pytest.mark.parametrize("flags", ["01", "00"], ids=["PCV", "after SEND DIAGNOSTIC"])
def test_the_page_of_supported_pages_is_the_only_one(flags: str) -> None:
    initiator = connect(FaultyVdisk())
    initiator.good(cdbs.raw("1d1000000400"), bytes(4))
    assert initiator.good(cdbs.raw(f"1c{flags}00ffff00"), None, 255) == SUPPORTED_PAGES
    assert initiator.good(cdbs.raw(f"1c{flags}00000300"), None, 255) == SUPPORTED_PAGES[:3]


@pytest.mark.parametrize("cdb", ["1c014000ff00", "1c01ff00ff00", "1c000100ff00"])
def test_other_pages_cannot_be_received(cdb: str) -> None:
    outcome = connect(FaultyVdisk()).send(cdbs.raw(cdb), None, 255)
    assert_check_condition(outcome, "05/24/00", at=(2, 7))


@pytest.mark.parametrize(
    ("page", "at"), [("40000000", (0, 7)), ("00000001", (2, 7)), ("00000100", (2, 7))]
)
def test_other_pages_cannot_be_sent(page: str, at: tuple[int, int]) -> None:
    outcome = connect(FaultyVdisk()).send(cdbs.raw("1d1000000400"), bytes.fromhex(page))
    assert_check_condition(outcome, "05/26/00", at=at, in_cdb=False)


def test_a_page_that_does_not_come_is_a_data_phase_error() -> None:
    outcome = connect(FaultyVdisk()).send(cdbs.raw("1d1000000400"), bytes(3))
    assert_check_condition(outcome, "0b/4b/00")
