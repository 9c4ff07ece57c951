# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for what is to end, and telling what has not."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from bridges.daemon_pending import Pending


def test_nothing_to_wait_for_is_over_at_once() -> None:
    async def run() -> None:
        assert await Pending(asyncio.get_running_loop()).wait(0.0) == []

    asyncio.run(run())


def test_what_has_happened_is_not_told() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        pending = Pending(loop)
        before, after = pending.expect("one"), pending.expect("two")
        ended: list[bool] = []

        async def work() -> None:
            ended.append(True)

        pending.expect_end("three", work())
        before()
        before()
        loop.call_soon(after)
        assert await pending.wait(20.0) == []
        assert ended == [True]

    asyncio.run(run())


def test_what_is_late_is_told_and_goes_on() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        pending, gate, ended = Pending(loop), asyncio.Event(), asyncio.Event()

        async def work() -> None:
            await gate.wait()
            ended.set()

        pending.expect("one")
        pending.expect("two")()
        pending.expect_end("three", work())
        pending.warn("four")
        assert await pending.wait(0.0) == ["four", "one", "three"]
        gate.set()
        await asyncio.wait_for(ended.wait(), 20.0)

    asyncio.run(run())


def test_what_fails_is_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        pending = Pending(asyncio.get_running_loop())

        async def work() -> None:
            raise RuntimeError("cannot")

        pending.expect_end("one", work())
        assert await pending.wait(20.0) == ["internal error: see the daemon's log"]

    asyncio.run(run())
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "cannot"


def test_what_fails_late_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        pending, gate, ended = Pending(asyncio.get_running_loop()), asyncio.Event(), asyncio.Event()

        async def work() -> None:
            await gate.wait()
            ended.set()
            raise RuntimeError("cannot")

        pending.expect_end("one", work())
        assert await pending.wait(0.0) == ["one"]
        gate.set()
        await asyncio.wait_for(ended.wait(), 20.0)

    asyncio.run(run())
    assert [record.name for record in caplog.records] == ["bridges.daemon_pending"]


def test_what_is_late_goes_on_although_nobody_else_knows_of_it() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        gates: list[weakref.ref[asyncio.Future[None]]] = []

        async def work() -> None:
            # Only this frame keeps it.
            gate: asyncio.Future[None] = loop.create_future()
            gates.append(weakref.ref(gate))
            await gate
            ended.set()

        pending = Pending(loop)
        pending.expect_end("one", work())
        assert await pending.wait(0.0) == ["one"]
        del pending
        gc.collect()
        gate = gates[0]()
        assert gate is not None
        gate.set_result(None)
        await asyncio.wait_for(ended.wait(), 20.0)

    asyncio.run(run())
