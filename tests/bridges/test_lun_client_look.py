# SPDX-License-Identifier: GPL-2.0-or-later
"""A look at a LUN that is mapped anew, and what comes of it where the LUN changes on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridges.lun_client import LunClient
from bridges.recovery import ScsiError
from tests.bridges.faulty_lun import CAPACITY_CHANGED, Answer, FaultyLun
from tests.bridges.test_lun_client_follow import (
    GOOD,
    LOST,
    MODE_SENSE_10,
    READ_16,
    READ_CAPACITY_16,
    House,
)
from tests.scsi_backend.fakes import pattern


@pytest.fixture
def house() -> House:
    return House()


def test_of_commands_that_fail_together_one_looks_and_all_go_on(house: House) -> None:
    house.b.is_held = True
    house.map(house.b)
    reads = [house.begin_read(lba) for lba in range(20)]
    assert len(house.b.held) == 1
    assert all(outcomes == [] for outcomes, _ in reads)
    house.b.release_all()
    for lba, (outcomes, buffer) in enumerate(reads):
        assert (outcomes, bytes(buffer)) == ([GOOD], pattern(10_000 + lba, 512))
    # 3F/03 on the way made it look once more.
    assert house.b.count(READ_CAPACITY_16) == 2
    assert house.b.count(READ_16) == 20


@pytest.mark.parametrize("steps", range(1, 26))
def test_a_lun_that_is_replaced_during_the_look_is_followed_to_its_last_device(
    house: House, steps: int
) -> None:
    house.b.is_held = True
    house.map(house.b)
    outcomes, buffer = house.begin_read(3)
    for _ in range(steps):
        if house.b.held:
            house.b.release()
    house.map(house.c)
    house.b.release_all()
    assert outcomes == [GOOD]
    # With enough steps it had begun on the device between.
    assert bytes(buffer) in (pattern(20_003, 512), pattern(10_003, 512))
    assert house.read(3) == (GOOD, pattern(20_003, 512))
    assert house.client.info.block_count == 512


@pytest.mark.parametrize("steps", range(1, 13))
def test_a_lun_that_is_replaced_while_it_is_opened_is_opened(house: House, steps: int) -> None:
    client = LunClient(house.target.open_session("another"), 0, house.clock)
    outcomes: list[ScsiError | None] = []
    house.a.is_held = True
    client.open(outcomes.append)
    for _ in range(steps):
        if house.a.held:
            house.a.release()
    was_open = bool(outcomes)
    house.map(house.b)
    house.a.release_all()
    assert outcomes == [None]
    assert client.info.block_count == (1024 if was_open else 2048)


@pytest.mark.parametrize("steps", range(1, 26))
def test_a_lun_that_is_lost_during_the_look_is_lost(house: House, steps: int) -> None:
    house.b.is_held = True
    house.map(house.b)
    outcomes, _ = house.begin_read(3)
    for _ in range(steps):
        if house.b.held:
            house.b.release()
    house.map(None)
    house.b.release_all()
    assert outcomes in ([LOST], [GOOD])
    assert house.read()[0] == LOST
    house.map(house.a)
    assert house.read(3) == (GOOD, pattern(3, 512))
    assert house.client.info.block_count == 1024


@pytest.mark.parametrize("steps", range(1, 26))
def test_other_blocks_that_come_during_the_look_are_not_followed(house: House, steps: int) -> None:
    house.b.is_held = True
    house.map(house.b)
    outcomes, _ = house.begin_read(3)
    for _ in range(steps):
        if house.b.held:
            house.b.release()
    house.map(house.big)
    house.b.release_all()
    assert outcomes in ([LOST], [GOOD])
    assert house.read()[0] == LOST
    assert house.client.is_barred
    assert READ_16 not in house.big.log


def test_a_look_at_the_old_device_ends_at_the_new_one(house: House) -> None:
    house.a.is_held = True
    house.a.answer(READ_16, [CAPACITY_CHANGED])
    outcomes, buffer = house.begin_read(3)
    house.a.release()
    house.map(house.b)
    house.a.release_all()
    assert (outcomes, bytes(buffer)) == ([GOOD], pattern(10_003, 512))
    assert house.changes == [2048]


@pytest.mark.parametrize("steps", range(1, 13))
def test_of_a_device_that_goes_during_a_look_nothing_is_believed(house: House, steps: int) -> None:
    house.a.is_held = True
    house.a.answer(READ_16, [CAPACITY_CHANGED])
    house.begin_read()
    for _ in range(steps):
        house.a.release()
    was = house.client.info
    house.map(None)
    house.a.release_all()
    assert house.client.info is was


def test_a_lun_that_never_stays_is_given_up(house: House) -> None:
    def elsewhere(other: FaultyLun) -> Iterator[Answer | None]:
        while True:
            house.map(other)
            yield None

    house.b.answer(MODE_SENSE_10, elsewhere(house.c))
    house.c.answer(MODE_SENSE_10, elsewhere(house.b))
    house.map(house.b)
    assert house.read()[0] == LOST
    assert house.changes == [], "no look came to its end on one device"
    for lun in (house.b, house.c):
        lun.answer(MODE_SENSE_10, [])
    assert house.read()[0] == GOOD


def test_a_change_is_not_lost_that_a_look_under_way_comes_too_early_for(house: House) -> None:
    lun = house.a
    lun.answer(READ_16, [CAPACITY_CHANGED, CAPACITY_CHANGED])
    lun.is_held = True
    first, _ = house.begin_read()
    while not lun.count(READ_CAPACITY_16):
        lun.release()
    lun.vdisk.block_count = lun.unit.block_count = 333
    second, _ = house.begin_read()
    hears_of_it = lun.held.pop()
    hears_of_it()
    lun.release_all()
    assert (first, second) == ([GOOD], [GOOD])
    assert house.client.info.block_count == 333


def test_who_waits_for_a_look_does_not_suffer_from_others_that_do(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: ScsiError | None) -> None:
        raise ValueError("mine alone")

    house.b.is_held = True
    house.map(house.b)
    house.client.open(fail)
    outcomes, _ = house.begin_read()
    house.b.release_all()
    assert outcomes == [GOOD]
    assert "completion callback failed" in caplog.text
