# SPDX-License-Identifier: GPL-2.0-or-later
"""FORMAT UNIT: what it takes from its CDB and parameter list, and what it refuses."""

from __future__ import annotations

import pytest

from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Outcome, assert_check_condition, connect

GOOD = Outcome(Status.GOOD, None, b"")
FMTDATA, LONGLIST = 0x10, 0x20


@pytest.fixture
def vdisk() -> FaultyVdisk:
    vdisk = FaultyVdisk(64)
    vdisk.fill()
    return vdisk


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


def send(initiator: Initiator, data: str, flags: int = FMTDATA) -> Outcome:
    """FORMAT UNIT with a parameter list in hex digits."""
    return initiator.send(cdbs.format_unit(flags), bytes.fromhex(data))


def test_without_a_list_the_medium_is_zeroed(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    capacity = initiator.good(cdbs.raw("25"), None, 8)
    assert initiator.good(cdbs.FORMAT_UNIT) == b""
    assert not any(vdisk.data)
    assert vdisk.names == ["write_zeros", "sync"]
    assert initiator.good(cdbs.raw("25"), None, 8) == capacity


def test_data_out_without_fmtdata_is_not_looked_at(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    assert initiator.send(cdbs.FORMAT_UNIT, b"\xff" * 64) == GOOD
    assert not any(vdisk.data)


def test_thin_disk_is_deallocated() -> None:
    vdisk = FaultyVdisk(64, is_thin=True)
    vdisk.fill()
    connect(vdisk).good(cdbs.FORMAT_UNIT)
    assert vdisk.log == [("unmap", 0, 64 * 512), ("sync", 0, 0)]
    assert not any(vdisk.data)


@pytest.mark.parametrize(
    ("flags", "data"),
    [
        (FMTDATA, "00000000"),
        # Long block format, complete list.
        (FMTDATA | 0x0B, "00000000"),
        (FMTDATA | LONGLIST, "0000000000000000"),
        # FOV with DPRY, DCRT, STPF, which nothing comes of.
        (FMTDATA, "00f00000"),
        # Default pattern.
        (FMTDATA, "00880000" + "00000000"),
        (FMTDATA | LONGLIST, "0088000000000000" + "00000000"),
        # A pattern of zeros.
        (FMTDATA, "00880000" + "00010002" + "0000"),
        (FMTDATA, "00000000" + "ff" * 100),
    ],
)
def test_lists_that_ask_for_the_default(
    vdisk: FaultyVdisk, initiator: Initiator, flags: int, data: str
) -> None:
    assert send(initiator, data, flags) == GOOD
    assert vdisk.names == ["write_zeros", "sync"]
    assert not any(vdisk.data)


@pytest.mark.parametrize(
    ("flags", "header"), [(FMTDATA, "00880000"), (FMTDATA | LONGLIST, "0088000000000000")]
)
@pytest.mark.parametrize("pattern", ["5a", "01020304", "ab" * 512])
@pytest.mark.parametrize("is_thin", [False, True])
def test_initialization_pattern_is_written(
    flags: int, header: str, pattern: str, is_thin: bool
) -> None:
    vdisk = FaultyVdisk(64, is_thin=is_thin)
    block = bytes.fromhex(pattern)
    data = header + f"0001{len(block):04x}" + pattern
    assert send(connect(vdisk), data, flags) == GOOD
    assert vdisk.data == (block * 512)[:512] * 64
    assert vdisk.names == ["write", "sync"]


@pytest.mark.parametrize(
    ("cdb", "at"),
    [
        ("0440", (1, 7)),
        ("0480", (1, 7)),
        ("04d0", (1, 7)),
        ("0408", (1, 3)),
        ("0403", (1, 2)),
        ("0411", (1, 2)),
        ("0412", (1, 2)),
        ("0414", (1, 2)),
        ("0415", (1, 2)),
        ("0416", (1, 2)),
        ("0417", (1, 2)),
        ("0400000001", (4, 1)),
        ("0400000002", (4, 1)),
    ],
)
def test_protection_defects_and_fast_formats_are_refused(
    vdisk: FaultyVdisk, initiator: Initiator, cdb: str, at: tuple[int, int]
) -> None:
    outcome = initiator.send(cdbs.raw(cdb), bytes(64))
    assert_check_condition(outcome, "05/24/00", at=at)
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("flags", "data", "at"),
    [
        # Protection information.
        (FMTDATA, "01000000", (0, 2)),
        (FMTDATA | LONGLIST, "0000001000000000", (3, 7)),
        (FMTDATA | LONGLIST, "0000000100000000", (3, 3)),
        # Defects.
        (FMTDATA, "00000004" + "00000001", (2, 7)),
        (FMTDATA | LONGLIST, "0000000000000008" + "0" * 16, (4, 7)),
        # Options without FOV.
        (FMTDATA, "00400000", (1, 6)),
        (FMTDATA, "00200000", (1, 5)),
        (FMTDATA, "00100000", (1, 4)),
        (FMTDATA, "00080000" + "00010001" + "55", (1, 3)),
        # Initialization pattern descriptors.
        (FMTDATA, "00880000" + "40010001" + "55", (4, 7)),
        (FMTDATA, "00880000" + "20010001" + "55", (4, 5)),
        (FMTDATA, "00880000" + "00020001" + "55", (5, 7)),
        (FMTDATA, "00880000" + "00800001" + "55", (5, 7)),
        (FMTDATA, "00880000" + "00000001" + "55", (6, 7)),
        (FMTDATA, "00880000" + "00010000" + "55", (6, 7)),
        (FMTDATA, "00880000" + "00010201" + "55" * 513, (6, 7)),
        (FMTDATA | LONGLIST, "0088000000000000" + "00020001" + "55", (9, 7)),
    ],
)
def test_lists_that_are_refused_are_pointed_at(
    vdisk: FaultyVdisk, initiator: Initiator, flags: int, data: str, at: tuple[int, int]
) -> None:
    outcome = send(initiator, data, flags)
    assert_check_condition(outcome, "05/26/00", at=at, in_cdb=False)
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("flags", "data"),
    [
        (FMTDATA, ""),
        (FMTDATA, "000000"),
        (FMTDATA | LONGLIST, "00000000000000"),
        (FMTDATA, "00880000" + "000100"),
        (FMTDATA, "00880000" + "00010004" + "555555"),
    ],
)
def test_less_data_than_the_list_needs_is_a_data_phase_error(
    vdisk: FaultyVdisk, initiator: Initiator, flags: int, data: str
) -> None:
    assert_check_condition(send(initiator, data, flags), "0b/4b/00")
    assert vdisk.log == []


@pytest.mark.parametrize("flags", [FMTDATA, FMTDATA | LONGLIST])
def test_immediate_format_ends_before_it_is_done(flags: int) -> None:
    vdisk = FaultyVdisk(64)
    initiator = connect(vdisk)
    vdisk.is_held = True
    assert send(initiator, "0002" + "00" * 6, flags) == GOOD
    assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "02/04/04", progress=0)
    vdisk.release_all()
    initiator.good(cdbs.TEST_UNIT_READY)
    assert vdisk.names == ["write_zeros", "sync"]
