# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the order of overlapping commands."""

from __future__ import annotations

import random

import pytest

from bridges.aoe.ordering import Ranged, Scattered, WriteOrder


class _Command:
    """A command that notes when it starts, and is done when the test says so."""

    def __init__(
        self, name: str, lba: int, sectors: int, started: list[str], *, is_write: bool = True
    ) -> None:
        self.name = name
        self.lba = lba
        self.end_lba = lba + sectors
        self.is_write = is_write
        self.blockers = 0
        self.followers: list[Ranged] = []
        self._started = started

    def start(self) -> None:
        self._started.append(self.name)


class _ScatteredCommand(_Command):
    """A write of several ranges, compared sector by sector."""

    def __init__(self, name: str, ranges: list[tuple[int, int]], started: list[str]) -> None:
        lba, end_lba = min(start for start, _ in ranges), max(end for _, end in ranges)
        super().__init__(name, lba, end_lba - lba, started)
        self.sectors = {sector for start, end in ranges for sector in range(start, end)}

    def overlaps(self, lba: int, end_lba: int) -> bool:
        return not self.sectors.isdisjoint(range(lba, end_lba))

    def overlaps_any(self, other: Scattered) -> bool:
        return any(other.overlaps(sector, sector + 1) for sector in self.sectors)


class _Scene:
    """An order, and the names of what has started."""

    def __init__(self) -> None:
        self.order = WriteOrder()
        self.started: list[str] = []

    def arrive(self, name: str, lba: int, sectors: int, *, is_write: bool = True) -> _Command:
        command = _Command(name, lba, sectors, self.started, is_write=is_write)
        if self.order.enter(command):
            command.start()
        return command

    def arrive_scattered(self, name: str, *ranges: tuple[int, int]) -> _ScatteredCommand:
        command = _ScatteredCommand(name, list(ranges), self.started)
        if self.order.enter_scattered(command):
            command.start()
        return command


@pytest.mark.parametrize(
    ("lba", "sectors", "waits"),
    [
        (100, 8, True),
        (99, 2, True),
        (107, 1, True),
        (0, 4096, True),
        (98, 2, False),
        (108, 1, False),
        (0, 100, False),
        (1 << 40, 8, False),
    ],
)
@pytest.mark.parametrize("is_write", [True, False])
def test_what_overlaps_a_pending_write_waits_for_it(
    lba: int, sectors: int, waits: bool, is_write: bool
) -> None:
    scene = _Scene()
    write = scene.arrive("write", 100, 8)
    scene.arrive("later", lba, sectors, is_write=is_write)
    assert scene.started == (["write"] if waits else ["write", "later"])
    scene.order.leave(write)
    assert scene.started == ["write", "later"]


def test_nothing_waits_for_a_read() -> None:
    scene = _Scene()
    scene.arrive("read", 100, 8, is_write=False)
    scene.arrive("write", 100, 8)
    assert scene.started == ["read", "write"]


def test_a_waiting_write_holds_up_what_arrives_after_it() -> None:
    scene = _Scene()
    first = scene.arrive("first", 0, 4)
    second = scene.arrive("second", 2, 4)
    third = scene.arrive("third", 5, 4)
    fourth = scene.arrive("fourth", 8, 1, is_write=False)
    assert scene.started == ["first"]
    for command in (first, second, third, fourth):
        scene.order.leave(command)
    assert scene.started == ["first", "second", "third", "fourth"]


def test_a_command_waits_for_every_write_that_it_overlaps() -> None:
    scene = _Scene()
    left = scene.arrive("left", 0, 4)
    right = scene.arrive("right", 4, 4)
    scene.arrive("both", 3, 2)
    scene.order.leave(right)
    assert scene.started == ["left", "right"]
    scene.order.leave(left)
    assert scene.started == ["left", "right", "both"]


def test_long_ranges_are_found_whatever_pieces_they_span() -> None:
    scene = _Scene()
    long = scene.arrive("long", 1000, 65536)
    scene.arrive("before", 999, 1)
    scene.arrive("inside", 40000, 1, is_write=False)
    scene.arrive("after", 66536, 1)
    assert scene.started == ["long", "before", "after"]
    scene.order.leave(long)
    assert scene.started == ["long", "before", "after", "inside"]


def test_what_overlaps_a_range_of_a_scattered_write_waits_for_it() -> None:
    scene = _Scene()
    first = scene.arrive("first", 5, 1)
    scattered = scene.arrive_scattered("scattered", (5, 10), (90, 100))
    scene.arrive("between", 10, 80)
    scene.arrive("read", 99, 1, is_write=False)
    other = scene.arrive_scattered("other", (0, 6), (10, 11))
    scene.arrive_scattered("apart", (0, 5), (100, 110))
    assert scene.started == ["first", "between"]
    scene.order.leave(first)
    assert scene.started == ["first", "between", "scattered"]
    scene.order.leave_scattered(scattered)
    assert scene.started[3:] == ["read"]
    assert other.blockers == 1


def test_nothing_is_left_of_scattered_writes_that_are_done() -> None:
    scene = _Scene()
    scattered = scene.arrive_scattered("scattered", (5, 10), (90, 100))
    scene.order.leave_scattered(scattered)
    assert scene.order.writes == {}
    scene.arrive("later", 5, 1)
    assert scene.started == ["scattered", "later"]


class _InstantCommand(_Command):
    """A command that is done before start() returns."""

    order: WriteOrder

    def start(self) -> None:
        super().start()
        self.order.leave(self)


def test_a_long_chain_of_waiting_writes_needs_no_stack() -> None:
    scene = _Scene()
    first = scene.arrive("first", 0, 1)
    for number in range(5000):
        command = _InstantCommand(str(number), 0, 1, scene.started)
        command.order = scene.order
        assert not scene.order.enter(command)
    scene.order.leave(first)
    assert scene.started == ["first", *(str(number) for number in range(5000))]


def test_any_schedule_keeps_the_order_of_overlapping_writes() -> None:
    chance = random.Random(20240607)
    for _ in range(200):
        _run_schedule(chance)


def _arrive_at_random(scene: _Scene, name: str, chance: random.Random) -> _Command:
    lba, sectors = chance.randrange(600), chance.randrange(1, 300)
    if chance.random() < 0.2:
        ranges = [(lba, lba + sectors // 2 + 1), (lba + sectors, lba + 2 * sectors)]
        return scene.arrive_scattered(name, *ranges)
    return scene.arrive(name, lba, sectors, is_write=chance.random() < 0.7)


def _sectors_of(command: _Command) -> set[int]:
    if isinstance(command, _ScatteredCommand):
        return command.sectors
    return set(range(command.lba, command.end_lba))


def _run_schedule(chance: random.Random) -> None:
    """Let commands arrive and end at random; each write stamps its sectors when it ends."""
    scene = _Scene()
    stamps: dict[int, int] = {}
    running: list[_Command] = []
    everything: list[_Command] = []
    last_write: dict[int, int] = {}
    while len(everything) < 60 or running:
        if len(everything) < 60 and (not running or chance.random() < 0.6):
            number = len(everything)
            command = _arrive_at_random(scene, str(number), chance)
            everything.append(command)
            if command.is_write:
                last_write.update(dict.fromkeys(_sectors_of(command), number))
        else:
            command = running.pop(chance.randrange(len(running)))
            if command.is_write:
                stamps.update(dict.fromkeys(_sectors_of(command), int(command.name)))
            if isinstance(command, _ScatteredCommand):
                scene.order.leave_scattered(command)
            else:
                scene.order.leave(command)
        running += [everything[int(name)] for name in scene.started]
        scene.started.clear()
    assert stamps == last_write
