# SPDX-License-Identifier: GPL-2.0-or-later
"""A logical unit: an emulated device, the dispatch table of its device server, and its nexuses.

The table has an entry for each of the 256 opcodes. It is built once, from rows; what depends on
the access state of one nexus (unit attentions, write protection, later reservations) is laid over
a copy of it by that nexus, so that commands in the normal state pass no check for the others. While
an atomic command is under way, the range lock is laid over it for all nexuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol
from weakref import WeakSet

from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.range_lock import BlocksOf, RangeLock
from scsi_backend.servers.turn import Turn
from scsi_backend.t10 import cdb as cdb_fields
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense

# Largest transfer of one command; reported in VPD B0h, so that no front-end has to split.
MAX_TRANSFER_BYTES = 32 << 20


class AttachedNexus(Protocol):
    """A nexus, as the logical unit sees it."""

    outstanding: set[Command]

    def recompose(self) -> None:
        """Take over a change of ``LogicalUnit.dispatch_in_force``."""

    def establish_unit_attention(self, sense: Sense) -> None:
        """Queue a unit attention for the nexus's next command."""


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One operation code, or one service action of it.

    ``bind`` makes the function that executes the command on a given logical unit.
    ``skips_attention``: SAM-5 5.14.1 exempts INQUIRY, REPORT LUNS and REQUEST SENSE from reporting
    unit attentions. ``writes_medium`` commands are refused on a read-only device or LUN.
    ``blocks_of`` tells which blocks a CDB reads or writes; commands without it are not kept waiting
    by atomic ones. ``is_atomic`` commands run under the range lock; both are for whole opcodes.
    """

    opcode: Opcode
    bind: Callable[[LogicalUnit], Execute]
    service_action: int | None = None
    skips_attention: bool = False
    writes_medium: bool = False
    blocks_of: BlocksOf | None = None
    is_atomic: bool = False


class LogicalUnit:
    """A device under SCSI: owns the dispatch table and the list of nexuses to notify."""

    def __init__(self, vdisk: Vdisk, rows: Iterable[CommandRow]) -> None:
        self.vdisk = vdisk
        self.name = vdisk.name
        self.block_count = vdisk.block_count
        self.block_shift = vdisk.block_size_bytes.bit_length() - 1
        self.max_transfer_blocks = MAX_TRANSFER_BYTES >> self.block_shift
        # Each write is stable before its status, without FUA being asked for.
        self.is_write_through = vdisk.needs_sync and not vdisk.has_volatile_cache
        # WCE as it was configured; MODE SELECT changes ``vdisk.has_volatile_cache``.
        self.has_volatile_cache_by_default = vdisk.has_volatile_cache
        # Whose MODE SELECT may change it.
        self.mode_change = Turn()
        self._nexuses: list[AttachedNexus] = []
        # With those that left while commands of theirs were outstanding.
        self._ever_attached: WeakSet[AttachedNexus] = WeakSet()
        rows = tuple(rows)
        blocks_of: dict[int, BlocksOf] = {
            row.opcode: row.blocks_of for row in rows if row.blocks_of is not None
        }
        self._range_lock = RangeLock(blocks_of, self._outstanding, self._engage_range_lock)
        self._locked_dispatch: Sequence[Execute] | None = None
        self.writing_opcodes = frozenset(row.opcode for row in rows if row.writes_medium)
        self._atomic_opcodes = frozenset(row.opcode for row in rows if row.is_atomic)
        self.attention_exempt = frozenset(row.opcode for row in rows if row.skips_attention)
        self.dispatch = self._build(rows)

    def _build(self, rows: tuple[CommandRow, ...]) -> tuple[Execute, ...]:
        table: list[Execute] = [invalid_opcode] * 256
        actions: dict[int, dict[int, Execute]] = {}
        for row in rows:
            if row.is_atomic:
                table[row.opcode] = partial(self._range_lock.run_atomic, row.bind(self))
            elif row.service_action is None:
                table[row.opcode] = row.bind(self)
            else:
                actions.setdefault(row.opcode, {})[row.service_action] = row.bind(self)
        for opcode, by_action in actions.items():
            table[opcode] = _service_action_dispatch(by_action)
        if self.vdisk.is_read_only:
            for opcode in self.writing_opcodes:
                table[opcode] = write_protected
        return tuple(table)

    @property
    def dispatch_in_force(self) -> Sequence[Execute]:
        """``dispatch``, with the range lock over it while an atomic command is under way."""
        return self.dispatch if self._locked_dispatch is None else self._locked_dispatch

    def _engage_range_lock(self, is_engaged: bool) -> None:
        self._locked_dispatch = self._lay_range_lock() if is_engaged else None
        for nexus in self._ever_attached:
            nexus.recompose()

    def _lay_range_lock(self) -> Sequence[Execute]:
        table = list(self.dispatch)
        for opcode in self._range_lock.blocks_of:
            if opcode not in self._atomic_opcodes:
                table[opcode] = partial(self._range_lock.admit, table[opcode])
        return table

    def _outstanding(self) -> Iterator[Command]:
        for nexus in self._ever_attached:
            yield from nexus.outstanding

    def attach(self, nexus: AttachedNexus) -> None:
        """Add a nexus to those that hear of changes."""
        self._nexuses.append(nexus)
        self._ever_attached.add(nexus)

    def detach(self, nexus: AttachedNexus) -> None:
        """Remove a nexus."""
        self._nexuses.remove(nexus)

    def raise_unit_attention(self, sense: Sense, *, but: object = None) -> None:
        """Queue a unit attention on every nexus, ``but`` the one that caused it."""
        for nexus in self._nexuses:
            if nexus is not but:
                nexus.establish_unit_attention(sense)

    def resync_size(self) -> bool:
        """Take over the backing store's size (SCST's resync_size); tell whether it changed.

        A change raises CAPACITY DATA HAS CHANGED on every nexus.
        """
        if not self.vdisk.reread_size():
            return False
        self.block_count = self.vdisk.block_count
        self.raise_unit_attention(sense_data.CAPACITY_CHANGED)
        return True


def _service_action_dispatch(by_action: dict[int, Execute]) -> Execute:
    actions = MappingProxyType(by_action)

    def execute(command: Command) -> None:
        function = actions.get(command.cdb[1] & 0x1F)
        if function is None:
            raise CheckCondition(cdb_fields.SERVICE_ACTION.invalid())
        function(command)

    return execute


def invalid_opcode(command: Command) -> None:
    """The table's entry for operation codes that the device server does not have."""
    command.check_condition(sense_data.INVALID_OPCODE)


def write_protected(command: Command) -> None:
    """The table's entry for writing commands where the medium or LUN is read-only."""
    command.check_condition(sense_data.WRITE_PROTECTED)
