# SPDX-License-Identifier: GPL-2.0-or-later
"""EXTENDED COPY among other commands: what waits for it, what it waits for, and what ends it."""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import replace

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.copy_failure import CopyFailure
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.task_management import abort_task, logical_unit_reset
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.copies import (
    MIB,
    MIB_BLOCKS,
    assert_aborted,
    assert_good,
    copy,
    cscd,
    extended_copy,
    log_in,
    naa,
    once,
    parameter_list,
    receive,
    segment,
    start,
    two,
)
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, ManualEngine
from tests.scsi_backend.initiator import Initiator, Outcome, Pending


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


def test_others_have_their_turn_between_pieces_of_disks_without_storage() -> None:
    engine = ManualEngine()
    vdisks = [
        VdiskNullio.open("null", NullioAttributes(size_mb=4, naa_id=naa(number).hex()), engine)
        for number in (0, 1)
    ]
    pending = start(log_in(*vdisks), once(segment(0, 1, 4 * MIB_BLOCKS, 0, 0)))
    for _ in range(3):
        assert not pending.is_done
        engine.start()
        engine.finish()
    assert_good(pending.outcome)


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


def held_copy() -> tuple[FaultyVdisk, FaultyVdisk, Initiator, Pending]:
    """A copy of two pieces, with the first WRITE under way."""
    source, destination, session = two(2 * MIB_BLOCKS)
    destination.immediate_bytes, destination.is_held = NOT_NOW, True
    pending = start(session, once(segment(0, 1, 2 * MIB_BLOCKS, 0, 0)))
    assert destination.names == ["write_now", "write"]
    return source, destination, Initiator(session), pending


@pytest.mark.parametrize("lun", [0, 1])
@pytest.mark.parametrize("attribute", [TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE])
def test_ordered_command_and_the_copy_it_waits_for_do_not_wait_for_each_other(
    attribute: TaskAttribute, lun: int
) -> None:
    source, destination, initiator, pending = held_copy()
    later = Pending(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)
    initiator.session.submit(lun, later.command, attribute)
    destination.release_all()
    assert_good(pending.outcome)
    assert later.outcome.data == source.blocks(0, 1)
    assert destination.data == source.data


@pytest.mark.parametrize("attribute", [TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE])
def test_copy_may_be_ordered_itself(attribute: TaskAttribute) -> None:
    source, destination, session = two()
    data = once(segment(0, 1, 64, 0, 0))
    destination.immediate_bytes, destination.is_held = NOT_NOW, True
    pending = Pending(extended_copy(len(data)), data, None)
    session.submit(1, pending.command, attribute)
    later = Initiator(session, 1).start(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)
    destination.release_all()
    assert_good(pending.outcome)
    assert later.outcome.data == source.blocks(0, 1)


def test_copy_goes_on_where_commands_run_in_their_order() -> None:
    source, destination, session = two(2 * MIB_BLOCKS)
    for nexus in session.nexuses.values():
        unit = nexus.unit
        unit.modes.put(replace(unit.control, queue_algorithm_modifier=0))
    assert_good(copy(session, once(segment(0, 1, 2 * MIB_BLOCKS, 0, 0))))
    assert destination.data == source.data


def test_copy_that_is_aborted_ends_after_the_piece_under_way() -> None:
    source, destination, initiator, pending = held_copy()
    ended: list[bool] = []
    nexus = initiator.session.nexuses[0]
    abort_task(nexus, pending.command, lambda: ended.append(pending.is_done))
    assert ended == []
    destination.release_all()
    assert pending.outcome == Outcome(Status.TASK_ABORTED, None, b"")
    assert ended == [True]
    assert destination.data == source.blocks(0, MIB_BLOCKS) + bytes(MIB)
    status = initiator.good(receive(0, 1, 12), None, 12)
    assert status.hex() == "00000008" + "02" + "0001" + "00" + "00100000"


def test_copy_that_is_aborted_before_its_turn_moves_nothing() -> None:
    source, destination, initiator, first = held_copy()
    data = parameter_list([cscd(0)], [segment(0, 0, 1, 0, 1)], list_identifier=2)
    before = bytes(source.data)
    second = start(initiator.session, data)
    abort_task(initiator.session.nexuses[0], second.command, lambda: None)
    destination.release_all()
    assert_good(first.outcome)
    assert second.outcome.status == Status.TASK_ABORTED
    assert source.data == before


def test_reset_of_the_destination_aborts_the_copy_with_what_became_of_its_write() -> None:
    _, destination, initiator, pending = held_copy()
    logical_unit_reset(initiator.session.nexuses[1].unit, lambda: None)
    destination.release_all()
    failure = CopyFailure(0, Status.TASK_ABORTED, None, True)
    assert_aborted(pending.outcome, 0x0D01, 16 + 32, failure)


@pytest.mark.parametrize("qerr", [1, 3])
def test_qerr_does_not_have_a_copy_aborted_by_its_own_read(qerr: int) -> None:
    source, _, session = two()
    source.faults.errno_at[0] = errno.EIO
    source.immediate_bytes, source.is_held = NOT_NOW, True
    unit = session.nexuses[0].unit
    unit.modes.put(replace(unit.control, qerr=qerr))
    pending = start(session, once(segment(0, 1, 1, 0, 0)))
    other = Initiator(session).start(cdbs.block(cdbs.READ, 16, 5, 1), None, 512)
    source.release_all()
    bad = Sense(0x03, 0x1100, information=0)
    assert_aborted(pending.outcome, 0x0D01, 16, CopyFailure(0, Status.CHECK_CONDITION, bad, False))
    # The copy's own CHECK CONDITION does have others aborted.
    assert other.outcome.status == Status.TASK_ABORTED
