# SPDX-License-Identifier: GPL-2.0-or-later
"""What a logical unit counts, by the commands that it gets."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.statistics import SHORT_BLOCKS, Counters, Statistics
from scsi_backend.t10 import sense
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import assert_check_condition
from tests.scsi_backend.locking import join


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.mark.parametrize("width", [6, 10, 12, 16])
def test_read_counts_itself_and_its_blocks(vdisk: FaultyVdisk, width: int) -> None:
    unit = disk(vdisk)
    join(unit).good(cdbs.block(cdbs.READ, width, 1, 3), None, 3 * 512)
    assert unit.statistics.total == Counters(read_commands=1, read_blocks=3)


@pytest.mark.parametrize("width", [6, 10, 12, 16])
def test_write_counts_itself_and_its_blocks(vdisk: FaultyVdisk, width: int) -> None:
    unit = disk(vdisk)
    join(unit).good(cdbs.block(cdbs.WRITE, width, 1, 3), bytes(3 * 512))
    assert unit.statistics.total == Counters(write_commands=1, write_blocks=3)


@pytest.mark.parametrize(
    ("cdb", "data_blocks"),
    [
        (cdbs.block(cdbs.ORWRITE, 16, 1, 3), 3),
        (cdbs.block(cdbs.WRITE_AND_VERIFY, 10, 1, 3), 3),
        (cdbs.write_atomic_16(1, 3), 3),
        (cdbs.compare_and_write(1, 3), 6),
    ],
)
def test_other_writes_count_as_well(cdb: bytes, data_blocks: int) -> None:
    unit = disk(FaultyVdisk(max_atomic_bytes=1 << 20))
    join(unit).good(cdb, bytes(data_blocks * 512))
    assert unit.statistics.total == Counters(write_commands=1, write_blocks=3)


@pytest.mark.parametrize("blocks", [0, 1, SHORT_BLOCKS, SHORT_BLOCKS + 1, 2 * SHORT_BLOCKS])
def test_commands_of_any_length_count(vdisk: FaultyVdisk, blocks: int) -> None:
    unit = disk(vdisk)
    initiator = join(unit)
    for _ in range(2):
        initiator.good(cdbs.block(cdbs.READ, 10, 0, blocks), None, blocks * 512)
    initiator.good(cdbs.block(cdbs.WRITE, 10, 0, blocks), bytes(blocks * 512))
    assert unit.statistics.total == Counters(
        read_commands=2, read_blocks=2 * blocks, write_commands=1, write_blocks=blocks
    )


def test_all_initiators_count_together(vdisk: FaultyVdisk) -> None:
    unit = disk(vdisk)
    for _ in range(2):
        join(unit).good(cdbs.block(cdbs.READ, 16, 0, 8), None, 8 * 512)
    assert unit.statistics.total == Counters(read_commands=2, read_blocks=16)


@pytest.mark.parametrize(
    "cdb",
    [
        cdbs.block(cdbs.READ, 10, 1024, 1),
        cdbs.block(cdbs.READ, 12, 0, 1025),
        cdbs.raw("2820" + "00" * 8),
    ],
)
def test_refused_command_does_not_count(vdisk: FaultyVdisk, cdb: bytes) -> None:
    unit = disk(vdisk)
    assert join(unit).send(cdb, None, 512).sense is not None
    assert unit.statistics.total == Counters()


def test_read_that_fails_counts_as_an_error(vdisk: FaultyVdisk) -> None:
    vdisk.faults.errno_at[5] = errno.EIO
    vdisk.faults.errno_of["read"] = errno.EIO
    unit = disk(vdisk)
    outcome = join(unit).send(cdbs.block(cdbs.READ, 10, 5, 1), None, 512)
    assert_check_condition(outcome, "03/11/00", information=5)
    assert unit.statistics.total.read_errors == 1


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_write_that_fails_counts_as_an_error(vdisk: FaultyVdisk, operation: str) -> None:
    vdisk.immediate_bytes = NOT_NOW
    vdisk.faults.errno_of[operation] = errno.EIO
    unit = disk(vdisk)
    outcome = join(unit).send(cdbs.block(cdbs.WRITE, 10, 5, 1, 0x08), bytes(512))
    assert_check_condition(outcome, "03/03/00", information=5)
    assert unit.statistics.total.write_errors == 1


@pytest.mark.parametrize("follow_up", [cdbs.TEST_UNIT_READY, cdbs.raw("03000000ff00")])
def test_deferred_error_counts_once_whoever_reports_it(
    vdisk: FaultyVdisk, follow_up: bytes
) -> None:
    vdisk.faults.errno_of["sync"] = errno.EIO
    unit = disk(vdisk)
    initiator = join(unit)
    initiator.good(cdbs.raw("3502"))
    initiator.send(follow_up, None, 255)
    assert unit.statistics.total.write_errors == 1


@pytest.mark.parametrize(
    "found", [sense.INVALID_OPCODE, sense.SPACE_ALLOCATION_FAILED, sense.miscompare(0)]
)
def test_other_sense_data_are_no_errors_of_the_medium(found: sense.Sense) -> None:
    statistics = Statistics()
    statistics.note_error(found)
    assert statistics.total == Counters()


def test_each_page_counts_from_its_own_reset() -> None:
    statistics = Statistics()
    for _ in range(5):
        statistics.reads.add(1)
    statistics.reset(0x03)
    for _ in range(2):
        statistics.reads.add(1)
    counted = [statistics.counters(code).read_commands for code in (0x03, 0x19)]
    assert counted == [2, 7]


def test_minutes_begin_at_zero() -> None:
    assert Statistics().power_on_minutes == 0
