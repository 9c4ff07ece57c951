# SPDX-License-Identifier: GPL-2.0-or-later
"""When to look for the next request once more before going to sleep.

A client that waits for each reply sends its next request some 20 us after it, sooner than the
kernel can put this process to sleep and wake it again. Looking again for that long nearly halves
the latency at depth one. It must not cost others anything: only a stream that alone has been awake
for a while may look, only for a bounded number of rounds, not after it has looked in vain, and
giving way to whoever waits for the processor.
"""

from __future__ import annotations

import os

# Longer than a client takes for its next request, even one behind nbdkit and its own client.
WAIT_S = 80e-6
# Between two looks; the client itself may be waiting for this processor.
pause = os.sched_yield
# Rounds in one turn, after which the event loop looks at everything else.
MAX_ROUNDS = 16
# Wake-ups of one stream in a row before it may look (again).
_TURNS_ALONE = 8


class Spinner:
    """Shared by all that an event loop serves: knows who was awake last, and how often in a row."""

    __slots__ = ("_last", "_turns")

    def __init__(self) -> None:
        self._last: object = None
        self._turns = 0

    def woke(self, who: object) -> bool:
        """Take note that ``who`` had work; tell whether it may look for more before it sleeps."""
        if self._last is not who:
            self._last = who
            self._turns = 0
        self._turns += 1
        return self._turns > _TURNS_ALONE

    def forget(self, who: object) -> None:
        """Let go of somebody who will not have work any more."""
        if self._last is who:
            self._last = None

    def missed(self) -> None:
        """Nothing came: the client is slower than that."""
        self._turns = 0
