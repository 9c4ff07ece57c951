# SPDX-License-Identifier: GPL-2.0-or-later
"""READ by reference: data that are told where they lie, and memory that is asked for if not."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.io.engine import Done
from scsi_backend.io.located import ZEROS, FileRange, Located
from scsi_backend.servers.command import Command, ReadByReference
from scsi_backend.servers.disk import disk
from scsi_backend.t10.sense import INTERNAL_TARGET_FAILURE
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern
from tests.scsi_backend.initiator import Initiator, connect_unit

BLOCK = 512
WIDTHS = [6, 10, 12, 16]
SOMEWHERE = FileRange(1000, 7)


class LocatingVdisk(FaultyVdisk):
    """A disk that locates whatever it is asked for at ``place``."""

    def __init__(self) -> None:
        super().__init__()
        self.place: Located | None = None
        self.asked: list[tuple[int, int]] = []
        # What waits to hear whether there is a hole, once the disk has to be asked.
        self.must_ask = False
        self.waiting: list[Done] = []

    def locate_now(self, offset_bytes: int, length_bytes: int) -> Located | None:
        """See ``Vdisk.locate_now``."""
        self.asked.append((offset_bytes, length_bytes))
        return self.place

    def find_hole(self, offset_bytes: int, length_bytes: int, done: Done) -> bool:
        """See ``Vdisk.find_hole``."""
        if self.must_ask:
            self.waiting.append(done)
        return self.must_ask


class Read(ReadByReference):
    """A READ with what became of it."""

    __slots__ = ("completions", "memory")

    def __init__(self, cdb: bytes) -> None:
        super().__init__(cdb, None, None, self._count)
        self.completions = 0
        self.memory: memoryview | None = None

    def _count(self, command: Command) -> None:
        assert command is self
        self.completions += 1

    @property
    def data(self) -> bytes:
        """What lies in the memory provided."""
        assert self.memory is not None
        return bytes(self.memory)

    def provide(self, length_bytes: int) -> memoryview:
        """See ``ReadByReference.provide``."""
        assert self.memory is None, "memory is asked for once"
        self.memory = memoryview(bytearray(length_bytes))
        return self.memory


@pytest.fixture
def vdisk() -> LocatingVdisk:
    vdisk = LocatingVdisk()
    vdisk.fill()
    return vdisk


@pytest.fixture
def initiator(vdisk: LocatingVdisk) -> Initiator:
    initiator = connect_unit(disk(vdisk))
    initiator.send(cdbs.TEST_UNIT_READY)
    return initiator


def start(initiator: Initiator, cdb: bytes) -> Read:
    read = Read(cdb)
    initiator.session.submit(initiator.lun, read)
    return read


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("place", [SOMEWHERE, ZEROS])
def test_data_that_are_located_are_not_read(
    vdisk: LocatingVdisk, initiator: Initiator, width: int, place: Located
) -> None:
    vdisk.place = place
    read = start(initiator, cdbs.block(cdbs.READ, width, 3, 5))
    assert (read.status, read.completions) == (Status.GOOD, 1)
    assert read.located is place
    assert (read.data_in_length, read.data_in, read.memory) == (5 * BLOCK, None, None)
    assert vdisk.asked == [(3 * BLOCK, 5 * BLOCK)]
    assert vdisk.names == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("immediate_bytes", [None, NOT_NOW, 700])
def test_data_that_are_not_located_are_read_into_the_memory_provided(
    vdisk: LocatingVdisk, initiator: Initiator, width: int, immediate_bytes: int | None
) -> None:
    vdisk.immediate_bytes = immediate_bytes
    read = start(initiator, cdbs.block(cdbs.READ, width, 3, 2))
    assert (read.status, read.completions) == (Status.GOOD, 1)
    assert read.located is None
    assert read.data_in_length == 2 * BLOCK
    assert read.data == pattern(3, BLOCK) + pattern(4, BLOCK)


def test_a_read_under_way_has_its_memory_and_ends_later(
    vdisk: LocatingVdisk, initiator: Initiator
) -> None:
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    read = start(initiator, cdbs.block(cdbs.READ, 16, 3, 2))
    assert (read.status, read.completions) == (None, 0)
    assert read.data == bytes(2 * BLOCK)
    vdisk.release_all()
    assert (read.status, read.completions) == (Status.GOOD, 1)
    assert read.data == pattern(3, BLOCK) + pattern(4, BLOCK)


def test_a_bad_block_is_met_in_the_memory_provided(
    vdisk: LocatingVdisk, initiator: Initiator
) -> None:
    vdisk.faults.errno_at[4] = errno.EIO
    read = start(initiator, cdbs.block(cdbs.READ, 16, 3, 5))
    assert (read.status, read.completions) == (Status.CHECK_CONDITION, 1)
    assert read.data_in_length == 0
    assert read.memory is not None


@pytest.mark.parametrize(("lba", "blocks"), [(1023, 2), (1024, 1), (0, 1025)])
def test_what_lies_past_the_end_is_neither_located_nor_given_memory(
    vdisk: LocatingVdisk, initiator: Initiator, lba: int, blocks: int
) -> None:
    vdisk.place = SOMEWHERE
    read = start(initiator, cdbs.block(cdbs.READ, 16, lba, blocks))
    assert (read.status, read.completions) == (Status.CHECK_CONDITION, 1)
    assert (vdisk.asked, read.memory, read.data_in_length) == ([], None, 0)


def test_memory_from_the_beginning_is_used_and_nothing_located(
    vdisk: LocatingVdisk, initiator: Initiator
) -> None:
    # As when it is tried again.
    vdisk.place = SOMEWHERE
    read = Read(cdbs.block(cdbs.READ, 16, 3, 1))
    read.data_in = memory = memoryview(bytearray(BLOCK))
    initiator.session.submit(initiator.lun, read)
    assert read.status == Status.GOOD
    assert memory == pattern(3, BLOCK)
    assert (vdisk.asked, read.memory) == ([], None)


def test_a_command_that_is_no_read_by_reference_gets_nothing_located(
    vdisk: LocatingVdisk, initiator: Initiator
) -> None:
    vdisk.place = SOMEWHERE
    assert initiator.good(cdbs.block(cdbs.READ, 16, 3, 1), None, BLOCK) == pattern(3, BLOCK)
    # Nor does one that has room for less than it asks for, or none.
    assert initiator.good(cdbs.block(cdbs.READ, 16, 3, 1), None, 100) == pattern(3, BLOCK)[:100]
    assert initiator.good(cdbs.block(cdbs.READ, 16, 3, 1)) == b""
    assert vdisk.asked == []


def test_by_reference_does_what_others_do_with_commands_that_read_nothing(
    vdisk: LocatingVdisk, initiator: Initiator
) -> None:
    read = start(initiator, cdbs.TEST_UNIT_READY)
    assert (read.status, read.memory, vdisk.asked) == (Status.GOOD, None, [])


@pytest.mark.parametrize("width", WIDTHS)
def test_a_hole_that_has_to_be_asked_for_is_told_later(
    initiator: Initiator, vdisk: LocatingVdisk, width: int
) -> None:
    vdisk.must_ask = True
    read = start(initiator, cdbs.block(cdbs.READ, width, 4, 8))
    assert read.data_in_length == 0
    vdisk.waiting.pop()(1)
    assert (read.status, read.located, read.memory) == (Status.GOOD, ZEROS, None)
    assert read.data_in_length == 8 * BLOCK
    assert read.completions == 1


@pytest.mark.parametrize("answer", [0, -errno.EIO], ids=["data", "no answer"])
def test_what_is_no_hole_is_read_after_all(
    initiator: Initiator, vdisk: LocatingVdisk, answer: int
) -> None:
    vdisk.must_ask = True
    read = start(initiator, cdbs.block(cdbs.READ, 16, 4, 8))
    assert read.memory is None
    vdisk.waiting.pop()(answer)
    assert (read.status, read.located) == (Status.GOOD, None)
    assert read.data == vdisk.blocks(4, 8)
    assert read.completions == 1


def test_a_read_that_gets_no_memory_later_ends_all_the_same(
    initiator: Initiator, vdisk: LocatingVdisk
) -> None:
    class Poor(Read):
        def provide(self, length_bytes: int) -> memoryview:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

    vdisk.must_ask = True
    read = Poor(cdbs.block(cdbs.READ, 16, 4, 8))
    initiator.session.submit(initiator.lun, read)
    vdisk.waiting.pop()(0)
    assert read.completions == 1
    assert (read.status, read.sense) == (Status.CHECK_CONDITION, INTERNAL_TARGET_FAILURE)
