# SPDX-License-Identifier: GPL-2.0-or-later
"""Group commit: one fdatasync makes every write stable that had finished when it began.

A failed fdatasync is remembered: the kernel marks the pages clean although their data is lost, so
a later fdatasync that succeeds proves nothing about them. From then on every sync fails until the
device is opened anew.
"""

from __future__ import annotations

import logging
import os

from scsi_backend.io.engine import Done, Engine

_log = logging.getLogger(__name__)


class GroupCommit:
    """Shares fdatasync calls of one file between all who wait for stable storage."""

    def __init__(self, fd: int, engine: Engine) -> None:
        self._fd = fd
        self._engine = engine
        self._waiting: list[Done] = []
        # How many waiters the sync covers; None until it has begun.
        self._covered: int | None = None
        self._is_queued = False
        self._failure = 0

    @property
    def failed_errno(self) -> int:
        """The errno of the sync that lost data, zero while none has."""
        return -self._failure

    def sync(self, done: Done) -> None:
        """Call ``done(0)`` once all writes finished so far are on stable storage.

        ``done`` gets a negated errno instead once any sync of this file has failed.
        """
        self._waiting.append(done)
        if not self._is_queued:
            self._queue()

    def _queue(self) -> None:
        self._is_queued = True
        self._covered = None
        self._engine.call(self._datasync, self._finish)

    def _datasync(self) -> int:
        # On an engine's thread. Who is in the list now had finished writing before; who comes
        # later may not have, and waits for the next round.
        self._covered = len(self._waiting)
        if self._failure == 0:
            os.fdatasync(self._fd)
        return self._failure

    def _finish(self, result: int) -> None:
        # A sync that the engine could not even begin has lost nothing, and covers all who wait.
        if self._covered is not None:
            self._failure = result
        batch = self._waiting[: self._covered]
        del self._waiting[: self._covered]
        self._is_queued = False
        if self._waiting:
            self._queue()
        for done in batch:
            try:
                done(result)
            except Exception:
                # The other waiters must still be told.
                _log.exception("completion callback failed")
