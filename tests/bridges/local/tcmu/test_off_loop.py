# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls off the loop: results, errors, and calls that nobody waits for any more."""

from __future__ import annotations

import asyncio
import threading

import pytest

from bridges.local.tcmu.off_loop import off_loop


def test_result_comes_back_from_another_thread() -> None:
    async def run() -> int | None:
        return await off_loop(lambda: threading.current_thread().ident)

    assert asyncio.run(run()) != threading.current_thread().ident


def test_error_comes_back() -> None:
    def fail() -> None:
        raise LookupError("gone")

    async def run() -> None:
        await off_loop(fail)

    with pytest.raises(LookupError, match="gone"):
        asyncio.run(run())


def test_loop_turns_meanwhile() -> None:
    async def run() -> str:
        gate = threading.Event()
        asyncio.get_running_loop().call_soon(gate.set)
        return await off_loop(lambda: "opened" if gate.wait(20) else "never")

    assert asyncio.run(run()) == "opened"


def test_end_of_the_loop_does_not_wait_for_a_call() -> None:
    gate = threading.Event()
    ended = threading.Event()

    def stuck() -> None:
        gate.wait(20)
        ended.set()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(off_loop(stuck), 0.01)

    asyncio.run(run())
    assert not ended.is_set()
    gate.set()
    assert ended.wait(20)
