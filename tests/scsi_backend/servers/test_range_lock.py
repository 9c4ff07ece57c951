# SPDX-License-Identifier: GPL-2.0-or-later
"""The range lock: who waits for whom, in which order they begin, and that it is gone afterwards."""

from __future__ import annotations

import pytest

from scsi_backend.servers.command import Command
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.range_lock import Blocks, overlaps
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from scsi_backend.t10.transport_id import transport_id
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition
from tests.scsi_backend.locking import NEW, OLD, ZEROS, begin, join, nexus_of, read, write


class CountingNexus:
    """A nexus that counts how often the tables change."""

    def __init__(self) -> None:
        self.outstanding: set[Command] = set()
        self.aborted: set[Command] = set()
        self.id = ItNexusId(transport_id("test"), 1)
        self.changes = 0

    def establish_unit_attention(self, sense: Sense) -> None:
        """See ``AttachedNexus``."""

    def recompose(self) -> None:
        """See ``AttachedNexus``."""
        self.changes += 1


# What the numbers of two ranges can be to one another; 4 to 7 is the range that stays.
RELATIONS = [
    ((0, 4), False),
    ((0, 5), True),
    ((3, 1), False),
    ((3, 2), True),
    ((3, 6), True),
    ((4, 1), True),
    ((4, 4), True),
    ((4, 5), True),
    ((5, 2), True),
    ((7, 1), True),
    ((7, 9), True),
    ((8, 1), False),
    ((40, 3), False),
    ((4, 0), False),
    ((5, 0), False),
    ((8, 0), False),
]


@pytest.mark.parametrize(("blocks", "is_overlap"), RELATIONS)
def test_ranges_overlap_that_have_a_block_in_common(blocks: Blocks, is_overlap: bool) -> None:
    assert overlaps(blocks, (4, 4)) is is_overlap
    assert overlaps((4, 4), blocks) is is_overlap


@pytest.mark.parametrize(("blocks", "is_overlap"), RELATIONS)
def test_later_command_waits_exactly_if_it_overlaps(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, blocks: Blocks, is_overlap: bool
) -> None:
    atomic = begin(one, 4, 4)
    later = read(other, *blocks)
    assert vdisk.names.count("read_now") == (1 if is_overlap else 2)
    assert (later.command in nexus_of(other).outstanding) is not later.is_done
    vdisk.release_all()
    assert (atomic.outcome.status, later.outcome.status) == (Status.GOOD, Status.GOOD)
    start, end = blocks[0], sum(blocks)
    assert later.outcome.data == b"".join(NEW if 4 <= lba < 8 else OLD for lba in range(start, end))


@pytest.mark.parametrize(("blocks", "is_overlap"), RELATIONS)
def test_atomic_command_waits_exactly_for_earlier_ones_that_overlap(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, blocks: Blocks, is_overlap: bool
) -> None:
    earlier = write(one, *blocks_with_data(blocks))
    atomic = begin(other, 4, 4)
    has_begun = "read" in vdisk.names
    assert has_begun is not (is_overlap and not earlier.is_done)
    vdisk.release_all()
    assert earlier.outcome.status == Status.GOOD
    assert atomic.outcome.status == Status.GOOD
    assert vdisk.blocks(4, 4) == NEW * 4


def blocks_with_data(blocks: Blocks) -> tuple[int, bytes]:
    """What ``write`` wants for a range that shall hold OLD."""
    return blocks[0], OLD * blocks[1]


# (name, CDB, data-out, room): every command that reads or writes block 5.
TOUCHING: list[tuple[str, bytes, bytes | None, int | None]] = [
    *(
        (f"READ({width})", cdbs.block(cdbs.READ, width, 5, 1), None, 512)
        for width in (6, 10, 12, 16)
    ),
    *(
        (f"WRITE({width})", cdbs.block(cdbs.WRITE, width, 5, 1), OLD, None)
        for width in (6, 10, 12, 16)
    ),
    *(
        (f"VERIFY({width})", cdbs.block(cdbs.VERIFY, width, 5, 1), None, None)
        for width in (10, 12, 16)
    ),
    *(
        (f"WRITE SAME({width})", cdbs.block(cdbs.WRITE_SAME, width, 5, 1), ZEROS, None)
        for width in (10, 16)
    ),
    ("UNMAP", cdbs.unmap(24), cdbs.unmap_list((5, 1)), None),
    ("COMPARE AND WRITE", cdbs.compare_and_write(5, 1), NEW + OLD, None),
]
NAMES = [row[0] for row in TOUCHING]


@pytest.mark.parametrize(("name", "cdb", "data_out", "room"), TOUCHING, ids=NAMES)
def test_every_command_that_touches_the_blocks_waits_for_an_atomic_one(
    vdisk: FaultyVdisk,
    one: Initiator,
    other: Initiator,
    name: str,
    cdb: bytes,
    data_out: bytes | None,
    room: int | None,
) -> None:
    atomic = begin(one, 5)
    begun = list(vdisk.log)
    later = other.start(cdb, data_out, room)
    assert vdisk.log == begun
    assert nexus_of(other).outstanding == {later.command}
    vdisk.release()
    vdisk.release()
    assert atomic.outcome.status == Status.GOOD
    assert len(vdisk.log) > len(begun) + 2
    vdisk.release_all()
    assert later.outcome.status == Status.GOOD


@pytest.mark.parametrize(("name", "cdb", "data_out", "room"), TOUCHING, ids=NAMES)
def test_atomic_command_waits_for_every_command_that_touches_its_blocks(
    vdisk: FaultyVdisk,
    one: Initiator,
    other: Initiator,
    name: str,
    cdb: bytes,
    data_out: bytes | None,
    room: int | None,
) -> None:
    vdisk.data[5 * 512 : 6 * 512] = NEW
    earlier = one.start(cdb, data_out, room)
    begun = list(vdisk.log)
    atomic = begin(other, 5, expected=bytes(512))
    assert vdisk.log == begun
    vdisk.release_all()
    assert earlier.outcome.status == Status.GOOD
    assert atomic.outcome.sense is None or atomic.outcome.sense.code == 0x1D00


def test_read_6_of_length_zero_reaches_256_blocks() -> None:
    big = FaultyVdisk(300)
    big.immediate_bytes, big.is_held = NOT_NOW, True
    initiator = join(disk(big))
    initiator.start(cdbs.compare_and_write(255, 1), bytes(512) + NEW)
    initiator.start(cdbs.block(cdbs.READ, 6, 0, 0), None, 256 * 512)
    assert big.names == ["read_now", "read"]
    big.release_all()


@pytest.mark.parametrize(
    ("cdb", "room"),
    [
        ("00", None),
        ("120000002400", 36),
        ("03000000fc00", 252),
        ("1a003f00ff00", 255),
        ("25", 8),
        ("a00000000000000000ff0000", 255),
        ("9e100000000000000000000000200000", 32),
    ],
)
def test_commands_that_touch_no_blocks_do_not_wait(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, cdb: str, room: int | None
) -> None:
    begin(one, 0, 64)
    other.good(cdbs.raw(cdb), None, room)
    vdisk.release_all()


@pytest.mark.parametrize("opcodes", [cdbs.SYNCHRONIZE_CACHE, cdbs.PRE_FETCH])
def test_flush_and_read_ahead_do_not_wait(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, opcodes: dict[int, int]
) -> None:
    begin(one, 0, 64)
    pending = other.start(cdbs.block(opcodes, 16, 0, 1))
    vdisk.release(1)
    assert pending.is_done
    vdisk.release_all()


def test_waiting_commands_begin_in_the_order_of_their_arrival(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    begin(one, 0, 8)
    for number in range(6):
        write(one if number % 2 else other, number, OLD)
    vdisk.release()
    vdisk.log.clear()
    vdisk.release()
    begun = [offset // 512 for name, offset, _ in vdisk.log if name == "write"]
    assert begun == [0, 1, 2, 3, 4, 5]
    vdisk.release_all()


def test_atomic_commands_on_the_same_blocks_follow_one_another(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    first = begin(one, 3, expected=OLD)
    second = begin(other, 2, 2, expected=OLD)
    third = begin(one, 3, expected=NEW)
    vdisk.release_all()
    assert first.outcome.status == Status.GOOD
    assert_check_condition(second.outcome, "0E/1D/00", information=512)
    assert third.outcome.status == Status.GOOD
    assert vdisk.blocks(2, 2) == OLD + NEW


def test_atomic_commands_on_other_blocks_run_side_by_side(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    pending = [begin(one, 0), begin(other, 1)]
    assert vdisk.names.count("read") == 2
    vdisk.release_all()
    assert [each.outcome.status for each in pending] == [Status.GOOD] * 2


def test_command_that_waits_keeps_no_other_waiting_but_atomic_ones(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    begin(one, 4)
    waiting = write(other, 4, OLD * 2)
    free = write(other, 5, NEW)
    atomic = begin(other, 5, expected=NEW)
    assert [name for name in vdisk.names if name in ("read", "write")] == ["read", "write"]
    vdisk.release(1)
    assert (waiting.is_done, free.is_done, atomic.is_done) == (False, True, False)
    vdisk.release_all()
    assert waiting.outcome.status == Status.GOOD
    assert_check_condition(atomic.outcome, "0E/1D/00", information=0)


def test_atomic_command_waits_for_all_that_came_before(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    earlier = [read(one, 0), write(other, 1, OLD), read(one, 2)]
    atomic = begin(other, 0, 3)
    for each in (2, 0, 0):
        assert vdisk.names.count("read") == 2
        vdisk.release(each)
    assert all(each.is_done for each in earlier)
    assert vdisk.names.count("read") == 3
    vdisk.release_all()
    assert atomic.outcome.status == Status.GOOD


@pytest.mark.parametrize("is_atomic", [True, False])
def test_command_over_two_atomic_ones_waits_for_both(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, is_atomic: bool
) -> None:
    first, second = begin(one, 0), begin(one, 1)
    later = begin(other, 0, 2, NEW) if is_atomic else read(other, 0, 2)
    vdisk.release(1)
    vdisk.release(1)
    assert (first.is_done, second.is_done) == (False, True)
    assert vdisk.names.count("read") == 2
    vdisk.release_all()
    assert later.outcome.status == Status.GOOD


def test_atomic_command_does_not_pass_one_that_began_beside_a_waiting_one(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    begin(one, 4)
    waiting = write(other, 4, OLD * 2)
    free = write(other, 5, NEW)
    atomic = begin(other, 5, expected=NEW)
    for index in (0, 1, 1):
        vdisk.release(index)
    assert (waiting.is_done, free.is_done) == (True, False)
    assert vdisk.names.count("read") == 1
    vdisk.release_all()
    assert (free.outcome.status, atomic.outcome.status) == (Status.GOOD, Status.GOOD)


def test_tables_change_only_while_an_atomic_command_can_be_met(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    counter = CountingNexus()
    unit.attach(counter)
    begin(one, 0)
    begin(other, 0)
    begin(other, 9)
    assert counter.changes == 1
    assert unit.dispatch_in_force is not unit.dispatch
    assert nexus_of(one).dispatch is nexus_of(other).dispatch is unit.dispatch_in_force
    vdisk.release_all()
    assert counter.changes == 2
    assert nexus_of(one).dispatch is nexus_of(other).dispatch is unit.dispatch


def test_tables_do_not_change_for_an_atomic_command_that_ends_at_once(
    vdisk: FaultyVdisk, unit: LogicalUnit, one: Initiator, other: Initiator
) -> None:
    elsewhere = read(other, 9)
    vdisk.immediate_bytes = None
    counter = CountingNexus()
    unit.attach(counter)
    assert begin(one, 0).outcome.status == Status.GOOD
    assert begin(one, 0).outcome.status == Status.CHECK_CONDITION
    one.send(cdbs.compare_and_write(64, 1), OLD + NEW)
    assert counter.changes == 0
    vdisk.release_all()
    assert elsewhere.outcome.status == Status.GOOD
