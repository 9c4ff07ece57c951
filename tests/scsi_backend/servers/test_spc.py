# SPDX-License-Identifier: GPL-2.0-or-later
"""Primary commands: INQUIRY, REQUEST SENSE, REPORT LUNS, TEST UNIT READY."""

from __future__ import annotations

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.servers.disk import disk
from scsi_backend.servers.spc import encode_lun
from scsi_backend.t10 import sense
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

STANDARD_INQUIRY = (
    "000006125b080002"
    + b"SCST_FIO".hex()
    + b"faulty          ".hex()
    + b"0100".hex()
    + "00" * 22
    + "00a0046004c0"
    + "00" * 32
)


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


def test_test_unit_ready_is_good(initiator: Initiator) -> None:
    assert initiator.good(cdbs.TEST_UNIT_READY) == b""


def test_standard_inquiry_has_its_golden_bytes(initiator: Initiator) -> None:
    assert initiator.good(cdbs.raw("120000010000"), None, 256).hex() == STANDARD_INQUIRY


def test_inquiry_is_cut_to_its_16_bit_allocation_length(initiator: Initiator) -> None:
    assert initiator.good(cdbs.raw("120000002400"), None, 256).hex() == STANDARD_INQUIRY[:72]
    assert initiator.good(cdbs.raw("120000000000"), None, 256) == b""


def test_removable_medium_sets_rmb() -> None:
    attributes = NullioAttributes.model_validate({"size_mb": "1", "removable": "1"})
    data = connect(VdiskNullio("n", attributes)).good(cdbs.raw("120000006000"), None, 96)
    assert data[1] == 0x80


def test_unit_behind_several_ports_says_so() -> None:
    unit = disk(FaultyVdisk())
    first, second = Target("nbd", "t", 1), Target("aoe", "e1.1", 2)
    first.is_enabled = True
    first.add_lun(0, LunEntry(unit))
    initiator = Initiator(first.open_session("i"))
    assert initiator.good(cdbs.raw("120000006000"), None, 96)[6] == 0x00
    second.add_lun(0, LunEntry(unit))
    assert initiator.good(cdbs.raw("120000006000"), None, 96)[6] == 0x10


def test_identity_of_the_attributes_is_in_the_inquiry_data() -> None:
    words = {"size_mb": "1", "t10_vend_id": "ACME", "prod_id": "Disk", "prod_rev_lvl": "7a"}
    words |= {"inq_vend_specific": "bay 3"}
    vdisk = VdiskNullio("n", NullioAttributes.model_validate(words))
    data = connect(vdisk).good(cdbs.raw("120000010000"), None, 256)
    assert data[8:36] == b"ACME    " + b"Disk            " + b"7a  "
    assert data[36:58] == b"bay 3".ljust(22, b"\0")


@pytest.mark.parametrize(
    ("cdb", "at"),
    [
        ("120200006000", (1, 1)),
        ("120080006000", (2, 7)),
        ("12018100ff00", (2, 7)),
        ("12018400ff00", (2, 7)),
    ],
    ids=["CMDDT", "page without EVPD", "unknown page", "unknown page 84h"],
)
def test_inquiry_refuses_what_it_does_not_have(
    initiator: Initiator, cdb: str, at: tuple[int, int]
) -> None:
    assert_check_condition(initiator.send(cdbs.raw(cdb), None, 255), "05/24/00", at=at)


def test_request_sense_with_nothing_pending_is_no_sense(initiator: Initiator) -> None:
    fixed = initiator.good(cdbs.raw("03000000fc00"), None, 252)
    assert fixed.hex() == "700000000000000a00000000000000000000"
    descriptor = initiator.good(cdbs.raw("03010000fc00"), None, 252)
    assert descriptor.hex() == "7200000000000000"
    assert initiator.good(cdbs.raw("030000000400"), None, 252).hex() == "70000000"


def test_request_sense_returns_a_unit_attention_in_the_format_asked_for_and_clears_it(
    initiator: Initiator,
) -> None:
    nexus = initiator.session.nexuses[0]
    for cdb, golden in (
        ("03000000fc00", "700006000000000a000000002a0100000000"),
        ("03010000fc00", "72062a0100000000"),
    ):
        nexus.establish_unit_attention(sense.MODE_PARAMETERS_CHANGED)
        assert initiator.good(cdbs.raw(cdb), None, 252).hex() == golden
        initiator.good(cdbs.TEST_UNIT_READY)


def test_request_sense_tells_that_there_is_no_medium_behind_unit_attentions() -> None:
    words = {"size_mb": "1", "removable": "1"}
    initiator = connect(VdiskNullio("n", NullioAttributes.model_validate(words)))
    initiator.good(cdbs.raw("1b0000000200"))
    initiator.session.nexuses[0].establish_unit_attention(sense.MODE_PARAMETERS_CHANGED)
    for golden in ("72062a0100000000", "72023a0000000000", "72023a0000000000"):
        assert initiator.good(cdbs.raw("03010000fc00"), None, 252).hex() == golden
    fixed = initiator.good(cdbs.raw("03000000fc00"), None, 252)
    assert fixed.hex() == "700002000000000a000000003a0000000000"


@pytest.mark.parametrize(
    ("lun", "golden"),
    [
        (0, "0000000000000000"),
        (255, "00ff000000000000"),
        (256, "4100000000000000"),
        (16383, "7fff000000000000"),
    ],
)
def test_lun_is_encoded_in_a_single_level(lun: int, golden: str) -> None:
    assert encode_lun(lun).hex() == golden


@pytest.fixture
def three_luns() -> Initiator:
    """An initiator of a target with LUNs 300, 0 and 7."""
    target = Target("scst_local", "target", 1)
    for lun in (300, 0, 7):
        target.add_lun(lun, LunEntry(disk(FaultyVdisk(blocks=1))))
    target.is_enabled = True
    return Initiator(target.open_session("initiator"))


LUNS = "00000018" + "00000000" + "0000000000000000" + "0007000000000000" + "412c000000000000"


@pytest.mark.parametrize("select_report", ["00", "02"])
def test_report_luns_lists_them_ascending(three_luns: Initiator, select_report: str) -> None:
    cdb = cdbs.raw(f"a000{select_report}000000000000ff0000")
    assert three_luns.good(cdb, None, 255).hex() == LUNS


def test_report_luns_says_the_whole_length_when_it_is_cut(three_luns: Initiator) -> None:
    assert three_luns.good(cdbs.raw("a00000000000000000100000"), None, 255).hex() == LUNS[:32]


def test_there_are_no_well_known_logical_units(three_luns: Initiator) -> None:
    assert three_luns.good(cdbs.raw("a00001000000000000ff0000"), None, 255).hex() == "00" * 8


@pytest.mark.parametrize(
    ("cdb", "at"),
    [
        ("a00003000000000000ff0000", (2, 7)),
        ("a00010000000000000ff0000", (2, 7)),
        ("a000000000000000000f0000", (6, 7)),
        ("a00000000000000000000000", (6, 7)),
    ],
    ids=["select 03h", "select 10h", "15 bytes", "0 bytes"],
)
def test_report_luns_refuses_other_lists_and_too_little_room(
    three_luns: Initiator, cdb: str, at: tuple[int, int]
) -> None:
    assert_check_condition(three_luns.send(cdbs.raw(cdb), None, 255), "05/24/00", at=at)


def test_report_luns_clears_the_attention_about_it_on_every_lun(three_luns: Initiator) -> None:
    nexuses = three_luns.session.nexuses.values()
    for nexus in nexuses:
        nexus.take_unit_attention()
        nexus.establish_unit_attention(sense.REPORTED_LUNS_CHANGED)
        nexus.establish_unit_attention(sense.CAPACITY_CHANGED)
    three_luns.good(cdbs.raw("a00000000000000000ff0000"), None, 255)
    left = [[nexus.take_unit_attention(), nexus.take_unit_attention()] for nexus in nexuses]
    assert left == [[sense.CAPACITY_CHANGED, None]] * 3
