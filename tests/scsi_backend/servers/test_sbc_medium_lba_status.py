# SPDX-License-Identifier: GPL-2.0-or-later
"""GET LBA STATUS: holes of the backing store as deallocated blocks, aligned or not."""

from __future__ import annotations

import errno
import struct

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk import Extent
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

MAPPED = 0
DEALLOCATED = 1
PAGE = 4096
KIB = 1024


def lba_status(initiator: Initiator, lba: int, descriptors: int) -> list[tuple[int, int, int]]:
    """The descriptors (lba, blocks, status) of a reply with room for that many."""
    room_bytes = 8 + 16 * descriptors
    data = initiator.good(cdbs.get_lba_status(lba, room_bytes), None, room_bytes)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert data[4:8] == bytes(4)
    rows = list(struct.iter_unpack(">QIB3s", data[8:]))
    assert all(reserved == bytes(3) for _, _, _, reserved in rows)
    return [(start, blocks, status) for start, blocks, status, _ in rows]


def disk_of_runs(block_size_bytes: int, *runs: tuple[int, bool]) -> FaultyVdisk:
    """A thin disk that consists of these (length_bytes, is_mapped) runs."""
    size_bytes = sum(length for length, _ in runs)
    vdisk = FaultyVdisk(size_bytes // block_size_bytes, block_size_bytes, is_thin=True)
    vdisk.runs = [Extent(length, is_mapped) for length, is_mapped in runs]
    return vdisk


def test_reply_has_its_golden_bytes() -> None:
    initiator = connect(disk_of_runs(512, (4096, True), (8192, False)))
    data = initiator.good(cdbs.raw("9e12000000000000000200000028 0000"), None, 40)
    golden = "00000024" + "00000000"
    golden += "0000000000000002" + "00000006" + "00000000"
    golden += "0000000000000008" + "00000010" + "01000000"
    assert data.hex() == golden


def test_holes_of_a_file_are_deallocated_blocks(open_fileio: OpenFileio) -> None:
    disk = open_fileio(b"\xaa" * 16 * PAGE, thin_provisioned="1")
    if not disk.is_thin_provisioned:
        pytest.skip("the file system cannot punch holes")
    initiator = connect(disk)
    data = cdbs.unmap_list((32, 32), (100, 28))
    initiator.good(cdbs.unmap(len(data)), data)
    # Blocks 100 to 103 share a page with 96 to 99, which keeps it stored.
    assert lba_status(initiator, 0, 10) == [
        (0, 32, MAPPED),
        (32, 32, DEALLOCATED),
        (64, 40, MAPPED),
        (104, 24, DEALLOCATED),
    ]
    assert lba_status(initiator, 50, 1) == [(50, 14, DEALLOCATED)]
    assert lba_status(initiator, 127, 10) == [(127, 1, DEALLOCATED)]


def test_number_of_descriptors_is_what_fits_the_allocation_length() -> None:
    vdisk = disk_of_runs(512, *[(512, bool(number % 2)) for number in range(64)])
    initiator = connect(vdisk)
    for count in (1, 2, 5, 64):
        found = lba_status(initiator, 0, count)
        assert found == [(lba, 1, lba % 2 ^ 1) for lba in range(count)]
    data = initiator.good(cdbs.get_lba_status(0, 39), None, 39)
    assert data[:4] == bytes((0, 0, 0, 20))
    assert len(data) == 24


def test_a_reply_has_no_more_than_4096_descriptors() -> None:
    initiator = connect(disk_of_runs(512, *[(512, bool(lba % 2)) for lba in range(4200)]))
    assert len(lba_status(initiator, 0, 4200)) == 4096


@pytest.mark.parametrize("allocation_bytes", [0, 4, 8, 23])
def test_reply_is_cut_where_not_even_one_descriptor_fits(allocation_bytes: int) -> None:
    initiator = connect(disk_of_runs(512, (4096, True)))
    data = initiator.good(cdbs.get_lba_status(0, allocation_bytes), None, 64)
    whole = bytes.fromhex("00000014" + "00000000" + "0000000000000000" + "00000008" + "00000000")
    assert data == whole[:allocation_bytes]


def test_block_that_holds_any_data_is_mapped() -> None:
    # Data ends 1 KiB into block 1; the hole begins there and ends 1 KiB before block 4.
    vdisk = disk_of_runs(4096, (5 * KIB, True), (10 * KIB, False), (9 * KIB, True))
    assert lba_status(connect(vdisk), 0, 10) == [
        (0, 2, MAPPED),
        (2, 1, DEALLOCATED),
        (3, 3, MAPPED),
    ]


@pytest.mark.parametrize("data_bytes", [4097, 8191, 8192])
def test_a_single_byte_makes_its_block_mapped(data_bytes: int) -> None:
    vdisk = disk_of_runs(4096, (data_bytes, True), (4 * PAGE - data_bytes, False))
    assert lba_status(connect(vdisk), 0, 10) == [(0, 2, MAPPED), (2, 2, DEALLOCATED)]


def test_hole_within_one_block_is_not_seen() -> None:
    vdisk = disk_of_runs(4096, (5 * KIB, True), (2 * KIB, False), (9 * KIB, True))
    found = lba_status(connect(vdisk), 0, 10)
    assert {status for _, _, status in found} == {MAPPED}
    assert [(start, start + blocks) for start, blocks, _ in found] == [(0, 2), (2, 4)]


@pytest.mark.parametrize("descriptors", [1, 2, 10])
def test_a_range_that_begins_with_a_hole_within_a_block_still_has_a_descriptor(
    descriptors: int,
) -> None:
    vdisk = disk_of_runs(4096, (1 * KIB, False), (7 * KIB, True), (8 * KIB, False))
    expected = [(0, 2, MAPPED), (2, 2, DEALLOCATED)]
    assert lba_status(connect(vdisk), 0, descriptors) == expected[:descriptors]


@pytest.mark.parametrize("lba", range(4))
def test_any_block_has_at_least_one_descriptor_that_begins_with_it(lba: int) -> None:
    runs = [(1 * KIB, False), (1 * KIB, True)] * 8
    vdisk = disk_of_runs(4096, *runs)
    found = lba_status(connect(vdisk), lba, 1)
    assert found == [(lba, 1, MAPPED)]


def test_descriptors_are_adjacent_and_cover_the_rest_of_the_disk() -> None:
    vdisk = disk_of_runs(
        4096,
        (3 * KIB, False),
        (6 * KIB, True),
        (9 * KIB, False),
        (2 * KIB, True),
        (20 * KIB, False),
    )
    found = lba_status(connect(vdisk), 0, 100)
    assert found[0][0] == 0
    ends = [start + blocks for start, blocks, _ in found]
    assert ends[:-1] == [start for start, _, _ in found[1:]]
    assert ends[-1] == vdisk.block_count


def test_runs_beyond_32_bits_of_blocks_take_several_descriptors() -> None:
    vdisk = FaultyVdisk(blocks=0, is_thin=True)
    vdisk.block_count = (1 << 32) + 10
    vdisk.runs = [Extent(vdisk.block_count * 512, False)]
    assert lba_status(connect(vdisk), 1, 10) == [
        (1, 0xFFFFFFFF, DEALLOCATED),
        (1 << 32, 10, DEALLOCATED),
    ]


def test_fully_provisioned_unit_is_mapped_whatever_its_file_has(open_fileio: OpenFileio) -> None:
    assert lba_status(connect(open_fileio(64 * 512)), 3, 10) == [(3, 61, MAPPED)]
    nullio = connect(VdiskNullio("n", NullioAttributes(size_mb=1)))
    assert lba_status(nullio, 0, 10) == [(0, 2048, MAPPED)]


@pytest.mark.parametrize("lba", [1024, (1 << 64) - 1])
def test_lba_past_the_end_is_refused(lba: int) -> None:
    outcome = connect(FaultyVdisk()).send(cdbs.get_lba_status(lba, 24), None, 24)
    assert_check_condition(outcome, "05/21/00", at=(2, 7), information=lba)


def test_failure_to_tell_is_a_medium_error() -> None:
    vdisk = disk_of_runs(512, (4096, True))
    vdisk.faults.errno_of["extents"] = errno.EIO
    outcome = connect(vdisk).send(cdbs.get_lba_status(2, 24), None, 24)
    assert_check_condition(outcome, "03/11/00", information=2)


def test_command_waits_for_the_storage() -> None:
    vdisk = disk_of_runs(512, (4096, True))
    initiator = connect(vdisk)
    vdisk.is_held = True
    pending = initiator.start(cdbs.get_lba_status(0, 24), None, 24)
    assert not pending.is_done
    vdisk.release()
    assert len(pending.outcome.data) == 24
