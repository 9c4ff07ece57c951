# SPDX-License-Identifier: GPL-2.0-or-later
"""PERSISTENT RESERVE OUT (SPC-5 6.17): its parameter list, and what becomes of the state.

One such command runs at a time. What it makes of the state is stored before it takes effect, and
has taken effect before the command ends; a state that cannot be stored changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final

from scsi_backend.io.engine import Done
from scsi_backend.servers import reservation_state as rules
from scsi_backend.servers.command import CheckCondition, Command, Execute, OtherStatus
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.servers.reservation_state import (
    AskedType,
    Change,
    PrState,
    ReservationConflict,
)
from scsi_backend.servers.reservations import MAX_REGISTRANTS
from scsi_backend.servers.sbc_transfer import data_out_exactly
from scsi_backend.servers.steps import Steps, run_steps
from scsi_backend.servers.task_abort import abort, when_ended
from scsi_backend.t10 import persistent_reservation as pr
from scsi_backend.t10 import sense
from scsi_backend.t10.cdb_reservation import PR_OUT_PARAMETER_LIST_LENGTH, PR_SCOPE, PR_TYPE
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.persistent_reservation import ItNexusId, PrOutAction, ReservationType
from scsi_backend.t10.sense import invalid_field_in_parameter_list
from scsi_backend.t10.status import Status
from scsi_backend.t10.transport_id import MAX_TRANSPORT_ID_BYTES, parse_transport_id

_FLAGS_AT: Final = 20
_MOVE_FLAGS_AT: Final = 17
_MOVE_PORT_AT: Final = 18
_MOVE_TRANSPORT_ID_AT: Final = 24
_TYPES: Final = frozenset(ReservationType)
_MAX_LIST_BYTES: Final = pr.TRANSPORT_IDS_AT + MAX_REGISTRANTS * MAX_TRANSPORT_ID_BYTES
# Everybody else has to be registered.
_OF_ANYBODY: Final = frozenset({PrOutAction.REGISTER, PrOutAction.REGISTER_AND_IGNORE_EXISTING_KEY})


@dataclass(frozen=True, slots=True)
class _Request:
    """What a nexus asks for; ``others`` are registered along with it."""

    who: ItNexusId
    key: int
    action_key: int
    cdb: bytes
    persists: bool = False
    others: tuple[ItNexusId, ...] = ()
    unregisters: bool = False

    @property
    def type(self) -> AskedType:
        """What SCOPE and TYPE say."""
        if PR_SCOPE.read(self.cdb) != pr.SCOPE_LOGICAL_UNIT:
            return CheckCondition(PR_SCOPE.invalid())
        kind = PR_TYPE.read(self.cdb)
        return ReservationType(kind) if kind in _TYPES else CheckCondition(PR_TYPE.invalid())


_Parse = Callable[[LogicalUnit, Command, bytes], _Request]
_Decide = Callable[[PrState, _Request], Change]


def _parse_plain(unit: LogicalUnit, command: Command, data: bytes) -> _Request:
    """The list of every service action that registers nobody else."""
    if data[_FLAGS_AT] & pr.SPEC_I_PT_BIT:
        raise CheckCondition(invalid_field_in_parameter_list(_FLAGS_AT, 3))
    if len(data) != pr.PARAMETER_LIST.size:
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    key, action_key, _ = pr.PARAMETER_LIST.unpack(data)
    return _Request(command.nexus.id, key, action_key, command.cdb)


def _parse_register_and_ignore(unit: LogicalUnit, command: Command, data: bytes) -> _Request:
    request = _parse_plain(unit, command, data)
    who = request.who
    others = _on_ports(unit, who.transport_id, who, data[_FLAGS_AT])
    return replace(request, persists=_persists(unit, data, _FLAGS_AT), others=others)


def _parse_register(unit: LogicalUnit, command: Command, data: bytes) -> _Request:
    flags = data[_FLAGS_AT]
    if not flags & pr.SPEC_I_PT_BIT:
        return _parse_register_and_ignore(unit, command, data)
    who, registrants = command.nexus.id, unit.reservations.state.registrants
    key, action_key, _ = pr.PARAMETER_LIST.unpack_from(data)
    if key != registrants.get(who, 0):
        raise ReservationConflict
    # SPC-4 5.13.7: only whoever is not registered yet may bring others along.
    if who in registrants:
        raise CheckCondition(invalid_field_in_parameter_list(_FLAGS_AT, 3))
    others = [*_on_ports(unit, who.transport_id, who, flags)]
    for start, transport_id in _transport_ids(data):
        named = _on_ports(unit, transport_id, who, flags)
        if any(each in registrants for each in named):
            raise CheckCondition(invalid_field_in_parameter_list(start, 7))
        others += named
    persists = _persists(unit, data, _FLAGS_AT)
    return _Request(who, key, action_key, command.cdb, persists, tuple(others))


def _persists(unit: LogicalUnit, data: bytes, flags_at: int) -> bool:
    """APTPL, which is refused where there is no place to keep state in."""
    persists = bool(data[flags_at] & pr.APTPL_BIT)
    if persists and unit.reservations.store is None:
        raise CheckCondition(invalid_field_in_parameter_list(flags_at, 0))
    return persists


def _on_ports(
    unit: LogicalUnit, transport_id: bytes, who: ItNexusId, flags: int
) -> tuple[ItNexusId, ...]:
    """An initiator on the port that the command came through, or with ALL_TG_PT on every one."""
    ports = [who.relative_target_port]
    if flags & pr.ALL_TG_PT_BIT:
        ports += [port.relative_identifier for port in unit.ports]
    return tuple(ItNexusId(transport_id, port) for port in dict.fromkeys(ports))


def _transport_ids(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The TransportIDs of SPEC_I_PT, and where each begins."""
    start = pr.TRANSPORT_IDS_AT
    if len(data) < start or int.from_bytes(data[start - 4 : start], "big") != len(data) - start:
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    while start < len(data):
        parsed = parse_transport_id(data, start)
        if parsed is None:
            raise CheckCondition(invalid_field_in_parameter_list(start, 7))
        yield start, parsed[0]
        start += parsed[1]


def _parse_move(unit: LogicalUnit, command: Command, data: bytes) -> _Request:
    who = command.nexus.id
    key, action_key, flags, port, length = pr.MOVE_PARAMETER_LIST.unpack_from(data)
    rules.reservation_to_move(unit.reservations.state, who)
    if _MOVE_TRANSPORT_ID_AT + length != len(data):
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    if port not in {each.relative_identifier for each in unit.ports}:
        raise CheckCondition(invalid_field_in_parameter_list(_MOVE_PORT_AT, 7))
    parsed = parse_transport_id(data, _MOVE_TRANSPORT_ID_AT)
    if parsed is None or parsed[1] != length:
        raise CheckCondition(invalid_field_in_parameter_list(_MOVE_TRANSPORT_ID_AT, 7))
    return _Request(
        who,
        key,
        action_key,
        command.cdb,
        _persists(unit, data, _MOVE_FLAGS_AT),
        (ItNexusId(parsed[0], port),),
        bool(flags & pr.MOVE_UNREG_BIT),
    )


def _register(state: PrState, ask: _Request) -> Change:
    return rules.register(
        state, ask.who, ask.key, ask.action_key, ask.others, persists=ask.persists
    )


def _register_and_ignore(state: PrState, ask: _Request) -> Change:
    return rules.register(state, ask.who, None, ask.action_key, ask.others, persists=ask.persists)


def _reserve(state: PrState, ask: _Request) -> Change:
    return rules.reserve(state, ask.who, ask.key, ask.type)


def _release(state: PrState, ask: _Request) -> Change:
    return rules.release(state, ask.who, ask.key, ask.cdb[PR_TYPE.byte])


def _clear(state: PrState, ask: _Request) -> Change:
    return rules.clear(state, ask.who, ask.key)


def _preempt(state: PrState, ask: _Request) -> Change:
    return rules.preempt(state, ask.who, ask.key, ask.action_key, ask.type)


def _move(state: PrState, ask: _Request) -> Change:
    return rules.register_and_move(
        state,
        ask.who,
        ask.key,
        ask.action_key,
        ask.others[0],
        unregisters=ask.unregisters,
        persists=ask.persists,
    )


_ACTIONS: Mapping[PrOutAction, tuple[_Parse, _Decide]] = MappingProxyType(
    {
        PrOutAction.REGISTER: (_parse_register, _register),
        PrOutAction.RESERVE: (_parse_plain, _reserve),
        PrOutAction.RELEASE: (_parse_plain, _release),
        PrOutAction.CLEAR: (_parse_plain, _clear),
        PrOutAction.PREEMPT: (_parse_plain, _preempt),
        PrOutAction.PREEMPT_AND_ABORT: (_parse_plain, _preempt),
        PrOutAction.REGISTER_AND_IGNORE_EXISTING_KEY: (
            _parse_register_and_ignore,
            _register_and_ignore,
        ),
        PrOutAction.REGISTER_AND_MOVE: (_parse_move, _move),
    }
)


def _bind(action: PrOutAction) -> Callable[[LogicalUnit], Execute]:
    return lambda unit: partial(_persistent_out, action, unit)


def _persistent_out(action: PrOutAction, unit: LogicalUnit, command: Command) -> None:
    length = PR_OUT_PARAMETER_LIST_LENGTH.read(command.cdb)
    if not pr.PARAMETER_LIST.size <= length <= _MAX_LIST_BYTES:
        raise CheckCondition(sense.PARAMETER_LIST_LENGTH_ERROR)
    data = bytes(data_out_exactly(command, length))
    run_steps(command, _perform(action, unit, command, data))


def _perform(action: PrOutAction, unit: LogicalUnit, command: Command, data: bytes) -> Steps:
    reservations = unit.reservations
    yield reservations.turn.take
    with ExitStack() as stack:
        stack.callback(reservations.turn.leave)
        if command in command.nexus.aborted:
            # What was aborted while it waited has no effect any more.
            return
        try:
            change = _decide(action, unit, command, data)
        except ReservationConflict:
            raise OtherStatus(Status.RESERVATION_CONFLICT) from None
        if len(change.state.registrants) > MAX_REGISTRANTS:
            raise CheckCondition(sense.INSUFFICIENT_REGISTRATION_RESOURCES)
        if change.state != reservations.state:
            if reservations.store is not None:
                result = yield partial(reservations.store.save, change.state)
                if result < 0:
                    raise CheckCondition(sense.INTERNAL_TARGET_FAILURE)
            reservations.adopt(change)
        if action is PrOutAction.PREEMPT_AND_ABORT:
            aborted = _abort(unit, command, change)
            yield partial(_leave_and_wait, stack.close, aborted)


def _decide(action: PrOutAction, unit: LogicalUnit, command: Command, data: bytes) -> Change:
    """What becomes of the state; a conflict comes before what is wrong with the list."""
    reservations = unit.reservations
    if reservations.has_legacy:
        # SPC-2 5.5.1: its own holder's, too.
        raise ReservationConflict
    if action not in _OF_ANYBODY:
        rules.check_key(reservations.state, command.nexus.id, int.from_bytes(data[:8], "big"))
    parse, decide = _ACTIONS[action]
    return decide(reservations.state, parse(unit, command, data))


def _abort(unit: LogicalUnit, command: Command, change: Change) -> list[Command]:
    """Abort the commands of whoever was preempted; return those that are under way.

    It may be this command that the others wait for; they never begin.
    """
    nexuses = [nexus for nexus in unit.nexuses if nexus.id in change.preempted]
    for nexus in nexuses:
        unit.medium.allow_removal(nexus)
    aborted = abort(nexuses, command.nexus, tas=unit.control.tas, but=command)
    return [each for each in aborted if not unit.lock.is_waiting(each)]


def _leave_and_wait(leave: Callable[[], None], aborted: list[Command], done: Done) -> None:
    # Some of them may wait for their own turn.
    when_ended(aborted, partial(done, 0))
    leave()


PERSISTENT_OUT_COMMANDS = tuple(
    CommandRow(Opcode.PERSISTENT_RESERVE_OUT, _bind(action), service_action=action)
    for action in _ACTIONS
)
