# SPDX-License-Identifier: GPL-2.0-or-later
"""What a copy manager remembers of its copy operations, for RECEIVE COPY RESULTS (SPC-3 6.17).

Results are kept for each I_T_L nexus, by list identifier, of which there are 256; they go with the
nexus, when they are asked for, or when their list identifier is used again.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from scsi_backend.servers.command import CheckCondition, Nexus
from scsi_backend.servers.turn import Turn
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.extended_copy import CopyManagerStatus
from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status

_OPERATION_IN_PROGRESS = Sense(SenseKey.ILLEGAL_REQUEST, AdditionalSense.OPERATION_IN_PROGRESS)


@dataclass(slots=True, eq=False)
class CopyOperation:
    """One EXTENDED COPY, under way or ended; ``status`` is None until it has ended."""

    segments_processed: int = 0
    written_bytes: int = 0
    status: int | None = None
    sense: Sense | None = None

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

    def __init__(self) -> None:
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
        if operation is not None and operation.status is not None:
            del self._operations[list_identifier]
        return operation

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
    """A logical unit's copy operations, of all nexuses. ``turn``: one moves data at a time."""

    def __init__(self) -> None:
        self.turn = Turn()
        self._held: MutableMapping[Nexus, HeldResults] = WeakKeyDictionary()

    def of(self, nexus: Nexus) -> HeldResults:
        """The operations that came through a nexus."""
        held = self._held.get(nexus)
        if held is None:
            held = self._held[nexus] = HeldResults()
        return held
