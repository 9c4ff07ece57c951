# SPDX-License-Identifier: GPL-2.0-or-later
"""A logical unit: an emulated device, the dispatch table of its device server, and its nexuses.

The table has an entry for each of the 256 opcodes. It is built once, from rows; what depends on
the access state of one nexus (unit attentions, write protection, reservations) is laid over
a copy of it by that nexus, so that commands in the normal state pass no check for the others. While
an atomic command is under way, the range lock is laid over it for all nexuses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import Protocol
from weakref import WeakSet

from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.buffers import UnitBuffers
from scsi_backend.servers.command import Command, Execute
from scsi_backend.servers.copy_results import CopyOperations
from scsi_backend.servers.medium import Medium
from scsi_backend.servers.mode_state import ModeState, ModeStore
from scsi_backend.servers.port_groups import PortGroups
from scsi_backend.servers.range_lock import NEVER_WAIT, BlocksOf, RangeLock
from scsi_backend.servers.reservations import PrStore, Reservations
from scsi_backend.servers.service_actions import service_action_dispatch, service_actions_instead
from scsi_backend.servers.statistics import Statistics
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.alua import AccessState
from scsi_backend.t10.mode_values import ModeValues
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.sense import Sense

# Largest transfer of one command; reported in VPD B0h, so that no front-end has to split.
MAX_TRANSFER_BYTES = 32 << 20


class AttachedNexus(Protocol):
    """A nexus, as the logical unit sees it."""

    outstanding: set[Command]
    aborted: set[Command]

    @property
    def id(self) -> ItNexusId:
        """Which I_T nexus this is, over all of its sessions."""

    def recompose(self) -> None:
        """Take over a change of ``LogicalUnit.dispatch_in_force``."""

    def establish_unit_attention(self, sense: Sense) -> None:
        """Queue a unit attention for the nexus's next command."""


class UnitOperation(Protocol):
    """An operation on all of a unit's medium, as the logical unit and REQUEST SENSE see it."""

    # Whether it has ended, and lets nobody use the medium.
    is_failed: bool
    # What stands for it among the commands under way, which its own command need not outlast.
    performer: Command

    @property
    def sense(self) -> Sense:
        """What there is to tell of it now (SPC-5 5.12.2, pollable sense data)."""

    def abandon(self, aborted: Collection[Command]) -> None:
        """End the command that began it, if it is among these, and go on."""

    def stop(self) -> None:
        """Let it fail soon, because the device is about to be closed."""


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One operation code, or one service action of it.

    ``bind`` makes the function that executes the command on a given logical unit.
    ``skips_attention``: SAM-5 5.14.1 exempts INQUIRY, REPORT LUNS and REQUEST SENSE from reporting
    unit attentions. ``writes_medium`` commands are refused on a read-only device or LUN.
    ``blocks_of`` tells which blocks a CDB reads or writes; commands without it are not kept waiting
    by atomic ones. It is for the whole opcode, so rows of one opcode agree in it. ``is_atomic``
    commands run under the range lock. ``is_supported`` tells which devices have the command.
    """

    opcode: Opcode
    bind: Callable[[LogicalUnit], Execute]
    service_action: int | None = None
    skips_attention: bool = False
    writes_medium: bool = False
    blocks_of: BlocksOf | None = None
    is_atomic: bool = False
    is_supported: Callable[[Vdisk], bool] = lambda vdisk: True


class Layer(IntEnum):
    """What may restrict a logical unit for all nexuses; the later ones answer first."""

    WRITE_PROTECTION = 0
    MEDIUM = 1
    OPERATION = 2


@dataclass(frozen=True, slots=True, order=True)
class TargetPort:
    """A port through which initiators can reach a logical unit."""

    relative_identifier: int
    name: str


@dataclass(frozen=True, slots=True)
class Restriction:
    """Commands that end otherwise while a state lasts: those of the rows that ``applies`` to."""

    applies: Callable[[CommandRow], bool]
    instead: Execute


class LogicalUnit:
    """A device under SCSI: owns the dispatch table and the list of nexuses to notify.

    Raises OSError where saved mode parameters or reservations cannot be read.
    """

    def __init__(
        self,
        vdisk: Vdisk,
        rows: Iterable[CommandRow],
        mode_store: ModeStore | None = None,
        pr_store: PrStore | None = None,
    ) -> None:
        self.vdisk = vdisk
        self.name = vdisk.name
        self.block_count = vdisk.block_count
        self.block_shift = vdisk.block_size_bytes.bit_length() - 1
        self.max_transfer_blocks = MAX_TRANSFER_BYTES >> self.block_shift
        # Each write is stable before its status, without FUA being asked for.
        self.is_write_through = False
        self.medium = Medium()
        self.statistics = Statistics()
        self.buffers = UnitBuffers()
        self._ports: set[TargetPort] = set()
        # The device group that it is in, if any.
        self.port_groups: PortGroups | None = None
        # FORMAT UNIT or SANITIZE that is under way, or has failed.
        self.operation: UnitOperation | None = None
        # Those that were sent to this unit, whichever units they copy between.
        self.copies = CopyOperations()
        self._nexuses: list[AttachedNexus] = []
        # With those that left while commands of theirs were outstanding.
        self._ever_attached: WeakSet[AttachedNexus] = WeakSet()
        rows = tuple(row for row in rows if row.is_supported(vdisk))
        blocks_of: dict[int, BlocksOf] = {
            row.opcode: row.blocks_of for row in rows if row.blocks_of is not None
        }
        self.lock = RangeLock(blocks_of, self.outstanding, self._recompose, self._task_set_of)
        self._restrictions: dict[Layer, Restriction] = {}
        self._rows_by_opcode: dict[int, list[CommandRow]] = {}
        for row in rows:
            self._rows_by_opcode.setdefault(row.opcode, []).append(row)
        self.attention_exempt = frozenset(row.opcode for row in rows if row.skips_attention)
        self.dispatch = self._build()
        self.reservations = Reservations(lambda: self._nexuses, self.recompose_nexuses, pr_store)
        self._restricted_dispatch: Sequence[Execute] | None = None
        if vdisk.is_read_only:
            self.restrict(Layer.WRITE_PROTECTION, WRITE_PROTECTION)
        default = ModeValues(wce=vdisk.has_volatile_cache, tst=vdisk.tst)
        self.modes = ModeState(vdisk.name, default, self._apply_modes, vdisk.sync, mode_store)
        self._apply_modes(self.modes.current)

    @property
    def rows(self) -> Mapping[int, Sequence[CommandRow]]:
        """The rows that the table was built from, by opcode."""
        return MappingProxyType(self._rows_by_opcode)

    def _build(self) -> tuple[Execute, ...]:
        table: list[Execute] = [invalid_opcode] * 256
        for opcode, rows in self._rows_by_opcode.items():
            table[opcode] = self._bind(rows)
        return tuple(table)

    def _bind(self, rows: list[CommandRow]) -> Execute:
        actions: dict[int, Execute] = {}
        for row in rows:
            execute = row.bind(self)
            if row.is_atomic:
                execute = partial(self.lock.run_atomic, execute)
            if row.service_action is None:
                return execute
            actions[row.service_action] = execute
        return service_action_dispatch(actions)

    @property
    def dispatch_in_force(self) -> Sequence[Execute]:
        """``dispatch``, with what restricts the unit, or keeps commands waiting, laid over it."""
        return self.dispatch if self._restricted_dispatch is None else self._restricted_dispatch

    @property
    def is_write_protected(self) -> bool:
        """Whether nobody may write: a read-only device, or SWP of the control mode page."""
        return Layer.WRITE_PROTECTION in self._restrictions

    @property
    def control(self) -> ModeValues:
        """The values of the control mode page that are in force."""
        return self.modes.current

    @property
    def uses_descriptor_sense(self) -> bool:
        """D_SENSE of the control mode page."""
        return self.modes.current.d_sense

    def _apply_modes(self, values: ModeValues) -> None:
        self.vdisk.has_volatile_cache = values.wce
        self.is_write_through = self.vdisk.needs_sync and not values.wce
        if not self.vdisk.is_read_only and values.swp != self.is_write_protected:
            protection = SOFTWARE_WRITE_PROTECTION if values.swp else None
            self.restrict(Layer.WRITE_PROTECTION, protection)
        self.lock.orders_all = not values.may_reorder

    @property
    def ports(self) -> Sequence[TargetPort]:
        """The ports that lead here, by relative identifier."""
        return sorted(self._ports)

    def add_port(self, port: TargetPort) -> None:
        """One more port leads here."""
        self._ports.add(port)

    def remove_port(self, port: TargetPort) -> None:
        """A port leads here no more."""
        self._ports.remove(port)

    def restrict(self, layer: Layer, restriction: Restriction | None) -> None:
        """Let commands of all nexuses end otherwise from now on, or (None) as usual again.

        Commands under way go on.
        """
        if restriction is None:
            self._restrictions.pop(layer, None)
        else:
            self._restrictions[layer] = restriction
        self._recompose()

    def lay(self, table: list[Execute], restriction: Restriction) -> None:
        """Put a restriction over a table that was made from this unit's."""
        for opcode, rows in self._rows_by_opcode.items():
            hit = [row for row in rows if restriction.applies(row)]
            if len(hit) == len(rows):
                table[opcode] = restriction.instead
            elif hit:
                actions = frozenset(row.service_action for row in hit)
                table[opcode] = service_actions_instead(actions, restriction.instead, table[opcode])

    def _recompose(self) -> None:
        if not self.lock.is_engaged and not self._restrictions:
            self._restricted_dispatch = None
        else:
            table = list(self.dispatch)
            if self.lock.is_engaged:
                self._lay_lock(table)
            for layer in sorted(self._restrictions):
                self.lay(table, self._restrictions[layer])
            self._restricted_dispatch = table
        self.recompose_nexuses()

    def recompose_nexuses(self) -> None:
        """Have every nexus take over a change of what its commands meet."""
        for nexus in self._ever_attached:
            nexus.recompose()

    def access_state(self, relative_target_port: int) -> AccessState:
        """The asymmetric access state of the unit through a port."""
        groups = self.port_groups
        return AccessState.ACTIVE if groups is None else groups.state_of(relative_target_port)

    def through_lock(self, opcode: int, execute: Execute) -> Execute:
        """Return what leads a command of the table in force to the lock, if that does not."""
        return execute if self.lock.is_engaged else self._admitting(opcode, execute)

    def _lay_lock(self, table: list[Execute]) -> None:
        for opcode in self._rows_by_opcode:
            table[opcode] = self._admitting(opcode, table[opcode])

    def _admitting(self, opcode: int, execute: Execute) -> Execute:
        """Lead to the lock what does not go there by itself, as atomic commands do."""
        if opcode in NEVER_WAIT:
            return execute
        rows = self._rows_by_opcode.get(opcode, ())
        atomic = frozenset(row.service_action for row in rows if row.is_atomic)
        if atomic and len(atomic) == len(rows):
            return execute
        admitted = partial(self.lock.admit, execute)
        return service_actions_instead(atomic, execute, admitted) if atomic else admitted

    def _task_set_of(self, command: Command) -> object:
        return self if self.control.tst == 0 else command.nexus

    def outstanding(self) -> Iterator[Command]:
        """The commands that did not end before ``submit`` returned, of all nexuses."""
        for nexus in self._ever_attached:
            yield from nexus.outstanding

    def under_way(self) -> Iterator[Command]:
        """What may still reach the medium: also a FORMAT UNIT or SANITIZE without its command."""
        yield from self.outstanding()
        if self.operation is not None and not self.operation.is_failed:
            yield self.operation.performer

    @property
    def nexuses(self) -> Iterable[AttachedNexus]:
        """The nexuses, with those that left while commands of theirs were outstanding."""
        return tuple(self._ever_attached)

    def attach(self, nexus: AttachedNexus) -> None:
        """Add a nexus to those that hear of changes."""
        self._nexuses.append(nexus)
        self._ever_attached.add(nexus)
        self.reservations.arrived(nexus)

    def detach(self, nexus: AttachedNexus) -> None:
        """Remove a nexus."""
        self._nexuses.remove(nexus)
        self.reservations.left(nexus)
        self.forget(nexus)

    def forget(self, nexus: AttachedNexus) -> None:
        """Drop what is kept for a nexus, which is lost, until its initiator asks for it."""
        self.medium.allow_removal(nexus)
        self.buffers.forget(nexus)
        self.copies.forget(nexus)

    def raise_unit_attention(self, sense: Sense, *, but: object = None) -> None:
        """Queue a unit attention on every nexus, ``but`` the one that caused it."""
        for nexus in self._nexuses:
            if nexus is not but:
                nexus.establish_unit_attention(sense)

    def reset(self) -> None:
        """Return to the state after power on, but for the medium and the commands under way.

        Persistent reservations stay (SPC-4 5.13.1).
        """
        self.reservations.reserve_legacy(None)
        self.modes.reset()
        self.medium.allow_all()
        self.buffers.forget_all()
        self.copies.forget_all()

    def resync_size(self) -> bool:
        """Take over the backing store's size (SCST's resync_size); tell whether it changed.

        A change raises CAPACITY DATA HAS CHANGED on every nexus.
        """
        if not self.vdisk.reread_size():
            return False
        self.block_count = self.vdisk.block_count
        self.raise_unit_attention(sense_data.CAPACITY_CHANGED)
        return True


def invalid_opcode(command: Command) -> None:
    """The table's entry for operation codes that the device server does not have."""
    command.check_condition(sense_data.INVALID_OPCODE)


def write_protected(command: Command) -> None:
    """The table's entry for writing commands where the medium or LUN is read-only."""
    command.check_condition(sense_data.WRITE_PROTECTED)


def software_write_protected(command: Command) -> None:
    """The table's entry for writing commands while SWP of the control mode page is set."""
    command.check_condition(sense_data.SOFTWARE_WRITE_PROTECTED)


WRITE_PROTECTION = Restriction(lambda row: row.writes_medium, write_protected)
SOFTWARE_WRITE_PROTECTION = Restriction(lambda row: row.writes_medium, software_write_protected)
