# SPDX-License-Identifier: GPL-2.0-or-later
"""READ CAPACITY, SYNCHRONIZE CACHE and PRE-FETCH; UNMAP and GET LBA STATUS have their own files."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Outcome, assert_check_condition, connect

READ_CAPACITY_10 = cdbs.raw("25000000000000000000")
READ_CAPACITY_16 = cdbs.raw("9e100000000000000000000000200000")
IMMED = 0x02


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


@pytest.mark.parametrize(
    ("vdisk", "capacity_10", "capacity_16"),
    [
        (FaultyVdisk(), "000003ff" + "00000200", "00000000000003ff" + "00000200" + "00030000"),
        (
            FaultyVdisk(blocks=16, block_size_bytes=4096),
            "0000000f" + "00001000",
            "000000000000000f" + "00001000" + "00000000",
        ),
        (
            FaultyVdisk(is_thin=True),
            "000003ff" + "00000200",
            "00000000000003ff" + "00000200" + "0003c000",
        ),
        (
            VdiskNullio("2.5 TiB", NullioAttributes()),
            "ffffffff" + "00000200",
            "000000013fffffff" + "00000200" + "00030000",
        ),
        (
            VdiskNullio("2 TiB", NullioAttributes(size=1 << 41)),
            "ffffffff" + "00000200",
            "00000000ffffffff" + "00000200" + "00030000",
        ),
        (FaultyVdisk(blocks=0), "00" * 4 + "00000200", "00" * 8 + "00000200" + "00030000"),
    ],
    ids=["512", "4096", "thin", "2.5 TiB", "2 TiB", "empty"],
)
def test_read_capacity_has_its_golden_bytes(
    vdisk: FaultyVdisk, capacity_10: str, capacity_16: str
) -> None:
    initiator = connect(vdisk)
    assert initiator.good(READ_CAPACITY_10, None, 8).hex() == capacity_10
    assert initiator.good(READ_CAPACITY_16, None, 32).hex() == capacity_16 + "00" * 16


def test_read_capacity_16_is_cut_to_its_allocation_length(initiator: Initiator) -> None:
    cdb = cdbs.raw("9e1000000000000000000000000c0000")
    assert initiator.good(cdb, None, 32).hex() == "00000000000003ff" + "00000200"


@pytest.mark.parametrize("cdb", ["25000000000100000000", "9e1000000000000000010000002000"])
def test_lba_without_pmi_is_refused(initiator: Initiator, cdb: str) -> None:
    outcome = initiator.send(cdbs.raw(cdb), None, 32)
    assert_check_condition(outcome, "05/24/00", at=(2, 7))


def test_lba_with_pmi_is_ignored(initiator: Initiator) -> None:
    with_pmi = cdbs.raw("25000000000100000100")
    assert initiator.good(with_pmi, None, 8).hex() == "000003ff00000200"
    with_pmi = cdbs.raw("9e100000000000000001000000200100")
    assert initiator.good(with_pmi, None, 32).hex()[:16] == "00000000000003ff"


def test_capacity_follows_a_change_of_size(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.new_block_count = 512
    initiator.session.nexuses[0].unit.resync_size()
    assert_check_condition(initiator.send(READ_CAPACITY_10, None, 8), "06/2A/09")
    assert initiator.good(READ_CAPACITY_10, None, 8).hex() == "000001ff00000200"
    outcome = initiator.send(cdbs.block(cdbs.READ, 16, 512, 1), None, 512)
    assert_check_condition(outcome, "05/21/00", at=(2, 7), information=512)


@pytest.mark.parametrize("width", [10, 16])
@pytest.mark.parametrize(("lba", "blocks"), [(0, 0), (0, 1024), (1023, 1), (1023, 0), (1024, 0)])
def test_synchronize_cache_waits_for_the_flush(
    vdisk: FaultyVdisk, initiator: Initiator, width: int, lba: int, blocks: int
) -> None:
    vdisk.is_held = True
    pending = initiator.start(cdbs.block(cdbs.SYNCHRONIZE_CACHE, width, lba, blocks))
    assert (vdisk.names, pending.is_done) == (["sync"], False)
    vdisk.release()
    assert pending.outcome == Outcome(Status.GOOD, None, b"")


@pytest.mark.parametrize("opcodes", [cdbs.SYNCHRONIZE_CACHE, cdbs.PRE_FETCH], ids=["sync", "fetch"])
@pytest.mark.parametrize("width", [10, 16])
@pytest.mark.parametrize("flags", [0, IMMED])
@pytest.mark.parametrize(
    ("lba", "blocks", "information"), [(1023, 2, 1024), (1025, 0, 1025), (0, 1025, 1024)]
)
def test_range_past_the_end_is_refused(
    vdisk: FaultyVdisk,
    initiator: Initiator,
    opcodes: dict[int, int],
    width: int,
    flags: int,
    lba: int,
    blocks: int,
    information: int,
) -> None:
    outcome = initiator.send(cdbs.block(opcodes, width, lba, blocks, flags))
    assert_check_condition(outcome, "05/21/00", at=(2, 7), information=information)
    assert vdisk.log == []


@pytest.mark.parametrize("vdisk", [FaultyVdisk(nv_cache=True), FaultyVdisk(read_only=True)])
def test_there_is_nothing_to_flush_without_a_volatile_cache(vdisk: FaultyVdisk) -> None:
    connect(vdisk).good(cdbs.block(cdbs.SYNCHRONIZE_CACHE, 16, 0, 0))
    assert vdisk.log == []


def test_failed_flush_is_a_medium_error(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.faults.errno_of["sync"] = errno.EIO
    outcome = initiator.send(cdbs.block(cdbs.SYNCHRONIZE_CACHE, 10, 7, 0))
    assert_check_condition(outcome, "03/03/00", information=7)


@pytest.mark.parametrize("width", [10, 16])
def test_immediate_flush_is_good_before_it_ends(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    vdisk.is_held = True
    initiator.good(cdbs.block(cdbs.SYNCHRONIZE_CACHE, width, 0, 0, IMMED))
    assert len(vdisk.held) == 1
    vdisk.release()
    initiator.good(cdbs.TEST_UNIT_READY)


def test_failure_of_an_immediate_flush_is_reported_once_by_the_next_command(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.is_held = True
    vdisk.faults.errno_of["sync"] = errno.EIO
    initiator.good(cdbs.block(cdbs.SYNCHRONIZE_CACHE, 16, 7, 0, IMMED))
    initiator.good(cdbs.TEST_UNIT_READY)
    vdisk.release()
    outcome = initiator.send(cdbs.block(cdbs.WRITE, 16, 0, 1), b"\xaa" * 512)
    assert_check_condition(outcome, "03/03/00", information=7, deferred=True)
    assert vdisk.blocks(0, 1) == bytes(512)
    initiator.good(cdbs.block(cdbs.WRITE, 16, 0, 1), b"\xaa" * 512)


def test_failure_of_an_immediate_flush_that_ends_at_once_is_deferred_too(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.faults.errno_of["sync"] = errno.ENOSPC
    initiator.good(cdbs.block(cdbs.SYNCHRONIZE_CACHE, 16, 0, 0, IMMED))
    assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "07/27/07", deferred=True)
    initiator.good(cdbs.TEST_UNIT_READY)


def test_deferred_error_is_told_by_request_sense(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.faults.errno_of["sync"] = errno.EIO
    initiator.good(cdbs.block(cdbs.SYNCHRONIZE_CACHE, 16, 7, 0, IMMED))
    data = initiator.good(cdbs.raw("03000000fc00"), None, 252)
    assert data.hex() == "f10003000000070a00000000030000000000"
    initiator.good(cdbs.TEST_UNIT_READY)


@pytest.mark.parametrize("width", [10, 16])
@pytest.mark.parametrize(
    ("lba", "blocks", "length_bytes"), [(8, 16, 16 * 512), (8, 0, 1016 * 512), (1024, 0, 0)]
)
def test_pre_fetch_at_once_asks_for_the_range_the_range_into_the_cache(
    vdisk: FaultyVdisk,
    initiator: Initiator,
    width: int,
    lba: int,
    blocks: int,
    length_bytes: int,
) -> None:
    outcome = initiator.send(cdbs.block(cdbs.PRE_FETCH, width, lba, blocks, IMMED))
    assert outcome == Outcome(Status.GOOD, None, b"")
    assert vdisk.log == [("read_ahead", lba * 512, length_bytes)]


def test_pre_fetch_at_once_is_a_hint_that_may_fail(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.faults.errno_of["read_ahead"] = errno.ENOSYS
    outcome = initiator.send(cdbs.block(cdbs.PRE_FETCH, 16, 0, 1, IMMED))
    assert outcome.status == Status.GOOD


@pytest.mark.parametrize("width", [10, 16])
@pytest.mark.parametrize(
    ("lba", "blocks", "length_bytes"), [(8, 16, [16 * 512]), (8, 0, [1016 * 512]), (1024, 0, [])]
)
def test_pre_fetch_reads_the_range(
    vdisk: FaultyVdisk,
    initiator: Initiator,
    width: int,
    lba: int,
    blocks: int,
    length_bytes: list[int],
) -> None:
    outcome = initiator.send(cdbs.block(cdbs.PRE_FETCH, width, lba, blocks))
    assert outcome == Outcome(Status.GOOD, None, b"")
    assert vdisk.log == [("read", lba * 512, length) for length in length_bytes]


def test_pre_fetch_names_the_block_that_cannot_be_read(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.faults.stored_bytes = 10 * 512
    outcome = initiator.send(cdbs.block(cdbs.PRE_FETCH, 16, 8, 16))
    assert_check_condition(outcome, "03/11/00", information=10)


def test_long_pre_fetch_reads_its_beginning_in_pieces() -> None:
    vdisk = FaultyVdisk(blocks=65 * 2048)
    outcome = connect(vdisk).send(cdbs.block(cdbs.PRE_FETCH, 16, 0, 0))
    assert outcome.status == Status.GOOD
    assert vdisk.log == [("read", position << 20, 1 << 20) for position in range(64)]


def test_physical_blocks_can_be_hidden() -> None:
    attributes = NullioAttributes.model_validate({"size_mb": "1", "lb_per_pb_exp": "0"})
    capacity = connect(VdiskNullio("n", attributes)).good(
        cdbs.raw("9e10" + "00" * 11 + "20"), None, 32
    )
    assert (capacity[8:12].hex(), capacity[13]) == ("00000200", 0)
