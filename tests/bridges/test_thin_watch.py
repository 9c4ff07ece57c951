# SPDX-License-Identifier: GPL-2.0-or-later
"""The watch over thin disks: when it looks, and that it ends."""

from __future__ import annotations

import asyncio

from bridges.thin_watch import ThinWatch
from scsi_backend.handlers.vdisk import Space
from scsi_backend.io.engine import Done
from scsi_backend.servers.disk import disk
from tests.scsi_backend.fakes import FaultyVdisk


class MeasuredVdisk(FaultyVdisk):
    """A thin disk with a threshold; calls back when it has been measured often enough."""

    def __init__(self, times: int, reached: asyncio.Event) -> None:
        super().__init__(is_thin=True)
        self.soft_threshold_bytes = 1
        self._times = times
        self._reached = reached

    def measure_space(self, space: Space, done: Done) -> None:
        """See ``Vdisk.measure_space``."""
        super().measure_space(space, done)
        if len(self.log) == self._times:
            self._reached.set()


def test_space_is_measured_at_once_and_after_each_period() -> None:
    async def run() -> None:
        reached = asyncio.Event()
        measured, other = MeasuredVdisk(3, reached), FaultyVdisk(is_thin=True)
        watch = ThinWatch(asyncio.get_running_loop(), 0.001)
        watch.watch([disk(measured), disk(other)])
        assert measured.names == ["measure_space"]
        await asyncio.wait_for(reached.wait(), 10)
        watch.stop()
        assert other.log == []

    asyncio.run(run())


def test_watch_that_was_stopped_measures_no_more() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        measured = MeasuredVdisk(2, asyncio.Event())
        watch = ThinWatch(loop, 0.001)
        watch.watch([disk(measured)])
        watch.stop()
        # The loop calls what is due earlier first, so the watch would have come before this.
        later = loop.create_future()
        loop.call_later(0.01, later.set_result, None)
        await later
        assert measured.names == ["measure_space"]
        watch.stop()

    asyncio.run(run())


def test_watch_without_thresholds_has_nothing_to_do() -> None:
    async def run() -> None:
        watch = ThinWatch(asyncio.get_running_loop())
        watch.watch([disk(FaultyVdisk(is_thin=True))])
        watch.stop()

    asyncio.run(run())


def test_watch_follows_disks_that_come_and_go() -> None:
    async def run() -> None:
        reached = asyncio.Event()
        first, second = MeasuredVdisk(100, asyncio.Event()), MeasuredVdisk(3, reached)
        one, two = disk(first), disk(second)
        watch = ThinWatch(asyncio.get_running_loop(), 0.001)
        watch.watch([one])
        assert (first.names, second.names) == (["measure_space"], [])
        watch.watch([one, two])
        # Only what is new is looked at before its time.
        assert (first.names, second.names) == (["measure_space"], ["measure_space"])
        watch.watch([two])
        await asyncio.wait_for(reached.wait(), 10)
        assert first.names == ["measure_space"]
        watch.watch([])
        measured = len(second.log)
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, later.set_result, None)
        await later
        assert len(second.log) == measured

    asyncio.run(run())
