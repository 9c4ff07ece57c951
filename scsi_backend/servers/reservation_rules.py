# SPDX-License-Identifier: GPL-2.0-or-later
"""Which commands a reservation of somebody else's lets through, one row for each.

SPC-5 table 161 and SBC-4 table 14, with SCST's answers where they leave a choice; legacy
reservations are SPC-2 5.5.1. A command without a row conflicts with every reservation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Flag, auto
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from scsi_backend.servers.command import Command, Execute
from scsi_backend.t10.opcodes import (
    MaintenanceIn,
    Opcode,
    ServiceActionIn16,
    VariableLength,
    service_action,
)
from scsi_backend.t10.status import Status


class Conflict(Flag):
    """The kinds of reservations, by whom they keep out."""

    # RESERVE(6) and RESERVE(10) of SPC-2.
    LEGACY = auto()
    WRITE_EXCLUSIVE = auto()
    EXCLUSIVE_ACCESS = auto()


_NONE: Final = Conflict(0)
_LEGACY: Final = Conflict.LEGACY
# Reads the medium, or what belongs to whoever may read it.
_READS: Final = Conflict.LEGACY | Conflict.EXCLUSIVE_ACCESS
_ALL: Final = Conflict.LEGACY | Conflict.WRITE_EXCLUSIVE | Conflict.EXCLUSIVE_ACCESS


class Rule(NamedTuple):
    """With what a command conflicts; one that is ``harmless`` as its CDB is, with nothing."""

    conflicts: Conflict
    harmless: Callable[[bytes], bool] | None = None


def _allows_removal(cdb: bytes) -> bool:
    return not cdb[4] & 0x03


def _starts(cdb: bytes) -> bool:
    """START STOP UNIT with START=1 and without a power condition, LOEJ or not (SBC-4 table 14)."""
    return cdb[4] & 0xF1 == 0x01


# Opcode and service action; None where the rule is for the whole opcode.
_Key = tuple[int, int | None]


def _with_rule(rule: Rule, *commands: Opcode | tuple[Opcode, int]) -> dict[_Key, Rule]:
    keys = [each if isinstance(each, tuple) else (each, None) for each in commands]
    return dict.fromkeys(keys, rule)


RULES: Mapping[_Key, Rule] = MappingProxyType(
    _with_rule(
        Rule(_NONE),
        Opcode.TEST_UNIT_READY,
        Opcode.REQUEST_SENSE,
        Opcode.INQUIRY,
        Opcode.RELEASE_6,
        Opcode.READ_CAPACITY_10,
        Opcode.LOG_SENSE,
        Opcode.RELEASE_10,
        (Opcode.SERVICE_ACTION_IN_16, ServiceActionIn16.READ_CAPACITY_16),
        Opcode.REPORT_LUNS,
        (Opcode.MAINTENANCE_IN, MaintenanceIn.REPORT_TARGET_PORT_GROUPS),
    )
    # Persistent reservations and legacy ones keep each other out by their own rules.
    | _with_rule(
        Rule(_LEGACY),
        Opcode.RECEIVE_COPY_RESULTS,
        Opcode.RESERVE_6,
        Opcode.RESERVE_10,
        Opcode.PERSISTENT_RESERVE_IN,
        Opcode.PERSISTENT_RESERVE_OUT,
    )
    | _with_rule(
        Rule(_READS),
        Opcode.READ_6,
        Opcode.MODE_SENSE_6,
        Opcode.RECEIVE_DIAGNOSTIC_RESULTS,
        Opcode.READ_10,
        Opcode.VERIFY_10,
        Opcode.PRE_FETCH_10,
        Opcode.READ_DEFECT_DATA_10,
        Opcode.READ_BUFFER,
        Opcode.MODE_SENSE_10,
        (Opcode.VARIABLE_LENGTH, VariableLength.READ_32),
        (Opcode.VARIABLE_LENGTH, VariableLength.VERIFY_32),
        Opcode.READ_16,
        Opcode.VERIFY_16,
        Opcode.PRE_FETCH_16,
        (Opcode.SERVICE_ACTION_IN_16, ServiceActionIn16.GET_LBA_STATUS),
        (Opcode.MAINTENANCE_IN, MaintenanceIn.REPORT_SUPPORTED_OPERATION_CODES),
        (Opcode.MAINTENANCE_IN, MaintenanceIn.REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS),
        Opcode.READ_12,
        Opcode.VERIFY_12,
        Opcode.READ_DEFECT_DATA_12,
    )
    | _with_rule(Rule(_ALL, _allows_removal), Opcode.PREVENT_ALLOW_MEDIUM_REMOVAL)
    | _with_rule(Rule(_ALL, _starts), Opcode.START_STOP_UNIT)
)
_CONFLICTS_WITH_ALL: Final = Rule(_ALL)


def rule_of(opcode: int, action: int | None) -> Rule:
    """The rule of a command."""
    found = RULES.get((opcode, action)) or RULES.get((opcode, None))
    return found or _CONFLICTS_WITH_ALL


def conflict(command: Command) -> None:
    """The table's entry for commands that somebody's reservation keeps out."""
    command.complete(Status.RESERVATION_CONFLICT)


class Row(Protocol):
    """A row of the dispatch table, as far as a rule depends on it."""

    @property
    def service_action(self) -> int | None:
        """The service action, for an opcode that has them."""


def lay_conflicts(
    all_rows: Mapping[int, Sequence[Row]], table: list[Execute], kind: Conflict
) -> None:
    """Keep out of a nexus's table what conflicts with a reservation of this kind.

    ``all_rows`` are those that the table was made from, by opcode.
    """
    for opcode, rows in all_rows.items():
        rules = {row.service_action: rule_of(opcode, row.service_action) for row in rows}
        if all(rule.conflicts & kind and rule.harmless is None for rule in rules.values()):
            table[opcode] = conflict
        elif any(rule.conflicts & kind for rule in rules.values()):
            table[opcode] = partial(_check, kind, _rule_finder(rules), table[opcode])


def _rule_finder(rules: Mapping[int | None, Rule]) -> Callable[[bytes], Rule]:
    if None in rules:
        rule = rules[None]
        return lambda cdb: rule
    return lambda cdb: rules.get(service_action(cdb), _CONFLICTS_WITH_ALL)


def _check(
    kind: Conflict, rule_for: Callable[[bytes], Rule], otherwise: Execute, command: Command
) -> None:
    rule = rule_for(command.cdb)
    is_harmless = rule.harmless is not None and rule.harmless(command.cdb)
    if rule.conflicts & kind and not is_harmless:
        conflict(command)
    else:
        otherwise(command)
