# SPDX-License-Identifier: GPL-2.0-or-later
"""What a copy manager remembers of its copy operations, for RECEIVE COPY RESULTS (SPC-3 6.17).

Results are kept for each I_T_L nexus, by list identifier, of which there are 256. They go with the
nexus, with a reset, when they are asked for, and when their list identifier is used again; the
status of an operation that has ended goes after a while as well, because it says no more than the
command did.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from scsi_backend.servers.command import CheckCondition
from scsi_backend.servers.turn import Turn
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.extended_copy import CopyManagerStatus
from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status

# As SCST.
STATUS_KEPT_S = 5.0

_OPERATION_IN_PROGRESS = Sense(SenseKey.ILLEGAL_REQUEST, AdditionalSense.OPERATION_IN_PROGRESS)


@dataclass(slots=True, eq=False)
class CopyOperation:
    """One EXTENDED COPY, under way or ended; ``status`` is None until it has ended."""

    segments_processed: int = 0
    written_bytes: int = 0
    status: int | None = None
    sense: Sense | None = None
    ended_s: float = 0.0

    @property
    def manager_status(self) -> CopyManagerStatus:
        """The COPY MANAGER STATUS."""
        if self.status is None:
            return CopyManagerStatus.IN_PROGRESS
        if self.status == Status.GOOD:
            return CopyManagerStatus.COMPLETED
        return CopyManagerStatus.COMPLETED_WITH_ERRORS


class HeldResults:
    """The copy operations of one nexus; COPY STATUS and FAILED SEGMENT DETAILS are held apart."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._operations: dict[int, CopyOperation] = {}
        self._failed: dict[int, CopyOperation] = {}

    def begin(self, list_identifier: int) -> CopyOperation:
        """Make a new operation; one under way with this identifier is OPERATION IN PROGRESS."""
        earlier = self._operations.get(list_identifier)
        if earlier is not None and earlier.status is None:
            raise CheckCondition(_OPERATION_IN_PROGRESS)
        operation = self._operations[list_identifier] = CopyOperation()
        self._failed[list_identifier] = operation
        return operation

    def take_status(self, list_identifier: int) -> CopyOperation | None:
        """Return an operation, and forget its status if it has ended."""
        operation = self._operations.get(list_identifier)
        if operation is None or operation.status is None:
            return operation
        del self._operations[list_identifier]
        is_recent = self._clock() - operation.ended_s <= STATUS_KEPT_S
        return operation if is_recent else None

    def failed(self, list_identifier: int) -> CopyOperation | None:
        """Return an operation that ended with an error."""
        operation = self._failed.get(list_identifier)
        if operation is None or operation.status in (None, Status.GOOD):
            return None
        return operation

    def forget_failed(self, list_identifier: int) -> None:
        """Drop the details of an operation that ended with an error."""
        if self.failed(list_identifier) is not None:
            del self._failed[list_identifier]


class CopyOperations:
    """A logical unit's copy operations, of all nexuses. ``turn``: one moves data at a time.

    ``clock`` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.turn = Turn()
        self._clock = clock
        self._held: MutableMapping[object, HeldResults] = WeakKeyDictionary()

    def of(self, nexus: object) -> HeldResults:
        """The operations that came through a nexus."""
        held = self._held.get(nexus)
        if held is None:
            held = self._held[nexus] = HeldResults(self._clock)
        return held

    def forget(self, nexus: object) -> None:
        """Discard the results of a nexus that is lost (SPC-3 6.17.2)."""
        self._held.pop(nexus, None)

    def forget_all(self) -> None:
        """Discard all results: the logical unit is reset."""
        self._held.clear()

    def end(self, operation: CopyOperation, status: int | None, sense: Sense | None) -> None:
        """Note how an operation ended."""
        operation.status, operation.sense = status, sense
        operation.ended_s = self._clock()
