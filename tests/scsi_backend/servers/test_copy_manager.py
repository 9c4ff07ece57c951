# SPDX-License-Identifier: GPL-2.0-or-later
"""EXTENDED COPY at work: what it copies, between what, and how it fails."""

from __future__ import annotations

import errno
from collections import deque

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.sense import CopyFailure, FieldPointer, Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.copies import (
    DC,
    cscd,
    extended_copy,
    log_in,
    naa,
    named_disk,
    parameter_list,
    segment,
)
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, ManualEngine
from tests.scsi_backend.initiator import Initiator, Outcome, Pending

MIB = 1 << 20
MIB_BLOCKS = MIB // 512


def start(session: Session, data: bytes, lun: int = 0) -> Pending:
    """Send an EXTENDED COPY to a LUN."""
    return Initiator(session, lun).start(extended_copy(len(data)), data)


def copy(session: Session, data: bytes, lun: int = 0) -> Outcome:
    """Send an EXTENDED COPY that must end at once."""
    return start(session, data, lun).outcome


def assert_good(outcome: Outcome) -> None:
    assert (outcome.status, outcome.sense) == (Status.GOOD, None)


def assert_aborted(
    outcome: Outcome,
    code: int,
    at_byte: int,
    failure: CopyFailure | None = None,
    *,
    in_segment: bool = False,
    residual: int | None = None,
) -> None:
    """COPY ABORTED with exactly this sense; by default it is segment 0, and no device's fault."""
    pointer = FieldPointer(at_byte, in_cdb=False, in_segment=in_segment)
    expected = Sense(0x0A, code, residual, pointer, copy_failure=failure or CopyFailure(0))
    assert outcome == Outcome(Status.CHECK_CONDITION, expected, b"")


def two(blocks: int = 64) -> tuple[FaultyVdisk, FaultyVdisk, Session]:
    """A disk full of patterns, an empty one, and a session with both."""
    source, destination = named_disk(0, blocks), named_disk(1, blocks)
    source.fill()
    return source, destination, log_in(source, destination)


def once(*segments: bytes) -> bytes:
    """A parameter list with the two disks."""
    return parameter_list([cscd(0), cscd(1)], list(segments))


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


@pytest.mark.parametrize(("flags", "pad"), [(0, 0), (0x01, 0), (0, 0x04)])
def test_part_of_a_block_is_refused_with_cat_and_pad_or_without(flags: int, pad: int) -> None:
    source, destination = named_disk(0, 128), named_disk(1, 32, 4096)
    names = [cscd(0, pad << 24 | 512), cscd(1, pad << 24 | 4096)]
    data = parameter_list(names, [segment(0, 1, 9, 0, 0, flags=flags)])
    outcome = copy(log_in(source, destination), data)
    assert_aborted(outcome, 0x260A, 10, in_segment=True)
    assert destination.log == []


@pytest.mark.parametrize(
    ("move", "at_byte"),
    [
        (segment(2, 1, 1, 0, 0), 4),
        (segment(0xFFFF, 1, 1, 0, 0), 4),
        (segment(0, 2, 1, 0, 0), 6),
        (segment(0, 1, 1, 64, 0), 12),
        (segment(0, 1, 65, 0, 0), 12),
        (segment(0, 1, 2, (1 << 64) - 1, 0), 12),
        (segment(0, 1, 1, 0, 64), 20),
        (segment(0, 1, 2, 0, 63), 20),
    ],
)
def test_segment_that_fits_no_device_aborts_at_its_field(move: bytes, at_byte: int) -> None:
    source, destination, session = two()
    good = segment(0, 1, 1, 0, 0)
    outcome = copy(session, once(good, move))
    assert_aborted(outcome, 0x0000, at_byte, CopyFailure(1), in_segment=True)
    # What came before is done.
    assert destination.blocks(0, 1) == source.blocks(0, 1)
    assert not any(destination.data[512:])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(cscd(9), id="unknown"),
        pytest.param(cscd(1, kind=2), id="another type"),
        pytest.param(cscd(1, kind=0x13), id="a port's"),
        pytest.param(cscd(1, code_set=2), id="another code set"),
        pytest.param(cscd(1, value=naa(1)[:-1]), id="shorter"),
        pytest.param(cscd(1, length=0), id="empty"),
        pytest.param(cscd(1, flags=0x20), id="null device"),
    ],
)
def test_descriptor_that_names_no_reachable_unit_aborts_where_it_is_used(name: bytes) -> None:
    _, destination, session = two()
    outcome = copy(session, parameter_list([cscd(0), name], [segment(0, 1, 1, 0, 0)]))
    assert_aborted(outcome, 0x0D02, 16 + 32)
    assert destination.log == []
    assert_good(copy(session, parameter_list([cscd(0), name], [segment(0, 0, 1, 0, 1)])))


def test_unit_of_another_session_is_not_reached() -> None:
    _, destination, _ = two()
    alone = log_in(named_disk(0))
    assert_aborted(copy(alone, once(segment(0, 1, 1, 0, 0))), 0x0D02, 16 + 32)
    assert destination.log == []


# LU ID TYPE is for other descriptors.
@pytest.mark.parametrize("lu_id_type", [0x40, 0x80, 0xC0])
def test_lu_id_type_is_ignored(lu_id_type: int) -> None:
    _, _, session = two()
    names = [cscd(0, flags=lu_id_type), cscd(1)]
    assert_good(copy(session, parameter_list(names, [segment(0, 1, 1, 0, 0)])))


def test_wrong_device_type_aborts() -> None:
    _, _, session = two()
    names = [cscd(0), cscd(1, flags=0x01)]
    outcome = copy(session, parameter_list(names, [segment(0, 1, 1, 0, 0)]))
    assert_aborted(outcome, 0x0D03, 16 + 32 + 1)


@pytest.mark.parametrize("block_bytes", [0, 511, 4096])
def test_wrong_block_length_aborts(block_bytes: int) -> None:
    _, _, session = two()
    names = [cscd(0), cscd(1, block_bytes)]
    outcome = copy(session, parameter_list(names, [segment(0, 1, 1, 0, 0)]))
    assert_aborted(outcome, 0x0000, 16 + 32 + 29)


def test_read_only_lun_is_a_source_and_no_destination() -> None:
    source, destination = named_disk(0), named_disk(1)
    source.fill()
    session = log_in(source, destination, read_only=(0,))
    assert_good(copy(session, once(segment(0, 1, 4, 0, 0))))
    assert destination.blocks(0, 4) == source.blocks(0, 4)
    outcome = copy(session, once(segment(1, 0, 4, 0, 0)), lun=1)
    protected = CopyFailure(0, Status.CHECK_CONDITION, sense_data.WRITE_PROTECTED, True)
    assert_aborted(outcome, 0x0D01, 16, protected)


def test_read_only_device_is_no_destination() -> None:
    source = named_disk(0)
    destination = FaultyVdisk(64, read_only=True, naa_id=naa(1))
    outcome = copy(log_in(source, destination), once(segment(0, 1, 1, 0, 0)))
    protected = CopyFailure(0, Status.CHECK_CONDITION, sense_data.WRITE_PROTECTED, True)
    assert_aborted(outcome, 0x0D01, 48, protected)


def test_read_that_fails_aborts_with_the_sense_data_of_the_source() -> None:
    source, destination, session = two()
    source.faults.errno_at[12] = errno.EIO
    source.immediate_bytes = NOT_NOW
    outcome = copy(session, once(segment(0, 1, 1, 0, 0), segment(0, 1, 8, 10, 10)))
    bad = Sense(0x03, 0x1100, information=10)
    failure = CopyFailure(1, Status.CHECK_CONDITION, bad, False)
    assert_aborted(outcome, 0x0D01, 16, failure)
    assert not any(destination.data[512:])


@pytest.mark.parametrize(
    ("error", "inner"),
    [
        (errno.EIO, Sense(0x03, 0x0300, information=7)),
        (errno.ENOSPC, sense_data.SPACE_ALLOCATION_FAILED),
    ],
)
def test_write_that_fails_aborts_with_the_sense_data_of_the_destination(
    error: int, inner: Sense
) -> None:
    _, destination, session = two()
    destination.faults.errno_of["write"] = error
    destination.immediate_bytes = NOT_NOW
    outcome = copy(session, once(segment(0, 1, 8, 0, 7)))
    assert_aborted(outcome, 0x0D01, 48, CopyFailure(0, Status.CHECK_CONDITION, inner, True))


def test_residual_counts_the_destination_blocks_that_are_missing() -> None:
    source, destination = named_disk(0, 3 * MIB_BLOCKS), named_disk(1, 1024, 4096)
    source.faults.stored_bytes = 2 * MIB + 512
    data = parameter_list([cscd(0), cscd(1, 4096)], [segment(0, 1, 3 * MIB_BLOCKS, 0, 0)])
    outcome = copy(log_in(source, destination), data)
    bad = Sense(0x03, 0x1100, information=2 * MIB_BLOCKS + 1)
    failure = CopyFailure(0, Status.CHECK_CONDITION, bad, False)
    assert_aborted(outcome, 0x0D01, 16, failure, residual=MIB // 4096)


def test_residual_of_a_copy_from_the_end_is_all_until_its_first_block_is_written() -> None:
    vdisk = named_disk(0, 4 * MIB_BLOCKS)
    vdisk.faults.errno_at[0] = errno.EIO
    data = parameter_list([cscd(0)], [segment(0, 0, 2 * MIB_BLOCKS, 0, 1)])
    outcome = copy(log_in(vdisk), data)
    bad = Sense(0x03, 0x1100, information=0)
    failure = CopyFailure(0, Status.CHECK_CONDITION, bad, False)
    assert_aborted(outcome, 0x0D01, 16, failure, residual=2 * MIB_BLOCKS)


def test_unit_attention_of_a_device_is_forwarded_and_not_lost() -> None:
    _, destination, session = two()
    unit = session.nexuses[1].unit
    unit.raise_unit_attention(sense_data.CAPACITY_CHANGED)
    outcome = copy(session, once(segment(0, 1, 1, 0, 0)))
    attention = CopyFailure(0, Status.CHECK_CONDITION, sense_data.CAPACITY_CHANGED, True)
    assert_aborted(outcome, 0x0D01, 48, attention)
    assert destination.log == []
    assert_good(copy(session, once(segment(0, 1, 1, 0, 0))))


def test_storage_that_takes_its_time_is_waited_for_piece_by_piece() -> None:
    source, destination, session = two(2 * MIB_BLOCKS)
    for vdisk in (source, destination):
        vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    pending = start(session, once(segment(0, 1, MIB_BLOCKS + 1, 0, 0)))
    order = []
    while not pending.is_done:
        for vdisk in (source, destination):
            if vdisk.held:
                order.append(vdisk.names[-1])
                vdisk.release()
    assert_good(pending.outcome)
    assert order == ["read", "read_ahead", "write", "read", "write"]
    assert destination.blocks(0, MIB_BLOCKS + 1) == source.blocks(0, MIB_BLOCKS + 1)


def test_next_piece_is_fetched_before_a_piece_is_written() -> None:
    source, _, session = two(2 * MIB_BLOCKS)
    assert_good(copy(session, once(segment(0, 1, MIB_BLOCKS + 3, 1, 0))))
    ahead = [(offset, length) for name, offset, length in source.log if name == "read_ahead"]
    assert ahead == [(512 + MIB, 3 * 512)]


def test_copy_ends_with_the_session_of_its_initiator() -> None:
    source, destination, session = two(3 * MIB_BLOCKS)
    destination.immediate_bytes, destination.is_held = NOT_NOW, True
    pending = start(session, once(segment(0, 1, 3 * MIB_BLOCKS, 0, 0)))
    session.close()
    destination.release()
    assert_aborted(pending.outcome, 0x0D02, 16, residual=2 * MIB_BLOCKS)
    assert (destination.held, destination.names) == (deque(), ["write_now", "write"])
    assert destination.blocks(0, MIB_BLOCKS) == source.blocks(0, MIB_BLOCKS)


def test_others_have_their_turn_between_pieces_of_cached_files(open_fileio: OpenFileio) -> None:
    engine = ManualEngine()
    source = open_fileio(b"\xaa" * 4 * MIB, engine, naa_id=naa(0).hex())
    destination = open_fileio(4 * MIB, engine, naa_id=naa(1).hex())
    session = log_in(source, destination)
    pending = start(session, once(segment(0, 1, 4 * MIB_BLOCKS, 0, 0)))
    turns = 0
    while not pending.is_done:
        engine.start()
        engine.finish()
        turns += 1
    assert_good(pending.outcome)
    assert turns >= 3


def test_compare_and_write_waits_for_the_write_of_a_copy() -> None:
    source, destination, session = two()
    destination.immediate_bytes, destination.is_held = NOT_NOW, True
    pending = start(session, once(segment(0, 1, 4, 0, 0)))
    assert destination.names == ["write_now", "write"]
    other = Initiator(session, 1)
    # It expects what the copy brings.
    data_out = source.blocks(2, 1) + b"\xbb" * 512
    comparison = other.start(cdbs.compare_and_write(2, 1), data_out)
    assert destination.names == ["write_now", "write"]
    destination.release()
    assert_good(pending.outcome)
    destination.release_all()
    assert_good(comparison.outcome)
    expected = source.blocks(0, 2) + b"\xbb" * 512 + source.blocks(3, 1)
    assert destination.blocks(0, 4) == expected


def test_copy_waits_for_a_compare_and_write_on_its_destination() -> None:
    source, destination, session = two()
    destination.immediate_bytes, destination.is_held = NOT_NOW, True
    comparison = Initiator(session, 1).start(
        cdbs.compare_and_write(2, 1), bytes(512) + b"\xbb" * 512
    )
    pending = start(session, once(segment(0, 1, 4, 0, 0)))
    assert destination.names == ["read_now", "read"]
    while not pending.is_done:
        destination.release()
    assert_good(comparison.outcome)
    assert_good(pending.outcome)
    assert destination.blocks(0, 4) == source.blocks(0, 4)


def test_files_hold_what_was_copied(open_fileio: OpenFileio) -> None:
    content = b"".join(bytes((number,)) * 512 for number in range(64)) * 64
    source = open_fileio(content, naa_id=naa(0).hex())
    destination = open_fileio(len(content), naa_id=naa(1).hex())
    session = log_in(source, destination)
    blocks = len(content) // 512
    assert_good(copy(session, once(segment(0, 1, blocks - 7, 7, 0))))
    found = Initiator(session, 1).good(cdbs.block(cdbs.READ, 16, 0, blocks), None, len(content))
    assert found == content[7 * 512 :] + bytes(7 * 512)
