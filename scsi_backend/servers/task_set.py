# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of commands in a task set (SAM-5 8): ORDERED and HEAD OF QUEUE among SIMPLE ones.

SIMPLE commands begin as they come, so while there are no others the dispatch tables do not know of
the task set. An ORDERED command is to the commands of the set what an atomic one is to a range of
blocks: it waits for all that came before, and all that come after wait for it. A range lock in
which every command touches everything is therefore all that is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import MappingProxyType
from typing import Final

from scsi_backend.servers.command import Command, Execute
from scsi_backend.servers.range_lock import RangeLock, whole_medium
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.opcodes import Opcode

# As SCST: these are HEAD OF QUEUE whatever they say, so that a loaded device never looks dead.
# (SAM-5 8.6.2 lets a device server do so.) They last for no time that others could notice.
_NEVER_WAIT: Final = frozenset(
    {
        Opcode.TEST_UNIT_READY,
        Opcode.REQUEST_SENSE,
        Opcode.INQUIRY,
        Opcode.READ_CAPACITY_10,
        Opcode.REPORT_LUNS,
    }
)
_IN_ORDER: Final = MappingProxyType(
    {opcode: whole_medium for opcode in range(256) if opcode not in _NEVER_WAIT}
)


class TaskSet:
    """Owns the order of the commands of one I_T_L nexus (TST=001b), or of a unit's (TST=000b).

    ``outstanding`` gives the set's commands that did not end at once. ``engage`` is called when
    ``lay`` has something to lay over the dispatch tables, and when it no longer has.
    """

    def __init__(
        self, outstanding: Callable[[], Iterable[Command]], engage: Callable[[], None]
    ) -> None:
        self._lock = RangeLock(_IN_ORDER, outstanding, self._engaged)
        self._engage = engage
        self.is_engaged = False

    def _engaged(self, is_engaged: bool) -> None:
        self.is_engaged = is_engaged
        self._engage()

    def lay(self, table: list[Execute]) -> None:
        """Lead what must wait for an ORDERED or HEAD OF QUEUE command through the lock."""
        for opcode in _IN_ORDER:
            table[opcode] = partial(self._lock.admit, table[opcode])

    def lay_order(self, table: list[Execute]) -> None:
        """Make every command ORDERED, as QUEUE ALGORITHM MODIFIER 0h asks (SCST does the same)."""
        for opcode in _IN_ORDER:
            table[opcode] = partial(self._lock.run_atomic, table[opcode])

    def with_attribute(self, attribute: TaskAttribute, execute: Execute, opcode: int) -> Execute:
        """Return how a command that is ORDERED or HEAD OF QUEUE is executed."""
        if opcode not in _IN_ORDER:
            return execute
        run = self._lock.run_atomic if attribute is TaskAttribute.ORDERED else self._lock.run_ahead
        return partial(run, execute)
