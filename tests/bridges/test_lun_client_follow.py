# SPDX-License-Identifier: GPL-2.0-or-later
"""A front-end's hold on a LUN that is mapped anew: followed, lost, found again, or left alone."""

from __future__ import annotations

import logging

import pytest

from bridges.lun_client import LunClient
from bridges.recovery import Reply, ScsiError, reply_of
from scsi_backend.servers.command import Command
from scsi_backend.t10.cdb import compare_and_write
from scsi_backend.t10.status import Status
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.faulty_lun import (
    BUSY,
    FaultyLun,
    ManualClock,
    check_condition,
    sense,
)
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern

READ_CAPACITY_16, MODE_SENSE_10, READ_16, WRITE_16 = 0x9E, 0x5A, 0x88, 0x8A
GOOD = Reply(Status.GOOD, None, 512)
WRITTEN = Reply(Status.GOOD, None, 0)
LOST = Reply(Status.CHECK_CONDITION, sense("05/25/00"), 0)


def lun_of(first_block: int, blocks: int = 1024, block_size_bytes: int = 512) -> FaultyLun:
    """A disk whose every block holds the pattern of a number of its own."""
    vdisk = FaultyVdisk(blocks, block_size_bytes)
    content = (pattern(first_block + lba, block_size_bytes) for lba in range(blocks))
    vdisk.data[:] = b"".join(content)
    return FaultyLun(vdisk)


def content(lun: FaultyLun) -> bytes:
    """What is on a disk."""
    assert isinstance(lun.vdisk, FaultyVdisk)
    return bytes(lun.vdisk.data)


class House:
    """A client of LUN 0, which leads to disk ``a`` until the test maps another there."""

    def __init__(self) -> None:
        self.a, self.b, self.c = lun_of(0), lun_of(10_000, 2048), lun_of(20_000, 512)
        self.big = lun_of(0, 1024, 4096)
        self.target = self.a.target
        self.session = self.target.open_session("initiator")
        self.clock = ManualClock()
        self.client = LunClient(self.session, 0, self.clock)
        self.client.open(lambda error: None)
        self.changes: list[int] = []
        self.client.on_change = lambda: self.changes.append(self.client.info.block_count)
        self.a.log.clear()

    def map(self, lun: FaultyLun | None, *, is_read_only: bool = False) -> None:
        """Let LUN 0 lead to a disk, or nowhere."""
        luns = {} if lun is None else {0: LunEntry(lun.unit, is_read_only)}
        self.target.configure(luns=luns)

    def begin_read(self, lba: int = 0) -> tuple[list[Reply], bytearray]:
        """Begin to read a block; return where the outcome and the data will be."""
        buffer = bytearray(512)
        cdb = cdbs.block(cdbs.READ, 16, lba, 1)
        return self._submit(cdb, memoryview(buffer), None), buffer

    def read(self, lba: int = 0) -> tuple[Reply, bytes]:
        """Read a block at once."""
        (outcome,), buffer = self.begin_read(lba)
        return outcome, bytes(buffer)

    def write(self, lba: int, data: bytes) -> Reply:
        """Write a block at once."""
        cdb = cdbs.block(cdbs.WRITE, 16, lba, 1)
        (outcome,) = self._submit(cdb, None, memoryview(data))
        return outcome

    def _submit(
        self, cdb: bytes, data_in: memoryview | None, data_out: memoryview | None
    ) -> list[Reply]:
        outcomes: list[Reply] = []

        def done(command: Command) -> None:
            outcomes.append(reply_of(command))

        self.client.submit(Command(cdb, data_in, data_out, done))
        return outcomes


@pytest.fixture
def house() -> House:
    return House()


def test_the_next_command_finds_the_device_that_is_there_now(house: House) -> None:
    was = house.client.info
    house.map(house.b)
    assert house.client.info is was
    assert not house.client.is_current
    assert house.read(7) == (GOOD, pattern(10_007, 512))
    assert house.changes == [2048]
    assert house.client.info.block_count == 2048
    assert house.client.is_current
    assert house.client.nexus is house.session.nexuses[0]
    # What was to be told of the change has been told.
    assert house.client.nexus.take_unit_attention() is None
    assert house.a.log == []
    assert house.read(8) == (GOOD, pattern(10_008, 512))


def test_a_write_that_meets_the_change_goes_to_the_new_device_only(house: House) -> None:
    before = content(house.a)
    house.map(house.b)
    assert house.write(5, pattern(99, 512)) == WRITTEN
    assert content(house.b)[5 * 512 : 6 * 512] == pattern(99, 512)
    assert content(house.a) == before


def test_what_is_under_way_ends_where_it_began(house: House) -> None:
    house.a.is_held = True
    outcomes, buffer = house.begin_read(3)
    house.map(house.b)
    assert house.read(3) == (GOOD, pattern(10_003, 512))
    house.a.release_all()
    assert (outcomes, bytes(buffer)) == ([GOOD], pattern(3, 512))


def test_what_waits_to_be_tried_again_is_tried_on_the_new_device(house: House) -> None:
    house.a.answer(READ_16, [BUSY])
    outcomes, buffer = house.begin_read(3)
    house.map(house.b)
    house.clock.run()
    assert (outcomes, bytes(buffer)) == ([GOOD], pattern(10_003, 512))


def test_a_command_of_the_fast_path_is_recovered_on_the_new_device(house: House) -> None:
    submit = house.client.nexus.submit
    house.map(house.b)
    ended: list[Command] = []
    buffers = [bytearray(512) for _ in range(2)]
    for lba, buffer in enumerate(buffers):
        cdb = cdbs.block(cdbs.READ, 16, lba, 1)
        submit(Command(cdb, memoryview(buffer), None, ended.append))
    assert [reply_of(command) for command in ended] == [LOST, LOST]
    recovered: list[Command] = []
    for command in ended:
        house.client.recover(command, recovered.append)
    assert [reply_of(command) for command in recovered] == [GOOD, GOOD]
    assert buffers == [pattern(10_000, 512), pattern(10_001, 512)]
    assert house.changes == [2048], "the second one finds the way that the first one found"


def test_what_has_followed_keeps_nobody_waiting_at_the_old_device(house: House) -> None:
    # As a connection does that has nothing to send.
    old = house.client.nexus
    house.map(house.b)
    vdisk = house.b.vdisk
    assert isinstance(vdisk, FaultyVdisk)
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    outcomes, _ = house.begin_read()
    vdisk.release_all()
    assert outcomes == [GOOD]
    assert old.outstanding == set()
    house.map(house.a)
    assert house.read()[0] == GOOD
    cdb = compare_and_write(0, 1)
    both = memoryview(pattern(0, 512) + pattern(1, 512))
    ended: list[Command] = []
    house.client.submit(Command(cdb, None, both, ended.append))
    assert [reply_of(command) for command in ended] == [WRITTEN]


def test_a_lost_lun_fails_until_it_is_there_again(house: House) -> None:
    house.map(None)
    assert [house.read()[0] for _ in range(3)] == [LOST] * 3
    assert house.changes == []
    assert house.clock.delays_s == []
    house.map(house.a)
    assert house.read(4) == (GOOD, pattern(4, 512))
    assert house.changes == [1024]


def test_a_lost_lun_that_comes_back_as_another_device_is_followed(house: House) -> None:
    house.map(None)
    assert house.read()[0] == LOST
    house.map(house.c)
    assert house.read(4) == (GOOD, pattern(20_004, 512))


def test_a_lost_lun_cannot_be_opened(house: House) -> None:
    house.map(None)
    outcomes: list[ScsiError | None] = []
    house.client.open(outcomes.append)
    house.client.refresh(lambda: outcomes.append(None))
    assert isinstance(outcomes[0], ScsiError)
    assert outcomes[0].reply == LOST
    assert outcomes[1:] == [None]
    assert house.client.info.block_count == 1024


def test_a_target_that_is_switched_off_and_on_is_a_lun_lost_and_found(house: House) -> None:
    house.target.is_enabled = False
    assert house.read()[0] == LOST
    house.target.is_enabled = True
    assert house.read(9) == (GOOD, pattern(9, 512))


def test_moving_to_a_group_with_the_same_lun_is_not_noticed(house: House) -> None:
    nexus = house.client.nexus
    patterns = (InitiatorPattern.parse("init*"),)
    luns = {0: LunEntry(house.a.unit), 1: LunEntry(house.b.unit)}
    house.target.configure(groups=[InitiatorGroup("g", patterns, luns)])
    assert house.read(1) == (GOOD, pattern(1, 512))
    assert house.client.nexus is nexus
    luns = {0: LunEntry(house.b.unit)}
    house.target.configure(groups=[InitiatorGroup("g", patterns, luns)])
    assert house.read(1) == (GOOD, pattern(10_001, 512))


def test_write_protection_comes_and_goes(house: House) -> None:
    house.map(house.a, is_read_only=True)
    protected = Reply(Status.CHECK_CONDITION, sense("07/27/00"), 0)
    assert house.write(0, bytes(512)) == protected
    assert house.client.info.is_read_only
    house.map(house.a)
    assert house.write(0, bytes(512)) == WRITTEN
    assert not house.client.info.is_read_only


def test_a_device_with_other_blocks_is_never_followed(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(house.big)
    house.map(house.big)
    assert house.write(1, bytes(512)) == LOST
    assert house.client.is_barred
    looks = house.big.count(READ_CAPACITY_16)
    assert [house.read(1)[0] for _ in range(5)] == [LOST] * 5
    assert house.big.count(READ_CAPACITY_16) == looks, "it was looked at already"
    assert {READ_16, WRITE_16}.isdisjoint(house.big.log)
    assert content(house.big) == before
    assert house.client.info.block_size_bytes == 512
    assert house.changes == []
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.getMessage() == (
        "initiator: LUN 0 leads to faulty with blocks of 4096 bytes instead of 512: not followed"
    )


def test_after_other_blocks_the_right_ones_are_followed_again(house: House) -> None:
    for lun, first_block in ((house.a, 0), (house.c, 20_000)):
        house.map(house.big)
        assert house.read()[0] == LOST
        house.map(lun)
        assert not house.client.is_barred
        assert house.read(2) == (GOOD, pattern(first_block + 2, 512))


def test_a_client_of_other_blocks_cannot_be_opened_again(house: House) -> None:
    house.map(house.big)
    outcomes: list[ScsiError | None] = []
    house.client.open(outcomes.append)
    (failure,) = outcomes
    assert isinstance(failure, ScsiError)
    assert house.client.is_barred


def test_a_client_that_does_not_follow_stays_with_its_device(house: House) -> None:
    client = LunClient(house.session, 0, house.clock, follows=False)
    client.open(lambda error: None)
    nexus = client.nexus
    house.map(house.b)
    house.client = client
    assert house.read()[0] == LOST
    client.refresh(lambda: None)
    assert (client.nexus, client.info.block_count) == (nexus, 1024)
    assert not client.is_barred


def test_a_device_that_says_itself_that_it_has_no_lun_is_asked_once(house: House) -> None:
    house.a.answer(READ_16, [check_condition("05/25/00")])
    assert house.read()[0] == LOST
    assert house.a.log == [READ_16]
