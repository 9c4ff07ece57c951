# SPDX-License-Identifier: GPL-2.0-or-later
"""Which directions of a descriptor an event loop watches, and whom it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Watch:
    """One descriptor's readiness; asking for what is so already does nothing.

    To be stopped before the descriptor is closed. A descriptor has one watch at a time.
    """

    __slots__ = ("_fd", "_loop", "_readable", "_writable", "is_reading", "is_writing")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        readable: Callable[[], None],
        writable: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._readable = readable
        self._writable = writable
        self.is_reading = False
        self.is_writing = False

    def start_reading(self) -> None:
        """Call ``readable`` whenever there is something to receive."""
        if not self.is_reading:
            self.is_reading = True
            self._loop.add_reader(self._fd, self._readable)

    def stop_reading(self) -> None:
        """Do so no more."""
        if self.is_reading:
            self.is_reading = False
            self._loop.remove_reader(self._fd)

    def start_writing(self) -> None:
        """Call ``writable`` whenever there is room to send."""
        if not self.is_writing:
            self.is_writing = True
            self._loop.add_writer(self._fd, self._writable)

    def stop_writing(self) -> None:
        """Do so no more."""
        if self.is_writing:
            self.is_writing = False
            self._loop.remove_writer(self._fd)

    def stop(self) -> None:
        """Watch neither direction."""
        self.stop_reading()
        self.stop_writing()
