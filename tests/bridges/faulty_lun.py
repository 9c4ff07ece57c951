# SPDX-License-Identifier: GPL-2.0-or-later
"""A LUN that answers as the test says, and a clock that goes as the test says.

Behind the script stands a real device server on a disk in memory; commands without a scripted
answer reach it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from scsi_backend.handlers.vdisk import Vdisk
from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.disk import DISK_COMMANDS
from scsi_backend.servers.logical_unit import CommandRow, LogicalUnit
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.scsi_backend.fakes import FaultyVdisk


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ends."""

    status: Status
    sense: Sense | None = None


def check_condition(text: str, *, deferred: bool = False) -> Answer:
    """CHECK CONDITION with this sense: "key/asc/ascq" in hex."""
    return Answer(Status.CHECK_CONDITION, sense(text, deferred=deferred))


def sense(text: str, *, deferred: bool = False) -> Sense:
    """Sense data from "key/asc/ascq" in hex."""
    key, asc, ascq = bytes.fromhex(text.replace("/", ""))
    return Sense(key, asc << 8 | ascq, deferred=deferred)


BUSY = Answer(Status.BUSY)
RESET = check_condition("06/29/00")
CAPACITY_CHANGED = check_condition("06/2A/09")


class FaultyLun:
    """A logical unit and a target of which it is LUN 0.

    ``script`` holds answers by operation code; None among them means the disk's own. While
    ``is_held`` is set, commands wait in ``held`` for ``release``.
    """

    def __init__(self, vdisk: Vdisk | None = None) -> None:
        self.vdisk = vdisk or FaultyVdisk()
        self.script: dict[int, Iterator[Answer | None]] = {}
        # The operation codes of all commands that came through.
        self.log: list[int] = []
        self.is_held = False
        self.held: deque[Callable[[], None]] = deque()
        self.unit = LogicalUnit(self.vdisk, [self._scripted(row) for row in DISK_COMMANDS])
        self.target = Target("nbd", "disk", 1)
        self.target.add_lun(0, LunEntry(self.unit))
        self.target.is_enabled = True

    def answer(self, opcode: int, answers: Iterable[Answer | None]) -> None:
        """Script the next commands with this operation code."""
        self.script[opcode] = iter(answers)

    def count(self, opcode: int) -> int:
        """How often a command has come through."""
        return self.log.count(opcode)

    def release(self) -> None:
        """Perform the oldest held command."""
        self.held.popleft()()

    def release_all(self) -> None:
        """Perform held commands until there are none, not even new ones."""
        while self.held:
            self.release()

    def _scripted(self, row: CommandRow) -> CommandRow:
        def bind(unit: LogicalUnit) -> Execute:
            execute = row.bind(unit)

            def perform(command: Command) -> None:
                self.log.append(row.opcode)
                answer = next(self.script.get(row.opcode, iter(())), None)
                if answer is None:
                    _execute(execute, command)
                else:
                    command.data_in_length = 0
                    command.complete(answer.status, answer.sense)

            def begin(command: Command) -> None:
                if self.is_held:
                    self.held.append(lambda: perform(command))
                else:
                    perform(command)

            return begin

        return replace(row, bind=bind)


def _execute(function: Execute, command: Command) -> None:
    # A held command is performed outside of the nexus, which does the same for others.
    try:
        function(command)
    except CheckCondition as failure:
        command.check_condition(failure.sense)


class ManualClock:
    """A ``lun_client.Clock`` that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        # The delays that were asked for, in order.
        self.delays_s: list[float] = []
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        """See ``Clock.time``."""
        return self.now_s

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """See ``Clock.call_later``."""
        self.delays_s.append(delay)
        self._due.append((self.now_s + delay, callback))
        return None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._due

    def go_on(self) -> None:
        """Go to the earliest call that is due, and make it."""
        first = min(range(len(self._due)), key=lambda index: self._due[index][0])
        when_s, callback = self._due.pop(first)
        self.now_s = max(self.now_s, when_s)
        callback()

    def run(self) -> None:
        """Make all calls, also those that the calls ask for."""
        while self._due:
            self.go_on()
