# SPDX-License-Identifier: GPL-2.0-or-later
"""COMPARE AND WRITE by itself: what it compares, writes and refuses."""

from __future__ import annotations

import errno
import logging

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.servers.disk import disk
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect, connect_unit

FUA = 0x08
DPO = 0x10
NEW = b"\xaa" * 512


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


def test_golden_cdb_replaces_the_blocks_that_are_as_expected(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    before = vdisk.fill()
    cdb = bytes.fromhex("89" "00" "0000000000000003" "000000" "02" "00" "00")  # fmt: skip
    assert initiator.good(cdb, before[3 * 512 : 5 * 512] + NEW * 2) == b""
    assert vdisk.data == before[: 3 * 512] + NEW * 2 + before[5 * 512 :]


def test_lba_has_all_its_64_bits(initiator: Initiator) -> None:
    cdb = bytes.fromhex("89" "00" "0102030405060708" "000000" "01" "00" "00")  # fmt: skip
    outcome = initiator.send(cdb, NEW * 2)
    assert_check_condition(outcome, "05/21/00", at=(2, 7), information=0x0102030405060708)


@pytest.mark.parametrize("immediate_bytes", [None, NOT_NOW, 0, 512, 700])
@pytest.mark.parametrize("offset_bytes", [0, 1, 255, 511, 512, 700, 1022, 1023])
def test_miscompare_names_the_first_byte_that_differs_and_writes_nothing(
    vdisk: FaultyVdisk, initiator: Initiator, offset_bytes: int, immediate_bytes: int | None
) -> None:
    before = vdisk.fill()
    vdisk.immediate_bytes = immediate_bytes
    expected = bytearray(before[3 * 512 : 5 * 512])
    for position in {offset_bytes, 1023}:
        expected[position] ^= 0x80
    outcome = initiator.send(cdbs.compare_and_write(3, 2, FUA), bytes(expected) + NEW * 2)
    assert_check_condition(outcome, "0E/1D/00", information=offset_bytes)
    assert vdisk.data == before
    assert not {"write", "write_now", "sync"} & set(vdisk.names)


def test_sense_data_of_a_miscompare_has_its_golden_bytes(initiator: Initiator) -> None:
    outcome = initiator.send(cdbs.compare_and_write(0, 1), bytes(300) + b"\x01" * 212 + NEW)
    assert outcome.sense is not None
    golden = "f0000e" + "0000012c" + "0a" + "00000000" + "1d00" + "00000000"
    assert outcome.sense.encode().hex() == golden


@pytest.mark.parametrize("immediate_bytes", [None, NOT_NOW, 0, 100, 512])
def test_storage_that_moves_some_bytes_at_once_is_asked_for_the_rest(
    vdisk: FaultyVdisk, initiator: Initiator, immediate_bytes: int | None
) -> None:
    before = vdisk.fill()
    vdisk.immediate_bytes = immediate_bytes
    initiator.good(cdbs.compare_and_write(3, 2), before[3 * 512 : 5 * 512] + NEW * 2)
    assert vdisk.data == before[: 3 * 512] + NEW * 2 + before[5 * 512 :]


@pytest.mark.parametrize("lba", [0, 3, 1024])
def test_no_blocks_are_good_and_touch_nothing(
    vdisk: FaultyVdisk, initiator: Initiator, lba: int
) -> None:
    assert initiator.good(cdbs.compare_and_write(lba, 0, FUA)) == b""
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("lba", "blocks", "information"), [(1024, 1, 1024), (1023, 2, 1024), (1025, 0, 1025)]
)
def test_range_past_the_end_is_refused(
    vdisk: FaultyVdisk, initiator: Initiator, lba: int, blocks: int, information: int
) -> None:
    outcome = initiator.send(cdbs.compare_and_write(lba, blocks), bytes(1024) + NEW * 2)
    assert_check_condition(outcome, "05/21/00", at=(2, 7), information=information)
    assert vdisk.log == []


def test_255_blocks_are_compared_and_written(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    before = vdisk.fill()
    initiator.good(cdbs.compare_and_write(1, 255), before[512 : 256 * 512] + NEW * 255)
    assert vdisk.data == before[:512] + NEW * 255 + before[256 * 512 :]


def test_more_blocks_than_the_limits_page_says_are_refused(vdisk: FaultyVdisk) -> None:
    unit = disk(vdisk)
    unit.max_transfer_blocks = 8
    initiator = connect_unit(unit)
    initiator.send(cdbs.TEST_UNIT_READY)
    assert initiator.good(cdbs.raw("1201b000ff00"), None, 255)[5] == 4
    outcome = initiator.send(cdbs.compare_and_write(0, 5), bytes(5 * 512) + NEW * 5)
    assert_check_condition(outcome, "05/24/00", at=(13, 7))
    initiator.good(cdbs.compare_and_write(0, 4), bytes(4 * 512) + NEW * 4)


@pytest.mark.parametrize("wrprotect", range(1, 8))
def test_protection_information_is_refused(initiator: Initiator, wrprotect: int) -> None:
    outcome = initiator.send(cdbs.compare_and_write(0, 1, wrprotect << 5), bytes(512) + NEW)
    assert_check_condition(outcome, "05/24/00", at=(1, 7))


# DPO, the obsolete FUA_NV and the reserved bits.
@pytest.mark.parametrize("flags", [DPO, 0x02, 0x01, 0x04])
def test_flags_that_mean_nothing_here_are_ignored(
    vdisk: FaultyVdisk, initiator: Initiator, flags: int
) -> None:
    initiator.good(cdbs.compare_and_write(0, 1, flags), bytes(512) + NEW)
    assert vdisk.blocks(0, 1) == NEW
    assert "sync" not in vdisk.names


@pytest.mark.parametrize(
    "data_out", [None, b"", bytes(512), bytes(512) + NEW[:-1], bytes(512) + NEW + b"\0"]
)
def test_anything_but_both_halves_is_refused(
    vdisk: FaultyVdisk, initiator: Initiator, data_out: bytes | None
) -> None:
    outcome = initiator.send(cdbs.compare_and_write(0, 1), data_out)
    assert_check_condition(outcome, "05/24/00", at=(13, 7))
    assert vdisk.log == []


def test_256_blocks_are_not_taken_for_none(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    outcome = initiator.send(cdbs.compare_and_write(0, 0), bytes(512 * 512))
    assert_check_condition(outcome, "05/24/00", at=(13, 7))


def test_fua_means_stable_before_good(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.is_held = True
    pending = initiator.start(cdbs.compare_and_write(0, 1, FUA), bytes(512) + NEW)
    assert vdisk.names == ["read_now", "write_now", "sync"]
    assert not pending.is_done
    vdisk.release()
    assert pending.outcome.status == Status.GOOD


def test_write_through_means_stable_before_good() -> None:
    vdisk = FaultyVdisk(write_through=True)
    connect(vdisk).good(cdbs.compare_and_write(0, 1), bytes(512) + NEW)
    assert vdisk.names == ["read_now", "write_now", "sync"]


@pytest.mark.parametrize(
    ("operation", "error", "expected", "information"),
    [
        ("read", errno.EIO, "03/11/00", 3),
        ("write", errno.EIO, "03/03/00", 3),
        ("write", errno.ENOSPC, "07/27/07", None),
        ("sync", errno.EIO, "03/03/00", 3),
    ],
)
def test_storage_that_fails_ends_the_command_and_frees_its_blocks(
    vdisk: FaultyVdisk,
    initiator: Initiator,
    operation: str,
    error: int,
    expected: str,
    information: int | None,
) -> None:
    vdisk.immediate_bytes = NOT_NOW
    vdisk.faults.errno_of[operation] = error
    cdb = cdbs.compare_and_write(3, 1, FUA)
    outcome = initiator.send(cdb, bytes(512) + NEW)
    assert_check_condition(outcome, expected, information=information)
    vdisk.faults.errno_of.clear()
    stored = vdisk.blocks(3, 1)
    initiator.good(cdb, stored + pattern(3, 512))
    assert vdisk.blocks(3, 1) == pattern(3, 512)
    nexus = initiator.session.nexuses[0]
    assert (nexus.outstanding, nexus.dispatch) == (set(), nexus.unit.dispatch)


def test_read_error_names_the_bad_block(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.faults.stored_bytes = 5 * 512
    outcome = initiator.send(cdbs.compare_and_write(3, 4), bytes(2048) + NEW * 4)
    assert_check_condition(outcome, "03/11/00", information=5)


def test_defect_of_the_storage_is_an_internal_failure(
    vdisk: FaultyVdisk, initiator: Initiator, caplog: pytest.LogCaptureFixture
) -> None:
    vdisk.faults.raised = ZeroDivisionError("a defect")
    with caplog.at_level(logging.ERROR):
        outcome = initiator.send(cdbs.compare_and_write(0, 1), bytes(512) + NEW)
    assert_check_condition(outcome, "04/44/00")
    assert "COMPARE AND WRITE failed" in caplog.text
    vdisk.faults.raised = None
    initiator.good(cdbs.compare_and_write(0, 1), bytes(512) + NEW)


def test_read_only_lun_refuses_it(vdisk: FaultyVdisk) -> None:
    initiator = connect(vdisk, is_read_only=True)
    outcome = initiator.send(cdbs.compare_and_write(0, 1), bytes(512) + NEW)
    assert_check_condition(outcome, "07/27/00")


def test_file_and_blocks_of_4096_bytes(open_fileio: OpenFileio) -> None:
    initiator = connect(open_fileio(8 * 4096, blocksize="4096"))
    data_out = bytes(4096) + b"\xaa" * 4096
    initiator.good(cdbs.compare_and_write(2, 1, FUA), data_out)
    assert initiator.good(cdbs.block(cdbs.READ, 16, 2, 1), None, 4096) == b"\xaa" * 4096
    outcome = initiator.send(cdbs.compare_and_write(2, 1), data_out)
    assert_check_condition(outcome, "0E/1D/00", information=0)


def test_disk_without_storage_compares_with_zeros() -> None:
    initiator = connect(VdiskNullio("n", NullioAttributes(size_mb=1)))
    initiator.good(cdbs.compare_and_write(0, 1), bytes(512) + NEW)
    outcome = initiator.send(cdbs.compare_and_write(0, 1), NEW * 2)
    assert_check_condition(outcome, "0E/1D/00", information=0)
