# SPDX-License-Identifier: GPL-2.0-or-later
"""The mode parameters of one logical unit: in force, as configured, and saved.

It owns them, and changes them one MODE SELECT at a time. What a value does is told to ``apply``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

from scsi_backend.io.engine import Done
from scsi_backend.servers.command import CheckCondition
from scsi_backend.servers.errors import write_sense
from scsi_backend.servers.steps import Steps
from scsi_backend.servers.turn import Turn
from scsi_backend.t10.mode_values import ModeValues
from scsi_backend.t10.sense import INTERNAL_TARGET_FAILURE

_log = logging.getLogger(__name__)


class ModeStore(Protocol):
    """Where values outlive the device."""

    def load(self, default: ModeValues) -> ModeValues | None:
        """Return the saved values, None if there are none; raises OSError. May block."""

    def save(self, values: ModeValues, done: Done) -> None:
        """Store values durably, then call ``done(0)``, or with a negated errno."""


class ModeState:
    """Current, default and saved values.

    ``sync`` is the device's flush. Without a store nothing can be saved. Raises OSError where what
    was saved cannot be read.
    """

    def __init__(
        self,
        name: str,
        default: ModeValues,
        apply: Callable[[ModeValues], None],
        sync: Callable[[Done], None],
        store: ModeStore | None = None,
    ) -> None:
        self.default = default
        self._name = name
        self._apply = apply
        self._sync = sync
        self._store = store
        self._turn = Turn()
        # Counts resets, after which changes that were asked for before are no longer wanted.
        self._epoch = 0
        loaded = None if store is None else store.load(default)
        self.saved = default if loaded is None else self._restorable(loaded)
        self.current = self.saved

    @property
    def can_save(self) -> bool:
        """Whether MODE SELECT may have SP."""
        return self._store is not None

    def put(self, values: ModeValues) -> None:
        """Let values be in force from now on."""
        self.current = values
        self._apply(values)

    def reset(self) -> None:
        """Go back to the saved values, as a logical unit reset does (SPC-5 6.12).

        What the cache held is flushed, where it is off from now on; nobody waits for that.
        """
        before = self.current
        self._epoch += 1
        self.put(self.saved)
        if _needs_flush(before, self.saved):
            self._sync(self._note_flush)

    def change(
        self, changes: Mapping[str, int], *, is_saved: bool, tell: Callable[[], None]
    ) -> Steps:
        """Put some values in force, and save all, when it is the caller's turn; or change nothing.

        ``tell`` is called if values changed, also if they are taken back: somebody may have looked.
        Raises CheckCondition.
        """
        epoch = self._epoch
        # GOOD while the flush of another such command may still fail would be a promise too early.
        yield self._turn.take
        try:
            if epoch == self._epoch:
                yield from self._change(self.current.changed(changes), is_saved, tell)
        finally:
            self._turn.leave()

    def _change(self, after: ModeValues, is_saved: bool, tell: Callable[[], None]) -> Steps:
        before, epoch = self.current, self._epoch
        try:
            if after != before:
                self.put(after)
            if _needs_flush(before, after):
                result = yield self._sync
                if result < 0:
                    raise CheckCondition(write_sense(result, 0))
            if is_saved and epoch == self._epoch:
                yield from self._save(self._restorable(after))
        except CheckCondition:
            if epoch == self._epoch:
                self.put(before)
            raise
        finally:
            if after != before:
                tell()

    def _save(self, values: ModeValues) -> Steps:
        assert self._store is not None, "SP is refused where nothing can be saved"
        result = yield partial(self._store.save, values)
        if result < 0:
            raise CheckCondition(INTERNAL_TARGET_FAILURE)
        self.saved = values

    def _restorable(self, values: ModeValues) -> ModeValues:
        """The values with WCE as it may be after a reset: write_through is for ever."""
        return replace(values, wce=values.wce and self.default.wce)

    def _note_flush(self, result: int) -> None:
        if result < 0:
            _log.error("%s: the flush of a reset failed: %s", self._name, os.strerror(-result))


def _needs_flush(before: ModeValues, after: ModeValues) -> bool:
    """Whether what is in the cache has to be on the medium, since nothing follows it there."""
    return (before.wce and not after.wce) or (after.swp and not before.swp)
