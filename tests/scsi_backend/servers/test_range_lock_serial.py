# SPDX-License-Identifier: GPL-2.0-or-later
"""Random interleavings of READ, WRITE and COMPARE AND WRITE behave as some serial order of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scsi_backend.io.scatter import contiguous
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.servers.command import Command
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, ManualEngine
from tests.scsi_backend.initiator import Initiator
from tests.scsi_backend.locking import join, nexus_of
from tests.scsi_backend.serial import (
    Effect,
    Event,
    State,
    has_miscompared,
    has_read,
    has_replaced,
    has_written,
    is_serial,
)

BLOCKS = 4
MISCOMPARE = 0x1D00


def blocks_of(values: State) -> bytes:
    """The bytes of some blocks."""
    return b"".join(bytes([value]) * 512 for value in values)


def values_of(data: bytes | memoryview) -> State:
    """What each block holds, if each is of one piece."""
    blocks = [set(data[start : start + 512]) for start in range(0, len(data), 512)]
    assert all(len(block) == 1 for block in blocks), "a block of two writers"
    return tuple(block.pop() for block in blocks)


@dataclass
class Site:
    """A disk with three initiators, and the history of what they sent."""

    vdisk: FaultyVdisk = field(default_factory=lambda: FaultyVdisk(BLOCKS))
    events: list[Event] = field(default_factory=list)
    now: int = 0
    last_value: int = 0

    def __post_init__(self) -> None:
        self.vdisk.is_held = True
        self.unit = disk(self.vdisk)
        self.initiators = [join(self.unit) for _ in range(3)]

    def _tick(self) -> int:
        self.now += 1
        return self.now

    def _send(
        self, who: int, cdb: bytes, blocks: int, data: bytes, effect: Callable[[Command], Effect]
    ) -> None:
        sent = self._tick()

        def ended(command: Command) -> None:
            self.events.append(Event(sent, self._tick(), effect(command)))

        room = memoryview(bytearray(blocks * 512))
        nexus_of(self.initiators[who]).submit(Command(cdb, room, memoryview(data), ended))

    def new_values(self, blocks: int) -> State:
        """Values that nobody has written so far."""
        self.last_value += blocks
        return tuple(range(self.last_value - blocks + 1, self.last_value + 1))

    def read(self, who: int, lba: int, blocks: int) -> None:
        """Send a READ."""

        def effect(command: Command) -> Effect:
            assert command.status == Status.GOOD
            assert command.data_in is not None
            return has_read(lba, values_of(contiguous(command.data_in)))

        self._send(who, cdbs.block(cdbs.READ, 16, lba, blocks), blocks, b"", effect)

    def write(self, who: int, lba: int, blocks: int) -> None:
        """Send a WRITE of new values."""
        new = self.new_values(blocks)

        def effect(command: Command) -> Effect:
            assert command.status == Status.GOOD
            return has_written(lba, new)

        cdb = cdbs.block(cdbs.WRITE, 10, lba, blocks)
        self._send(who, cdb, 0, blocks_of(new), effect)

    def compare_and_write(self, who: int, lba: int, blocks: int) -> None:
        """Send a COMPARE AND WRITE that expects what is stored as it is sent."""
        expected = values_of(self.vdisk.blocks(lba, blocks))
        new = self.new_values(blocks)

        def effect(command: Command) -> Effect:
            if command.status == Status.GOOD:
                return has_replaced(lba, expected, new)
            assert command.sense is not None
            assert command.sense.code == MISCOMPARE
            assert command.sense.information is not None
            return has_miscompared(lba, expected, command.sense.information // 512)

        cdb = cdbs.compare_and_write(lba, blocks)
        self._send(who, cdb, 0, blocks_of(expected + new), effect)

    def finish(self) -> None:
        """Let everything end, and see that the history is serial and the lock gone."""
        self.vdisk.release_all()
        self.read(0, 0, BLOCKS)
        self.vdisk.release_all()
        assert is_serial((0,) * BLOCKS, self.events)
        for initiator in self.initiators:
            assert nexus_of(initiator).outstanding == set()
            assert nexus_of(initiator).dispatch is self.unit.dispatch


@dataclass(frozen=True)
class Step:
    """A command to send (the name of a method of ``Site``), or a held operation to perform."""

    kind: str
    who: int
    lba: int
    blocks: int
    immediate_bytes: int | None

    def take(self, site: Site) -> None:
        """Do it."""
        site.vdisk.immediate_bytes = self.immediate_bytes
        if self.kind != "release":
            getattr(site, self.kind)(self.who, self.lba, min(self.blocks, BLOCKS - self.lba))
        elif site.vdisk.held:
            site.vdisk.release(self.who % len(site.vdisk.held))


def histories(kinds: list[str], immediate_bytes: list[int | None]) -> st.SearchStrategy[list[Step]]:
    """Up to a dozen of steps."""
    step = st.builds(
        Step,
        kind=st.sampled_from([*kinds, "release", "release"]),
        who=st.integers(0, 2),
        lba=st.integers(0, BLOCKS - 1),
        blocks=st.integers(1, BLOCKS),
        immediate_bytes=st.sampled_from(immediate_bytes),
    )
    return st.lists(step, max_size=12)


@settings(deadline=None)
@given(histories(["read", "write", "compare_and_write", "compare_and_write"], [None, NOT_NOW]))
def test_what_commands_see_is_explained_by_a_serial_order(steps: list[Step]) -> None:
    site = Site()
    for step in steps:
        step.take(site)
    site.finish()


# A WRITE is not atomic, so its blocks may be stored one after the other; those of the others not.
@settings(deadline=None)
@given(histories(["read", "compare_and_write"], [0, 512, 1024, NOT_NOW]))
def test_nobody_sees_half_of_an_atomic_command(steps: list[Step]) -> None:
    site = Site()
    for step in steps:
        step.take(site)
    site.finish()


LONG = Event(1, 4, has_replaced(0, (0,), (1,)))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], True),
        ([LONG, Event(2, 3, has_replaced(0, (0,), (2,)))], False),
        ([LONG, Event(2, 3, has_replaced(0, (1,), (2,)))], True),
        ([Event(1, 2, has_replaced(0, (1,), (2,))), Event(3, 4, has_written(0, (1,)))], False),
        ([Event(1, 3, has_replaced(0, (1,), (2,))), Event(2, 4, has_written(0, (1,)))], True),
        ([Event(1, 4, has_replaced(0, (0, 0), (1, 2))), Event(2, 3, has_read(0, (0, 2)))], False),
        ([Event(1, 4, has_replaced(0, (0, 0), (1, 2))), Event(2, 3, has_read(0, (1, 2)))], True),
        ([Event(1, 2, has_miscompared(0, (0, 1), 1))], True),
        ([Event(1, 2, has_miscompared(0, (0, 1), 0))], False),
        ([Event(1, 2, has_miscompared(0, (0, 0), 1))], False),
    ],
)  # fmt: skip
def test_only_serial_histories_are_taken_for_serial(events: list[Event], expected: bool) -> None:
    assert is_serial((0, 0), events) is expected


class Counter:
    """Adds one to a number on the disk, again and again, by READ and COMPARE AND WRITE."""

    def __init__(self, initiator: Initiator, times: int) -> None:
        self.left = times
        self.misses = 0
        self._nexus = nexus_of(initiator)
        self._data = bytearray(2 * COUNTER_BYTES)

    def start(self) -> None:
        """Read the number."""
        room = memoryview(self._data)[:COUNTER_BYTES]
        cdb = cdbs.block(cdbs.READ, 16, 1, 2)
        self._nexus.submit(Command(cdb, room, None, self._replace))

    def _replace(self, command: Command) -> None:
        assert command.status == Status.GOOD
        found = bytes(self._data[:COUNTER_BYTES])
        number = int.from_bytes(found[:8], "big")
        assert found == counter(number), "half of a number"
        self._data[COUNTER_BYTES:] = counter(number + 1)
        cdb = cdbs.compare_and_write(1, 2)
        self._nexus.submit(Command(cdb, None, memoryview(self._data), self._check))

    def _check(self, command: Command) -> None:
        if command.status == Status.GOOD:
            self.left -= 1
        else:
            assert command.sense is not None
            assert command.sense.code == MISCOMPARE
            self.misses += 1
        if self.left:
            self.start()


COUNTER_BYTES = 1024


def counter(number: int) -> bytes:
    """Two blocks full of one number."""
    return number.to_bytes(8, "big") * (COUNTER_BYTES // 8)


def count_up(unit: LogicalUnit, work: Callable[[], object], *, each: int = 20) -> list[Counter]:
    """Let five initiators count at once while ``work`` moves the storage; they must all end."""
    counters = [Counter(join(unit), each) for _ in range(5)]
    for one in counters:
        one.start()
    work()
    assert [one.left for one in counters] == [0] * 5
    assert join(unit).good(cdbs.block(cdbs.READ, 16, 1, 2), None, COUNTER_BYTES) == counter(
        5 * each
    )
    assert unit.dispatch_in_force is unit.dispatch
    return counters


@pytest.mark.parametrize("immediate_bytes", [None, NOT_NOW, 0, 512, 700])
def test_counters_on_a_disk_that_does_what_it_is_asked_at_once(immediate_bytes: int | None) -> None:
    vdisk = FaultyVdisk(8)
    vdisk.immediate_bytes = immediate_bytes
    counters = count_up(disk(vdisk), lambda: None)
    assert [one.misses for one in counters] == [0] * 5


@pytest.mark.parametrize("immediate_bytes", [NOT_NOW, 512, 700])
@settings(deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_counters_on_a_disk_that_ends_operations_in_any_order(
    immediate_bytes: int, order: random.Random
) -> None:
    vdisk = FaultyVdisk(8)
    vdisk.immediate_bytes, vdisk.is_held = immediate_bytes, True

    def work() -> None:
        while vdisk.held:
            vdisk.release(order.randrange(len(vdisk.held)))
        vdisk.is_held = False

    count_up(disk(vdisk), work, each=3)


def test_counters_in_a_file_in_memory(open_fileio: OpenFileio, shm_path: Path) -> None:
    count_up(disk(open_fileio(8 * 512, folder=shm_path)), lambda: None)


def test_counters_in_a_file_whose_engine_is_worked_by_hand(open_fileio: OpenFileio) -> None:
    engine = ManualEngine()
    counters = count_up(disk(open_fileio(8 * 512, engine)), engine.run_all)
    assert sum(one.misses for one in counters) > 0


def test_counters_in_a_file_written_by_threads(open_fileio: OpenFileio) -> None:
    engine = ThreadEngine(lambda begin: None)
    vdisk = open_fileio(8 * 512, engine)
    count_up(disk(vdisk), lambda: engine.drain(60))
    assert engine.close(60)
