# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that wait for the kernel, on threads of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def off_loop(call: Callable[[], ResultT]) -> ResultT:
    """Await a call that may take long, on a thread that nothing waits for at exit.

    The kernel cannot be interrupted while it waits for a SCSI command. A thread of an executor
    would keep the process until then.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[ResultT] = loop.create_future()

    def succeed(result: ResultT) -> None:
        if not outcome.done():
            outcome.set_result(result)

    def fail(error: BaseException) -> None:
        if not outcome.done():
            outcome.set_exception(error)

    def work() -> None:
        # The loop may be gone when the call returns.
        with suppress(RuntimeError):
            try:
                result = call()
            except BaseException as error:
                loop.call_soon_threadsafe(fail, error)
            else:
                loop.call_soon_threadsafe(succeed, result)

    threading.Thread(target=work, name="tcmu", daemon=True).start()
    return await outcome
