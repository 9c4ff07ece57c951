# SPDX-License-Identifier: GPL-2.0-or-later
"""The devices behind one target: what belongs to each of them, and what is announced of it."""

from __future__ import annotations

from bridges.aoe.address import Address
from bridges.aoe.disk import Disk, Disks
from bridges.aoe.ordering import Ranged
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from tests.scsi_backend.fakes import FaultyVdisk


class _Scene:
    """Disks, and what was called."""

    def __init__(self) -> None:
        self.announced: list[Disk] = []
        self.forgotten = 0
        self.disks = Disks(Address(1, 1), self.announced.append, self._forget)

    def _forget(self) -> None:
        self.forgotten += 1


class _Write:
    """A write that is under way."""

    lba, end_lba, is_write, blockers = 0, 8, True, 0

    def __init__(self) -> None:
        self.followers: list[Ranged] = []

    def start(self) -> None:
        """See ``Ranged.start``."""


def _unit() -> LogicalUnit:
    return disk(FaultyVdisk(64))


def test_a_device_is_one_disk_with_an_order_of_its_own() -> None:
    disks, one, two = _Scene().disks, _unit(), _unit()
    assert disks.of(one) is disks.of(one)
    assert disks.of(one).order is not disks.of(two).order
    assert disks.of(one).address == Address(1, 1)


def test_all_disks_promise_what_the_target_does() -> None:
    disks = _Scene().disks
    found = disks.of(_unit())
    assert found.durable
    disks.durable = False
    assert not found.durable


def test_a_size_is_announced_once_for_the_disk_that_it_is_of() -> None:
    scene = _Scene()
    one, two = (scene.disks.of(_unit()) for _ in range(2))
    for count in (64, 128, 128):
        one.take_block_count(count)
    assert scene.announced == [one]
    two.unit.block_count = 256
    for _ in range(2):
        scene.disks.look_at_sizes()
    # What the device itself says of the first one is 64 blocks again.
    assert scene.announced == [one, one, two]
    assert scene.forgotten == 0


def test_a_disk_on_standby_is_told_of_with_all_flows_forgotten() -> None:
    scene = _Scene()
    one, two = (scene.disks.of(_unit()) for _ in range(2))
    one.availability.note(is_standby=True)
    two.availability.note(is_standby=False)
    assert (scene.announced, scene.forgotten) == ([one], 1)


def test_devices_that_are_gone_are_forgotten_once_nothing_is_written_to_them() -> None:
    disks, units = _Scene().disks, [_unit(), _unit(), _unit()]
    before = [disks.of(unit) for unit in units]
    write = _Write()
    before[1].order.enter(write)
    disks.retain({units[0]})
    assert [disks.of(unit) is each for unit, each in zip(units, before, strict=True)] == [
        True,
        True,
        False,
    ]
    before[1].order.leave(write)
    disks.retain({units[0]})
    assert disks.of(units[1]) is not before[1]
