# SPDX-License-Identifier: GPL-2.0-or-later
"""Ranges of a TRIM, the UNMAP parameter lists they become, and their place among the writes."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bridges.aoe.address import Address
from bridges.aoe.ordering import Ranged, WriteOrder
from bridges.aoe.trim import Range, TrimPlace, can_trim, trim_ranges, unmap_lists
from bridges.exchange import Request, run_blocking
from bridges.lun import LunInfo, probe
from bridges.recovery import Reply, reply_of
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import connect


def _info(*, is_thin: bool = True) -> LunInfo:
    initiator = connect(FaultyVdisk(is_thin=is_thin))

    def execute(request: Request) -> Reply:
        pending = initiator.start(request.cdb.ljust(16, b"\0"), None, 255)
        data = pending.outcome.data
        if request.data_in is not None:
            request.data_in[: len(data)] = data
        return reply_of(pending.command)

    return run_blocking(probe(), execute)


def test_only_a_thin_lun_with_unmap_can_trim() -> None:
    thin = _info()
    assert can_trim(thin)
    assert not can_trim(_info(is_thin=False))
    assert not can_trim(replace(thin, provisioning=replace(thin.provisioning, has_unmap=False)))


@pytest.mark.parametrize(
    ("entries", "ranges"),
    [
        ([], ()),
        ([(5, 0), (0, 0)], ()),
        ([(5, 1)], ((5, 6),)),
        ([(0xFFFFFFFFFFFF, 0xFFFF)], ((0xFFFFFFFFFFFF, 0x100000000FFFE),)),
        ([(20, 5), (5, 5)], ((5, 10), (20, 25))),
        ([(5, 5), (10, 5)], ((5, 15),)),
        ([(5, 9), (7, 2), (6, 10)], ((5, 16),)),
        ([(5, 1), (5, 1)], ((5, 6),)),
    ],
)
def test_ranges_are_ascending_and_disjoint(
    entries: list[tuple[int, int]], ranges: tuple[Range, ...]
) -> None:
    data = b"".join(struct.pack("<Q", sectors << 48 | lba) for lba, sectors in entries)
    assert trim_ranges(data.ljust(512, b"\0")) == ranges


def _lists(ranges: list[Range], max_unmap: int, max_descriptors: int) -> list[list[Range]]:
    info = _info()
    limits = replace(info.limits, max_unmap=max_unmap, max_unmap_descriptors=max_descriptors)
    found = []
    for data in unmap_lists(ranges, replace(info, limits=limits)):
        length, descriptor_bytes = struct.unpack_from(">HH", data)
        assert (length, descriptor_bytes) == (len(data) - 2, len(data) - 8)
        found.append(list(struct.iter_unpack(">QI4x", data[8:])))
    return found


@pytest.mark.parametrize(
    ("ranges", "max_unmap", "max_descriptors", "lists"),
    [
        ([], 10, 2, []),
        ([(0, 10)], 10, 2, [[(0, 10)]]),
        ([(0, 11)], 10, 2, [[(0, 10)], [(10, 1)]]),
        ([(0, 25), (30, 40)], 10, 2, [[(0, 10)], [(10, 10)], [(20, 5), (30, 5)], [(35, 5)]]),
        ([(0, 1), (2, 3), (4, 5)], 10, 2, [[(0, 1), (2, 1)], [(4, 1)]]),
        # Limits that are not reported.
        ([(0, 1), (2, 3), (4, 5)], 0, 0, [[(0, 1), (2, 1), (4, 1)]]),
        ([(0, 25), (30, 40)], 0, 1, [[(0, 25)], [(30, 10)]]),
        ([(0, 25), (30, 40)], 10, 0, [[(0, 10)], [(10, 10)], [(20, 5), (30, 5)], [(35, 5)]]),
    ],
)
def test_lists_keep_within_the_limits(
    ranges: list[Range], max_unmap: int, max_descriptors: int, lists: list[list[Range]]
) -> None:
    assert _lists(ranges, max_unmap, max_descriptors) == lists


def test_the_longest_trim_is_one_list_where_no_limit_is_reported() -> None:
    ranges = [(number << 16, (number << 16) + 0xFFFF) for number in range(64)]
    assert _lists(ranges, 0, 0) == [[(start, 0xFFFF) for start, _ in ranges]]
    assert _lists([(0, 64 * 0xFFFF)], 0, 0) == [[(0, 64 * 0xFFFF)]]


class _Write:
    """A write in the order."""

    def __init__(self, lba: int) -> None:
        self.lba, self.end_lba = lba, lba + 1
        self.is_write = True
        self.blockers = 0
        self.followers: list[Ranged] = []
        self.is_started = False

    def start(self) -> None:
        self.is_started = True


def _place(order: WriteOrder, *ranges: Range) -> TrimPlace:
    return TrimPlace(Address(1, 1), order, ranges, durable=True)


def test_a_trim_waits_for_every_write_before_it_and_holds_up_those_behind_it() -> None:
    order = WriteOrder()
    first, second, beside = _Write(5), _Write(100), _Write(50)
    assert all(order.enter(write) for write in (first, second, beside))
    place, begun = _place(order, (5, 10), (90, 110)), []
    place.enter(lambda: begun.append(True))
    late = _Write(99)
    assert not order.enter(late)
    order.leave(first)
    assert not begun
    order.leave(second)
    assert begun == [True]
    assert not late.is_started
    place.order.leave(late)
    assert late.is_started


def test_a_trim_that_nothing_stands_before_begins_at_once() -> None:
    order, begun = WriteOrder(), list[bool]()
    place = _place(order, (5, 10))
    place.enter(lambda: begun.append(True))
    assert begun == [True]
    assert (place.address, place.durable) == (Address(1, 1), True)
    # One of nothing waits for nobody.
    _place(order).enter(lambda: begun.append(True))
    assert begun == [True, True]
    assert order.enter(_Write(0))


_HUGE = tuple((number << 20, (number << 20) + 0xFFFF) for number in range(64))


def test_a_trim_takes_one_entry_in_the_order_however_much_it_names() -> None:
    order, begun = WriteOrder(), list[bool]()
    place = _place(order, *_HUGE)
    place.enter(lambda: begun.append(True))
    assert sum(map(len, order.writes.values())) == 1
    place.order.leave(_Write(0))
    assert order.writes == {}


@pytest.mark.parametrize(
    ("lba", "end_lba", "overlaps"),
    [
        (0, 5, False),
        (0, 6, True),
        (5, 6, True),
        (9, 10, True),
        (10, 20, False),
        (10, 21, True),
        (24, 99, True),
        (25, 99, False),
        (0, 99, True),
    ],
)
def test_ranges_overlap_where_they_share_a_sector(lba: int, end_lba: int, overlaps: bool) -> None:
    order = WriteOrder()
    place = _place(order, (5, 10), (20, 25))
    assert place.overlaps(lba, end_lba) is overlaps
    assert place.overlaps_any(_place(order, (lba, end_lba))) is overlaps
    assert _place(order, (lba, end_lba), (1000, 2000)).overlaps_any(place) is overlaps
