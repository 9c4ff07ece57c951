# SPDX-License-Identifier: GPL-2.0-or-later
"""What still has to end after a change is in force, with words for whoever asked for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

_log = logging.getLogger(__name__)

# Until they have ended, which may be after everybody has stopped waiting: a loop keeps only weak
# references to tasks.
_at_work: Final[set[asyncio.Task[Any]]] = set()


class Pending:
    """Things that are waited for, but not for ever: what is late goes on by itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._late: dict[asyncio.Future[Any], str] = {}
        self._warnings: list[str] = []

    def expect(self, text: str) -> Callable[[], None]:
        """Wait for a call of what is returned; ``text`` says what it means that it has not come."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._late[future] = text

        def happened() -> None:
            if not future.done():
                future.set_result(None)

        return happened

    def expect_end(self, text: str, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine, and wait for its end; the log has what it raises."""
        task = self._loop.create_task(work)
        self._late[task] = text
        _at_work.add(task)
        task.add_done_callback(_ended)

    def warn(self, text: str) -> None:
        """Tell something else."""
        self._warnings.append(text)

    async def wait(self, timeout_s: float) -> list[str]:
        """Wait, and return what there is to tell."""
        if self._late:
            await asyncio.wait(self._late, timeout=timeout_s)
        late = [text for future, text in self._late.items() if not future.done()]
        if any(map(_has_failed, self._late)):
            self._warnings.append("internal error: see the daemon's log")
        return self._warnings + late


def _has_failed(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is not None


def _ended(task: asyncio.Task[Any]) -> None:
    _at_work.discard(task)
    if _has_failed(task):
        _log.error("something did not end in order after a change", exc_info=task.exception())
