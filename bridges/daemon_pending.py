# SPDX-License-Identifier: GPL-2.0-or-later
"""What still has to end after a change is in force, with words for whoever asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


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
        """Run a coroutine, and wait for its end."""
        self._late[self._loop.create_task(work)] = text

    def warn(self, text: str) -> None:
        """Tell something else."""
        self._warnings.append(text)

    async def wait(self, timeout_s: float) -> list[str]:
        """Wait, and return what there is to tell."""
        if self._late:
            await asyncio.wait(self._late, timeout=timeout_s)
        late = [text for future, text in self._late.items() if not future.done()]
        return self._warnings + late
