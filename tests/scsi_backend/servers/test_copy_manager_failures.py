# SPDX-License-Identifier: GPL-2.0-or-later
"""EXTENDED COPY that is aborted: by what, where, and how much is missing."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.copy_failure import CopyFailure
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from tests.scsi_backend.copies import (
    MIB,
    MIB_BLOCKS,
    assert_aborted,
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
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk


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
