# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages that a client can cause at will: the first of each second is logged, the others counted.

Otherwise a client that meets a reservation, or is not let in, could fill the disk with its log.
"""

from __future__ import annotations

from collections.abc import Callable

_EVERY_S = 1.0


class SparingLog:
    """One kind of message; ``clock`` tells the time in seconds, ``say`` logs a text."""

    __slots__ = ("_clock", "_quiet_until_s", "_say", "_unlogged")

    def __init__(self, clock: Callable[[], float], say: Callable[[str], None]) -> None:
        self._clock = clock
        self._say = say
        self._quiet_until_s = 0.0
        self._unlogged = 0

    def log(self, text: str) -> None:
        """Log a message, unless another was logged within the last second."""
        now_s = self._clock()
        if now_s < self._quiet_until_s:
            self._unlogged += 1
            return
        others = f" (and {self._unlogged} others before)" if self._unlogged else ""
        self._say(f"{text}{others}")
        self._quiet_until_s = now_s + _EVERY_S
        self._unlogged = 0
