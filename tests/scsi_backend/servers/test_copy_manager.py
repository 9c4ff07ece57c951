# SPDX-License-Identifier: GPL-2.0-or-later
"""EXTENDED COPY at work: what it copies, and between what."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.copies import (
    DC,
    MIB,
    MIB_BLOCKS,
    assert_good,
    copy,
    cscd,
    log_in,
    naa,
    named_disk,
    once,
    parameter_list,
    segment,
    two,
)
from tests.scsi_backend.initiator import Initiator


def test_blocks_are_copied_to_where_they_belong_and_nowhere_else() -> None:
    source, destination, session = two()
    before = bytes(source.data)
    assert_good(copy(session, once(segment(0, 1, 5, 10, 20))))
    assert destination.data == bytes(20 * 512) + source.blocks(10, 5) + bytes(39 * 512)
    assert source.data == before


@pytest.mark.parametrize("lun", [0, 1, 2])
def test_copy_manager_may_be_any_lun_of_the_session(lun: int) -> None:
    source, destination = named_disk(0), named_disk(1)
    source.fill()
    session = log_in(source, destination, named_disk(2))
    assert_good(copy(session, once(segment(0, 1, 64, 0, 0)), lun))
    assert destination.data == source.data


def test_segments_are_processed_in_order_between_several_disks() -> None:
    disks = [named_disk(number) for number in range(3)]
    disks[0].fill()
    names = [cscd(2), cscd(0), cscd(1)]
    # 0 to 1, then what has come there to 2, then within 2.
    moves = [segment(1, 2, 4, 8, 16), segment(2, 0, 4, 16, 32), segment(0, 0, 1, 33, 0)]
    assert_good(copy(log_in(*disks), parameter_list(names, moves)))
    assert disks[1].blocks(16, 4) == disks[0].blocks(8, 4)
    assert disks[2].blocks(32, 4) == disks[0].blocks(8, 4)
    assert disks[2].blocks(0, 1) == disks[0].blocks(9, 1)


def test_no_segments_and_segments_of_no_blocks_are_good_and_copy_nothing() -> None:
    source, destination, session = two()
    assert_good(copy(session, parameter_list([], [])))
    # Not even beyond the end.
    assert_good(copy(session, once(segment(0, 1, 0, 1000, 2000))))
    assert (source.log, destination.log) == ([], [])


@pytest.mark.parametrize("blocks", [MIB_BLOCKS - 1, MIB_BLOCKS, MIB_BLOCKS + 1, 2 * MIB_BLOCKS + 3])
def test_more_than_a_piece_is_copied_whole(blocks: int) -> None:
    source, destination, session = two(2 * MIB_BLOCKS + 10)
    assert_good(copy(session, once(segment(0, 1, blocks, 3, 5))))
    assert destination.data[: (5 + blocks) * 512] == bytes(5 * 512) + source.blocks(3, blocks)
    assert not any(destination.data[(5 + blocks) * 512 :])
    assert max(length for name, _, length in source.log if name == "read_now") <= MIB


@pytest.mark.parametrize(
    "distance", [1, MIB_BLOCKS - 1, MIB_BLOCKS, MIB_BLOCKS + 1, 3 * MIB_BLOCKS]
)
@pytest.mark.parametrize("is_upwards", [True, False])
def test_overlapping_blocks_arrive_as_they_were(distance: int, is_upwards: bool) -> None:
    vdisk = named_disk(0, 8 * MIB_BLOCKS)
    before = vdisk.fill()
    blocks = 2 * MIB_BLOCKS + 7
    low, high = 11, 11 + distance
    first, then = (low, high) if is_upwards else (high, low)
    data = parameter_list([cscd(0)], [segment(0, 0, blocks, first, then)])
    assert_good(copy(log_in(vdisk), data))
    moved = before[first * 512 : (first + blocks) * 512]
    assert vdisk.blocks(then, blocks) == moved
    assert vdisk.data[: then * 512] == before[: then * 512]
    assert vdisk.data[(then + blocks) * 512 :] == before[(then + blocks) * 512 :]


def test_overlap_is_seen_though_the_disk_is_at_two_luns_and_named_twice() -> None:
    vdisk = named_disk(0, 4 * MIB_BLOCKS)
    before = vdisk.fill()
    unit = disk(vdisk)
    target = Target("scst_local", "target", 1)
    target.add_lun(0, LunEntry(unit, is_read_only=True))
    target.add_lun(1, LunEntry(unit))
    target.is_enabled = True
    session = target.open_session("initiator")
    for lun in (0, 1):
        Initiator(session, lun).send(cdbs.TEST_UNIT_READY)
    moves = [segment(0, 1, 2 * MIB_BLOCKS, 0, 1)]
    assert_good(copy(session, parameter_list([cscd(0), cscd(0)], moves)))
    assert vdisk.blocks(1, 2 * MIB_BLOCKS) == before[: 2 * MIB]


@pytest.mark.parametrize(("flags", "moved_bytes"), [(0, 8 * 512), (DC, 8 * 4096)])
def test_blocks_count_at_the_source_or_with_dc_at_the_destination(
    flags: int, moved_bytes: int
) -> None:
    source, destination = named_disk(0, 128), named_disk(1, 32, 4096)
    source.fill()
    data = parameter_list([cscd(0), cscd(1, 4096)], [segment(0, 1, 8, 16, 2, flags=flags)])
    assert_good(copy(log_in(source, destination), data))
    expected = source.data[16 * 512 : 16 * 512 + moved_bytes]
    assert destination.data[2 * 4096 : 2 * 4096 + moved_bytes] == expected
    assert not any(destination.data[2 * 4096 + moved_bytes :])


# LU ID TYPE is for other descriptors.
@pytest.mark.parametrize("lu_id_type", [0x40, 0x80, 0xC0])
def test_lu_id_type_is_ignored(lu_id_type: int) -> None:
    _, _, session = two()
    names = [cscd(0, flags=lu_id_type), cscd(1)]
    assert_good(copy(session, parameter_list(names, [segment(0, 1, 1, 0, 0)])))


def test_files_hold_what_was_copied(open_fileio: OpenFileio) -> None:
    content = b"".join(bytes((number,)) * 512 for number in range(64)) * 64
    source = open_fileio(content, naa_id=naa(0).hex())
    destination = open_fileio(len(content), naa_id=naa(1).hex())
    session = log_in(source, destination)
    blocks = len(content) // 512
    assert_good(copy(session, once(segment(0, 1, blocks - 7, 7, 0))))
    found = Initiator(session, 1).good(cdbs.block(cdbs.READ, 16, 0, blocks), None, len(content))
    assert found == content[7 * 512 :] + bytes(7 * 512)


def test_disks_that_were_given_no_name_can_be_copied_between(open_fileio: OpenFileio) -> None:
    source = open_fileio(b"\xaa" * 512, t10_dev_id="name-of-the-copy-source")
    session = log_in(source, open_fileio(512, t10_dev_id="name-of-the-destination"))
    names = []
    for lun in (0, 1):
        page = Initiator(session, lun).good(cdbs.raw("12018300ff00"), None, 255)
        at = page.index(bytes.fromhex("01030008")) + 4
        names.append(cscd(0, value=page[at : at + 8]))
    assert_good(copy(session, parameter_list(names, [segment(0, 1, 1, 0, 0)])))
    assert Initiator(session, 1).good(cdbs.block(cdbs.READ, 16, 0, 1), None, 512) == b"\xaa" * 512
