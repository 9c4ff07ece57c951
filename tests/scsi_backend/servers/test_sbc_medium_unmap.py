# SPDX-License-Identifier: GPL-2.0-or-later
"""UNMAP: its parameter list is validated whole before any of it takes effect."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.io.engine import Done
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import FaultyVdisk, pattern
from tests.scsi_backend.initiator import Initiator, Outcome, assert_check_condition, connect


class LargeVdisk(FaultyVdisk):
    """Claims 8 GiB and stores nothing but the log."""

    def __init__(self) -> None:
        super().__init__(blocks=0, is_thin=True)
        self.block_count = 16 << 20

    def unmap(self, offset_bytes: int, length_bytes: int, done: Done) -> None:
        """See ``Vdisk.unmap``."""
        self.log.append(("unmap", offset_bytes, length_bytes))
        done(0)


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk(is_thin=True)


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


def unmap(initiator: Initiator, *ranges: tuple[int, int]) -> Outcome:
    """UNMAP with well-formed lengths."""
    data = cdbs.unmap_list(*ranges)
    return initiator.send(cdbs.unmap(len(data)), data)


GOOD = Outcome(Status.GOOD, None, b"")


def test_golden_list_deallocates_its_range(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.fill()
    data = bytes.fromhex("0016001000000000" + "0000000000000005" + "00000003" + "00000000")
    assert initiator.send(cdbs.raw("42000000000000001800"), data) == GOOD
    assert vdisk.log == [("unmap", 5 * 512, 3 * 512)]
    assert vdisk.blocks(4, 5) == pattern(4, 512) + bytes(3 * 512) + pattern(8, 512)


def test_ranges_are_deallocated_in_order_and_empty_ones_skipped(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    assert unmap(initiator, (100, 1), (7, 0), (1024, 0), (0, 2)) == GOOD
    assert vdisk.log == [("unmap", 51200, 512), ("unmap", 0, 1024)]


def test_command_waits_for_the_last_range(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.is_held = True
    data = cdbs.unmap_list((0, 1), (1, 1))
    pending = initiator.start(cdbs.unmap(len(data)), data)
    vdisk.release()
    assert not pending.is_done
    vdisk.release()
    assert pending.outcome == GOOD


def test_a_bad_descriptor_keeps_all_others_from_taking_effect(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    content = vdisk.fill()
    outcome = unmap(initiator, (0, 8), (1020, 5), (16, 8))
    assert_check_condition(outcome, "05/21/00", at=(24, 7), in_cdb=False, information=1024)
    assert vdisk.log == []
    assert vdisk.data == content


@pytest.mark.parametrize("lba", [1025, (1 << 64) - 1])
def test_descriptor_past_the_end_names_its_lba(initiator: Initiator, lba: int) -> None:
    outcome = unmap(initiator, (lba, 1))
    assert_check_condition(outcome, "05/21/00", at=(8, 7), in_cdb=False, information=lba)


def test_256_descriptors_are_the_most(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    assert unmap(initiator, *[(lba, 1) for lba in range(256)]) == GOOD
    assert len(vdisk.log) == 256
    outcome = unmap(initiator, *[(lba, 1) for lba in range(257)])
    assert_check_condition(outcome, "05/26/00", at=(2, 7), in_cdb=False)
    assert len(vdisk.log) == 256


def test_blocks_of_all_descriptors_together_are_bounded() -> None:
    vdisk = LargeVdisk()
    initiator = connect(vdisk)
    half = 1 << 19
    assert unmap(initiator, (0, half), (half, half)) == GOOD
    outcome = unmap(initiator, (0, half), (half, half), (2 * half, 1))
    assert_check_condition(outcome, "05/26/00", at=(8 + 2 * 16 + 8, 7), in_cdb=False)
    outcome = unmap(initiator, (0, 2 * half + 1))
    assert_check_condition(outcome, "05/26/00", at=(16, 7), in_cdb=False)
    assert len(vdisk.log) == 2


def test_no_parameter_list_is_no_error(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    assert initiator.send(cdbs.unmap(0)) == GOOD
    assert initiator.send(cdbs.unmap(8), cdbs.unmap_list()) == GOOD
    assert vdisk.log == []


@pytest.mark.parametrize("length_bytes", range(1, 8))
def test_list_shorter_than_its_header_is_refused(initiator: Initiator, length_bytes: int) -> None:
    outcome = initiator.send(cdbs.unmap(length_bytes), bytes(length_bytes))
    assert_check_condition(outcome, "05/1A/00")


@pytest.mark.parametrize("sent", [None, b"", cdbs.unmap_list((0, 1))[:-1]])
def test_too_little_data_out_is_a_data_phase_error(
    vdisk: FaultyVdisk, initiator: Initiator, sent: bytes | None
) -> None:
    assert_check_condition(initiator.send(cdbs.unmap(24), sent), "0B/4B/00")
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("descriptor_bytes", "done"), [(0, 0), (15, 0), (16, 1), (31, 1), (32, 2), (4096, 2)]
)
def test_incomplete_descriptors_are_ignored(
    vdisk: FaultyVdisk, initiator: Initiator, descriptor_bytes: int, done: int
) -> None:
    data = cdbs.unmap_list((0, 1), (1, 1), descriptor_bytes=descriptor_bytes)
    assert initiator.send(cdbs.unmap(len(data)), data) == GOOD
    assert len(vdisk.log) == done


def test_descriptors_beyond_the_list_length_are_not_read(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    data = cdbs.unmap_list((0, 1), (1, 1))
    assert initiator.send(cdbs.unmap(24), data) == GOOD
    assert vdisk.log == [("unmap", 0, 512)]


def test_anchor_is_refused(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    outcome = initiator.send(cdbs.unmap(24, flags=1), cdbs.unmap_list((0, 1)))
    assert_check_condition(outcome, "05/24/00", at=(1, 0))
    assert vdisk.log == []


def test_fully_provisioned_unit_has_no_unmap() -> None:
    vdisk = FaultyVdisk()
    assert_check_condition(unmap(connect(vdisk), (0, 1)), "05/20/00", at=(0, None))
    assert vdisk.log == []


def test_write_through_makes_deallocation_stable() -> None:
    vdisk = FaultyVdisk(is_thin=True, write_through=True)
    initiator = connect(vdisk)
    assert unmap(initiator, (0, 1)) == GOOD
    assert vdisk.names == ["unmap", "sync"]
    vdisk.faults.errno_of["sync"] = errno.EIO
    assert_check_condition(unmap(initiator, (3, 1)), "03/03/00", information=0)


def test_failed_deallocation_names_its_range_and_ends_the_command(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.faults.errno_of["unmap"] = errno.EIO
    assert_check_condition(unmap(initiator, (5, 1), (6, 1)), "03/03/00", information=5)
    assert len(vdisk.log) == 1


def test_unmapped_blocks_of_a_file_read_as_zeros(open_fileio: OpenFileio) -> None:
    disk = open_fileio(b"\xaa" * 64 * 512, thin_provisioned="1")
    if not disk.is_thin_provisioned:
        pytest.skip("the file system cannot punch holes")
    initiator = connect(disk)
    assert unmap(initiator, (3, 21), (40, 1)) == GOOD
    data = initiator.good(cdbs.block(cdbs.READ, 16, 0, 64), None, 64 * 512)
    zeros = bytes(512)
    expected = b"".join(zeros if 3 <= lba < 24 or lba == 40 else b"\xaa" * 512 for lba in range(64))
    assert data == expected


def test_attribute_decides_whether_a_file_is_thin() -> None:
    assert not FileioAttributes(filename="/disk").thin_provisioned
