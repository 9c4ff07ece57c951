# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for what is to end, and telling what has not."""

from __future__ import annotations

import asyncio

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
