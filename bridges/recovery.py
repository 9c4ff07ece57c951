# SPDX-License-Identifier: GPL-2.0-or-later
"""What an initiator does about a command that did not succeed: retry, wait, look again, give up.

The front-ends speak protocols without unit attentions or BUSY, so these are dealt with here. Which
code of its own protocol a final failure becomes is each bridge's business (its errors.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import NamedTuple

from scsi_backend.servers.command import Command
from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.opcodes import opcode_text
from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status, status_text

# INVALID COMMAND OPERATION CODE, INVALID FIELD IN CDB, INVALID FIELD IN PARAMETER LIST.
_REFUSALS = frozenset({0x20, 0x24, 0x26})


class Reply(NamedTuple):
    """How a command ended."""

    status: int
    sense: Sense | None
    data_in_length: int

    @property
    def is_success(self) -> bool:
        """Whether the command did what it was asked to."""
        return self.status in _SUCCESS or decide(self.status, self.sense) is Action.ACCEPT

    def __str__(self) -> str:
        if self.status == Status.CHECK_CONDITION and self.sense is not None:
            return str(self.sense)
        return status_text(self.status)


class ScsiError(Exception):
    """A command failed for good."""

    def __init__(self, cdb: bytes, reply: Reply) -> None:
        super().__init__(f"{opcode_text(cdb)}: {reply}")
        self.cdb = cdb
        self.reply = reply

    @property
    def is_refusal(self) -> bool:
        """Whether the device does not do such commands, rather than failed at this one."""
        sense = self.reply.sense
        return (
            sense is not None and sense.key == SenseKey.ILLEGAL_REQUEST and sense.asc in _REFUSALS
        )


class Action(Enum):
    """What to do next."""

    ACCEPT = auto()
    RETRY = auto()
    RETRY_LATER = auto()
    REFRESH = auto()
    FAIL = auto()


_SUCCESS = frozenset({Status.GOOD, Status.CONDITION_MET})

_BY_STATUS = MappingProxyType(
    {
        Status.GOOD: Action.ACCEPT,
        Status.CONDITION_MET: Action.ACCEPT,
        Status.BUSY: Action.RETRY_LATER,
        Status.TASK_SET_FULL: Action.RETRY_LATER,
        Status.ACA_ACTIVE: Action.RETRY_LATER,
        Status.TASK_ABORTED: Action.RETRY,
    }
)

# NOT READY 04/xx: the logical unit will become ready by itself.
_BECOMING_READY = frozenset(
    {0x01, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x11, 0x14, 0x1A, 0x1B, 0x1D, 0x24}
)


@dataclass(frozen=True, slots=True)
class _Rule:
    key: SenseKey
    matches: Callable[[Sense], bool]
    action: Action


def _any(sense: Sense) -> bool:
    return True


def _code(*codes: AdditionalSense) -> Callable[[Sense], bool]:
    return lambda sense: sense.code in codes


# The first match wins; no match is a final failure.
_BY_SENSE = (
    _Rule(SenseKey.NO_SENSE, _any, Action.ACCEPT),
    _Rule(SenseKey.RECOVERED_ERROR, _any, Action.ACCEPT),
    _Rule(
        SenseKey.NOT_READY,
        lambda sense: sense.asc == 0x04 and sense.ascq in _BECOMING_READY,
        Action.RETRY_LATER,
    ),
    # Data of the old medium must never be written to a new one.
    _Rule(
        SenseKey.UNIT_ATTENTION,
        _code(AdditionalSense.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED),
        Action.FAIL,
    ),
    _Rule(
        SenseKey.UNIT_ATTENTION,
        _code(
            AdditionalSense.MODE_PARAMETERS_CHANGED,
            # While the port had no access, other changes may have been missed.
            AdditionalSense.ASYMMETRIC_ACCESS_STATE_CHANGED,
            AdditionalSense.CAPACITY_DATA_HAS_CHANGED,
            AdditionalSense.INQUIRY_DATA_HAS_CHANGED,
        ),
        Action.REFRESH,
    ),
    _Rule(SenseKey.UNIT_ATTENTION, _any, Action.RETRY),
    # Protection information errors and insufficient time repeat themselves.
    _Rule(SenseKey.ABORTED_COMMAND, lambda sense: sense.asc in (0x10, 0x2E), Action.FAIL),
    _Rule(SenseKey.ABORTED_COMMAND, _any, Action.RETRY),
    # 55/0A, DATA CURRENTLY UNAVAILABLE: a command duration limit cut the command short.
    _Rule(SenseKey.COMPLETED, lambda sense: sense.code != 0x550A, Action.ACCEPT),
)


def decide(status: int, sense: Sense | None) -> Action:
    """Return what to do about a command that ended this way."""
    if status != Status.CHECK_CONDITION:
        return _BY_STATUS.get(Status(status), Action.FAIL) if status in _STATUSES else Action.FAIL
    # A deferred error belongs to data already acknowledged: no retry of this command mends it.
    if sense is None or sense.deferred:
        return Action.FAIL
    for rule in _BY_SENSE:
        if rule.key == sense.key and rule.matches(sense):
            return rule.action
    return Action.FAIL


_STATUSES = frozenset(Status)

_MAX_RETRIES = 8
_FIRST_DELAY_S = 0.001
_MAX_DELAY_S = 1.0
# Linux kernels of 2018 dropped an NBD connection after 30 s, whatever timeout they were given.
DEADLINE_S = 25.0


class RetryBudget:
    """How often and how long one command may be tried again."""

    __slots__ = ("_deadline_s", "_delay_s", "_retries")

    def __init__(self, now_s: float) -> None:
        self._deadline_s = now_s + DEADLINE_S
        self._delay_s = _FIRST_DELAY_S
        self._retries = 0

    def next_delay_s(self, action: Action, now_s: float) -> float | None:
        """Return how long to wait before the next try, or None when the budget is spent."""
        if now_s >= self._deadline_s:
            return None
        if action is Action.RETRY_LATER:
            delay, self._delay_s = self._delay_s, min(self._delay_s * 2, _MAX_DELAY_S)
            return delay
        self._retries += 1
        return 0.0 if self._retries <= _MAX_RETRIES else None


def reply_of(command: Command) -> Reply:
    """Return how a completed command ended."""
    assert command.status is not None, "the command has completed"
    return Reply(command.status, command.sense, command.data_in_length)
