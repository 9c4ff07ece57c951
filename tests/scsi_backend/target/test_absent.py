# SPDX-License-Identifier: GPL-2.0-or-later
"""What a target answers for a LUN that leads nowhere."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.t10.status import Status
from scsi_backend.target.absent import ABSENT_DISPATCH
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect_unit

ANSWERED = {0x03, 0x12, 0xA0}


@pytest.fixture
def absent() -> Initiator:
    """An initiator that speaks to LUN 9 of a target which has LUN 0 only."""
    return Initiator(connect_unit(disk(FaultyVdisk())).session, lun=9)


@pytest.mark.parametrize("opcode", sorted(set(range(256)) - ANSWERED))
def test_every_other_command_says_that_there_is_no_logical_unit(
    absent: Initiator, opcode: int
) -> None:
    outcome = absent.send(bytes([opcode]).ljust(16, b"\0"), bytes(512), 512)
    assert_check_condition(outcome, "05/25/00")


def test_inquiry_says_that_no_device_can_be_there(absent: Initiator) -> None:
    data = absent.good(cdbs.raw("12000000ff00"), None, 255)
    golden = "7f0006125b000002" + b"SCST_BR NO LUN          ".hex() + b"    ".hex()
    assert data.hex() == golden
    assert absent.good(cdbs.raw("120000000500"), None, 255).hex() == golden[:10]


def test_inquiry_for_vital_product_data_is_refused(absent: Initiator) -> None:
    outcome = absent.send(cdbs.raw("12010000ff00"), None, 255)
    assert_check_condition(outcome, "05/25/00")


@pytest.mark.parametrize(("cdb", "at"), [("12020000ff00", (1, 1)), ("12008000ff00", (2, 7))])
def test_malformed_inquiry_is_refused_as_anywhere(
    absent: Initiator, cdb: str, at: tuple[int, int]
) -> None:
    assert_check_condition(absent.send(cdbs.raw(cdb), None, 255), "05/24/00", at=at)


def test_report_luns_is_answered(absent: Initiator) -> None:
    data = absent.good(cdbs.raw("a00000000000000000ff0000"), None, 255)
    assert data.hex() == "00000008" + "00000000" + "0000000000000000"
    outcome = absent.send(cdbs.raw("a00000000000000000080000"), None, 255)
    assert_check_condition(outcome, "05/24/00", at=(6, 7))


@pytest.mark.parametrize(
    ("desc", "golden"),
    [("00", "700005000000000a00000000250000000000"), ("01", "7205250000000000")],
)
def test_request_sense_tells_it_in_its_data(absent: Initiator, desc: str, golden: str) -> None:
    outcome = absent.send(cdbs.raw(f"03{desc}0000fc00"), None, 252)
    assert (outcome.status, outcome.data.hex()) == (Status.GOOD, golden)


def test_table_has_256_entries() -> None:
    assert len(ABSENT_DISPATCH) == 256
