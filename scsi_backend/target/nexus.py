# SPDX-License-Identifier: GPL-2.0-or-later
"""An I_T_L nexus: one initiator, through one target port, to one logical unit.

The nexus owns its dispatch table. Normally that is the logical unit's own; whatever restricts the
nexus (a read-only LUN, a pending unit attention) is laid over it when that state *changes*, so a
command in the normal state meets no check for the others. A reset is reported before anything else,
then comes a reservation conflict, then another unit attention, and then what a port that is not
active refuses; what is write-protected does not wait for the unit's atomic commands.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from scsi_backend.servers.access_states import RESTRICTIONS
from scsi_backend.servers.command import CheckCondition, Command, Execute, Reachable
from scsi_backend.servers.logical_unit import WRITE_PROTECTION, LogicalUnit, Restriction
from scsi_backend.servers.reservation_rules import lay_conflicts
from scsi_backend.servers.sbc_transfer import finish_write
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.opcodes import CONTROL_BYTE_AT, NACA_BIT, Opcode, opcode_text
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.sense import Sense, invalid_field_in_cdb
from scsi_backend.t10.status import Status
from scsi_backend.target.absent import ABSENT_DISPATCH
from scsi_backend.target.last_flush import LastFlush, when_over
from scsi_backend.target.task_management import abort_after_fault

# POWER ON, RESET, or the loss of a nexus.
_RESET_ASC: Final = 0x29

_log = logging.getLogger(__name__)


class LunView(Protocol):
    """What a nexus asks of its session."""

    initiator_name: str
    relative_target_port: int

    @property
    def id(self) -> ItNexusId:
        """Which I_T nexus the session is of."""

    def reported_luns(self) -> Sequence[int]:
        """The LUNs of the session, ascending."""

    def reachable_units(self) -> Sequence[Reachable]:
        """The nexuses of the session."""

    def clear_unit_attention(self, sense: Sense) -> None:
        """Forget a unit attention on every LUN of the session."""

    def depend_on(self, lun: int, flush: LastFlush) -> None:
        """Let no flush by a LUN succeed without this one."""


class ItlNexus:
    """Routes one initiator's commands for one LUN to the device server.

    ``last_flushes`` are those without which none by this LUN succeeds; who changes them calls
    ``recompose``.
    """

    def __init__(
        self,
        session: LunView,
        lun: int,
        unit: LogicalUnit,
        *,
        is_read_only: bool = False,
        last_flushes: Sequence[LastFlush] = (),
    ) -> None:
        self.session = session
        self.lun = lun
        self.unit = unit
        self._is_read_only = is_read_only
        self._last_flushes = last_flushes
        self.id = session.id
        # Commands that did not complete before submit returned.
        self.outstanding: set[Command] = set()
        self.aborted: set[Command] = set()
        self._attentions: deque[Sense] = deque()
        self._is_retired = False
        self._table: Sequence[Execute] = unit.dispatch_in_force
        unit.attach(self)
        self.establish_unit_attention(sense_data.RESET_OCCURRED)

    @property
    def is_read_only(self) -> bool:
        """Whether the LUN or the device is read-only."""
        return self._is_read_only or self.unit.vdisk.is_read_only

    @property
    def is_write_protected(self) -> bool:
        """Whether writes through this nexus are refused."""
        return self._is_read_only or self.unit.is_write_protected

    @property
    def uses_descriptor_sense(self) -> bool:
        """Whether sense data goes out in descriptor format (D_SENSE)."""
        return self.unit.uses_descriptor_sense

    @property
    def relative_target_port(self) -> int:
        """The relative target port identifier of the session's target."""
        return self.session.relative_target_port

    def leads_to(self, unit: LogicalUnit, *, is_read_only: bool) -> bool:
        """Whether this is the way to a unit, by a LUN that is mapped so."""
        return self.unit is unit and self._is_read_only == is_read_only

    def submit(self, command: Command, execute: Execute | None = None) -> None:
        """Execute a command; ``command.on_done`` is called now or later.

        ``execute`` is done in place of what the table has. An error in the device server itself
        ends the command with INTERNAL TARGET FAILURE.
        """
        command.nexus = self
        try:
            (execute or self._table[command.cdb[0]])(command)
        except CheckCondition as failure:
            command.check_condition(failure.sense)
        except Exception:
            # An error in on_done is the submitter's own.
            if command.status is not None:
                raise
            # One command must not take down the LUNs of everybody else.
            _log.exception("%s: %s failed", self.unit.name, opcode_text(command.cdb))
            command.check_condition(sense_data.INTERNAL_TARGET_FAILURE)
        # One that has ended may have been sent on by its owner, and be outstanding elsewhere.
        if command.status is None and command.nexus is self:
            command.is_deferred = True
            self.outstanding.add(command)

    def receive(self, command: Command, attribute: TaskAttribute = TaskAttribute.SIMPLE) -> None:
        """Execute a command of a SCSI initiator, whose CDB may say anything, in its order.

        NACA is refused, NormACA being zero (SAM-5 5.2).
        """
        cdb = command.cdb
        try:
            wants_aca = cdb[CONTROL_BYTE_AT[cdb[0]]] & NACA_BIT
        except IndexError:
            # A CDB cut short fails like one that the device server cannot read.
            wants_aca = 0
        if wants_aca:
            command.nexus = self
            command.check_condition(invalid_field_in_cdb(CONTROL_BYTE_AT[cdb[0]], 2))
        elif attribute is TaskAttribute.SIMPLE:
            self.submit(command)
        else:
            execute = self.unit.through_lock(cdb[0], self._table[cdb[0]])
            # What the nexus itself answers, it answers at once.
            is_restricted = self._attentions or self.unit.reservations.conflict_with(self.id)
            with self.unit.lock.with_attribute(command, attribute):
                self.submit(command, None if is_restricted else execute)

    def submit_within(self, command: Command) -> None:
        """Execute a command that is part of one whose turn in its task set has come already.

        It waits for no other of the task set: the one it is part of may be what that waits for.
        """
        with self.unit.lock.as_part(command):
            self.submit(command)

    def establish_unit_attention(self, sense: Sense) -> None:
        """Queue a unit attention, unless the same one is pending already."""
        if sense not in self._attentions:
            self._attentions.append(sense)
            self.recompose()

    def defer_error(self, sense: Sense) -> None:
        """Report an error of an earlier command with the next command."""
        self.unit.statistics.note_error(sense)
        self.establish_unit_attention(sense)

    def take_unit_attention(self) -> Sense | None:
        """Remove and return the oldest pending unit attention or deferred error."""
        if not self._attentions:
            return None
        sense = self._attentions.popleft()
        if sense == sense_data.REPORTED_LUNS_CHANGED:
            # As SCST: what is about all LUNs is told through one of them.
            self.session.clear_unit_attention(sense)
        self.recompose()
        return sense

    def clear_unit_attention(self, sense: Sense) -> None:
        """Forget a pending unit attention, here and on the session's other LUNs."""
        self.session.clear_unit_attention(sense)

    def drop_unit_attention(self, sense: Sense) -> None:
        """Forget a pending unit attention on this nexus only."""
        if sense in self._attentions:
            self._attentions.remove(sense)
            self.recompose()

    def faulted(self, command: Command, sense: Sense) -> None:
        """See ``Nexus.faulted``."""
        # A deferred error was counted when it came about.
        if not sense.deferred:
            self.unit.statistics.note_error(sense)
        if self.unit.control.qerr and not self._is_retired:
            abort_after_fault(self, self.unit, command)

    def reported_luns(self) -> Sequence[int]:
        """The LUNs that the initiator can reach, ascending."""
        return self.session.reported_luns()

    def reachable_units(self) -> Sequence[Reachable]:
        """The nexuses of the same session, this one among them."""
        return self.session.reachable_units()

    @property
    def dispatch(self) -> Sequence[Execute]:
        """The table by which the next command is executed."""
        return self._table

    def recompose(self) -> None:
        """Make the table anew from the unit's and from what restricts this nexus."""
        if self._is_retired:
            return
        unit = self.unit
        restrictions = self._restrictions()
        lay = partial(self._lay_restrictions, restrictions)
        table = self._laid(unit.dispatch_in_force, bool(restrictions), lay)
        table = self._laid(table, bool(self._last_flushes), self._lay_last_flushes)
        conflicts = unit.reservations.conflict_with(self.id)
        keep_out = partial(lay_conflicts, unit.rows, kind=conflicts)
        tell, refuse = (bool(self._attentions), self._lay_attentions), (bool(conflicts), keep_out)
        # A reset is told before a conflict, which leaves the others pending (SAM-5 5.3.3).
        was_reset = any(each.asc == _RESET_ASC for each in self._attentions)
        for is_needed, put in (refuse, tell) if was_reset else (tell, refuse):
            table = self._laid(table, is_needed, put)
        self._table = table

    @staticmethod
    def _laid(
        table: Sequence[Execute], is_needed: bool, lay: Callable[[list[Execute]], None]
    ) -> Sequence[Execute]:
        """Return the table, or if it is to be changed a changed copy."""
        if not is_needed:
            return table
        copy = list(table)
        lay(copy)
        return copy

    def _restrictions(self) -> list[Restriction]:
        """Those of this nexus alone; the last one answers first."""
        found = [WRITE_PROTECTION] if self._is_read_only else []
        refused = RESTRICTIONS.get(self.unit.access_state(self.relative_target_port))
        return found if refused is None else [*found, refused]

    def _lay_restrictions(self, restrictions: list[Restriction], table: list[Execute]) -> None:
        for restriction in restrictions:
            self.unit.lay(table, restriction)

    def _lay_last_flushes(self, table: list[Execute]) -> None:
        for opcode in (Opcode.SYNCHRONIZE_CACHE_10, Opcode.SYNCHRONIZE_CACHE_16):
            table[opcode] = partial(self._flush_with_last, table[opcode])

    def _flush_with_last(self, execute: Execute, command: Command) -> None:
        command.on_done = partial(self._flushed, command.on_done)
        execute(command)

    def _flushed(self, on_done: Callable[[Command], None], command: Command) -> None:
        """Have a flush that succeeded here end with the last ones elsewhere."""
        command.on_done = on_done
        if command.status != Status.GOOD:
            on_done(command)
            return
        command.status = None
        command.is_deferred = True
        self.outstanding.add(command)
        when_over(self._last_flushes, partial(finish_write, command, 0))

    def _lay_attentions(self, table: list[Execute]) -> None:
        for code in range(256):
            if code not in self.unit.attention_exempt:
                table[code] = self._report_unit_attention

    def _report_unit_attention(self, command: Command) -> None:
        sense = self.take_unit_attention()
        assert sense is not None, "the table is recomposed when the queue runs empty"
        command.check_condition(sense)

    def retire(self) -> None:
        """Lead nowhere from now on: whoever still sends something here has no such LUN."""
        self._is_retired = True
        self._attentions.clear()
        self._table = ABSENT_DISPATCH
        self.close()

    def close(self) -> None:
        """Leave the logical unit; what is outstanding still completes."""
        self.unit.detach(self)
