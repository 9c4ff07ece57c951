# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock that keeps commands of a logical unit apart: by blocks, and by order in a task set.

SBC-4 5.3 wants COMPARE AND WRITE done as one uninterrupted series of actions, and SAM-5 8 wants
ORDERED commands to run between those before and those after them. While a command of either kind
waits or runs, the unit's dispatch tables lead all others through ``admit``; at all other times they
do not know of the lock. One that nothing stands in the way of, and that ends at once, leaves the
tables alone: on the one thread that a device has, nothing can come between.

Whoever has to wait waits for commands that came before it and for no others, so there is no
circle of waiting. Parts of a command that began already (of EXTENDED COPY, SANITIZE) would come too
late for that: what waits may wait for the command they are part of. They wait for what has begun,
and let what has not wait for them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from itertools import takewhile
from types import MappingProxyType
from typing import Final

from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.opcodes import Opcode, opcode_text
from scsi_backend.t10.sense import INTERNAL_TARGET_FAILURE
from scsi_backend.t10.status import Status

_log = logging.getLogger(__name__)

# The (lba, length_blocks) that a CDB reads or writes.
Blocks = tuple[int, int]
BlocksOf = Callable[[bytes], Blocks]
_NO_BLOCKS: Final[Blocks] = (0, 0)

# As SCST: these are HEAD OF QUEUE whatever they say, so that a loaded device never looks dead
# (SAM-5 8.6.2 lets a device server do so). They last for no time that others could notice.
NEVER_WAIT: Final = frozenset(
    {
        Opcode.TEST_UNIT_READY,
        Opcode.REQUEST_SENSE,
        Opcode.INQUIRY,
        Opcode.READ_CAPACITY_10,
        Opcode.REPORT_LUNS,
    }
)


def whole_medium(cdb: bytes) -> Blocks:
    """The blocks of a command that may touch any."""
    return 0, 1 << 64


def overlaps(one: Blocks, other: Blocks) -> bool:
    """Whether two ranges have a block in common."""
    start = max(one[0], other[0])
    return start < min(one[0] + one[1], other[0] + other[1])


def _covers(one: Blocks, other: Blocks) -> bool:
    return one[0] <= other[0] and other[0] + other[1] <= one[0] + one[1]


class _Rank(Enum):
    """How a command stands in its task set."""

    SIMPLE = auto()
    ORDERED = auto()
    HEAD_OF_QUEUE = auto()
    # Of a command that has begun: it has no place of its own.
    PART = auto()


_RANKS: Mapping[TaskAttribute, _Rank] = MappingProxyType(
    {attribute: _Rank[attribute.name] for attribute in TaskAttribute}
)
_RANKED: Final = frozenset({_Rank.ORDERED, _Rank.HEAD_OF_QUEUE})


@dataclass(slots=True, eq=False)
class _Claim:
    """A command whose end somebody waits for, or will; it has its owner's ``on_done``.

    ``tasks`` is its task set. ``waiter`` is there while it has not begun.
    """

    blocks: Blocks
    tasks: object
    rank: _Rank
    is_atomic: bool
    on_done: Callable[[Command], None]
    waiters: list[_Waiter] = field(default_factory=list)
    waiter: _Waiter | None = None
    is_finished: bool = False

    @property
    def is_exclusive(self) -> bool:
        """Whether commands that are neither atomic nor ordered may have to wait for it."""
        return self.is_atomic or self.rank in _RANKED


@dataclass(slots=True, eq=False)
class _Waiter:
    """A command that has not begun, and how many others must end before."""

    command: Command
    claim: _Claim
    execute: Execute
    blockers: int = 0


class RangeLock:
    """Owns what is known of one logical unit's exclusive commands and of those that wait.

    ``blocks_of`` has the opcodes that read or write blocks. ``outstanding`` gives the unit's
    commands that did not end at once, waiting ones included. ``engage`` is called when
    ``is_engaged`` has changed. ``task_set_of`` tells to which task set a command belongs.
    """

    def __init__(
        self,
        blocks_of: Mapping[int, BlocksOf],
        outstanding: Callable[[], Iterable[Command]],
        engage: Callable[[], None],
        task_set_of: Callable[[Command], object],
    ) -> None:
        self.blocks_of = blocks_of
        self._outstanding = outstanding
        self._engage = engage
        self._task_set_of = task_set_of
        # In the order of their arrival, both.
        self._claims: dict[Command, _Claim] = {}
        self._exclusive: dict[_Claim, None] = {}
        # How many of these are ORDERED or HEAD OF QUEUE.
        self._ranked = 0
        self._announced: dict[Command, _Rank] = {}
        self._orders_all = False
        self._ready: deque[_Waiter] = deque()
        self._is_starting = False

    @property
    def is_engaged(self) -> bool:
        """Whether the tables are to lead commands through ``admit``."""
        return self._orders_all or bool(self._exclusive)

    @property
    def orders_all(self) -> bool:
        """Whether every command is ORDERED, as QUEUE ALGORITHM MODIFIER 0h asks (as SCST)."""
        return self._orders_all

    @orders_all.setter
    def orders_all(self, orders_all: bool) -> None:
        if orders_all != self._orders_all:
            self._orders_all = orders_all
            self._engage()

    def is_waiting(self, command: Command) -> bool:
        """Whether a command has not begun because it waits for others."""
        claim = self._claims.get(command)
        return claim is not None and claim.waiter is not None

    @contextmanager
    def with_attribute(self, command: Command, attribute: TaskAttribute) -> Iterator[None]:
        """Have a command that is submitted meanwhile stand in its task set as it asks to."""
        yield from self._announce(command, _RANKS[attribute])

    @contextmanager
    def as_part(self, command: Command) -> Iterator[None]:
        """Have a command that is submitted meanwhile be part of one that has begun."""
        yield from self._announce(command, _Rank.PART)

    def _announce(self, command: Command, rank: _Rank) -> Iterator[None]:
        self._announced[command] = rank
        try:
            yield
        finally:
            self._announced.pop(command, None)

    def _rank(self, command: Command) -> _Rank:
        default = _Rank.ORDERED if self._orders_all else _Rank.SIMPLE
        return self._announced.pop(command, default) if self._announced else default

    def run_atomic(self, execute: Execute, command: Command) -> None:
        """Execute a command once no other that overlaps it is under way, and keep others out."""
        self._run(execute, command, self._new_claim(command, is_atomic=True))

    def run_alone(self, execute: Execute, command: Command, whole: Command) -> None:
        """As ``run_atomic`` a command that is all there is to ``whole``, and may touch any block.

        It waits for whatever came before that one.
        """
        self._announced[command] = _Rank.PART
        claim = self._new_claim(command, is_atomic=True)
        claim.blocks = whole_medium(command.cdb)
        self._run(execute, command, claim, self._before(whole))

    def admit(self, execute: Execute, command: Command) -> None:
        """Execute a command once all that it has to wait for have ended."""
        self._run(execute, command, self._new_claim(command, is_atomic=False))

    def _new_claim(self, command: Command, *, is_atomic: bool) -> _Claim:
        tasks = self._task_set_of(command)
        rank = self._rank(command)
        return _Claim(self._blocks(command), tasks, rank, is_atomic, command.on_done)

    def _run(
        self,
        execute: Execute,
        command: Command,
        claim: _Claim,
        earlier: Set[_Claim] = frozenset(),
    ) -> None:
        if claim.rank is _Rank.PART:
            blockers, passed = self._in_the_way_of_part(claim, earlier)
        else:
            blockers, passed = self._in_the_way(claim), []
        if not (blockers or passed or claim.is_exclusive):
            execute(command)
            return
        self._hold(command, claim)
        for waiter in passed:
            _let_wait(waiter, claim)
        if blockers:
            waiter = claim.waiter = _Waiter(command, claim, execute)
            for blocker in blockers:
                _let_wait(waiter, blocker)
        if claim.is_exclusive and (blockers or passed):
            self._keep_out(claim)
        if not blockers:
            execute(command)
            # Not the command's status: its owner may have sent it once more.
            if claim.is_exclusive and not claim.is_finished:
                self._keep_out(claim)

    def _in_the_way(self, claim: _Claim) -> list[_Claim]:
        """Those that came before and that a command has to wait for.

        An atomic command around all of its blocks waits for all others that overlap them, or they
        came later and wait for it; so nobody need wait for the others as well, and a thousand
        commands for one block wait each for the one before. The same is true of an ORDERED one.
        """
        by_blocks = claim.blocks != _NO_BLOCKS
        by_order = claim.rank is _Rank.ORDERED or (claim.rank is _Rank.SIMPLE and self._ranked > 0)
        others = self._claims.values() if claim.is_exclusive else self._exclusive
        found: list[_Claim] = []
        for other in reversed(others):
            if not (by_blocks or by_order):
                return found
            meets = by_blocks and _meets(claim, other)
            follows = by_order and _follows(claim, other)
            if meets or follows:
                found.append(other)
            if meets and other.is_atomic and _covers(other.blocks, claim.blocks):
                by_blocks = False
            if follows and other.rank is _Rank.ORDERED:
                by_order = False
        return found + self._claim_outstanding(claim, by_blocks, by_order)

    def _claim_outstanding(self, claim: _Claim, by_blocks: bool, by_order: bool) -> list[_Claim]:
        """Claim those in the way that began when nobody waited for their end."""
        by_blocks = by_blocks and claim.is_atomic
        by_order = by_order and claim.rank is _Rank.ORDERED
        found: list[_Claim] = []
        if not (by_blocks or by_order):
            return found
        for command in self._outstanding():
            if command in self._claims:
                continue
            tasks, blocks = self._task_set_of(command), self._blocks(command)
            other = _Claim(blocks, tasks, _Rank.SIMPLE, False, command.on_done)
            if (by_blocks and _meets(claim, other)) or (by_order and _follows(claim, other)):
                self._hold(command, other)
                found.append(other)
        return found

    def _before(self, command: Command) -> Set[_Claim]:
        """Those that came before a command; all, if nobody waits for it."""
        own = self._claims.get(command)
        return frozenset(takewhile(lambda claim: claim is not own, self._claims.values()))

    def _in_the_way_of_part(
        self, claim: _Claim, earlier: Set[_Claim]
    ) -> tuple[list[_Claim], list[_Waiter]]:
        """Those that a part waits for, ``earlier`` ones too, and those that wait for it."""
        blockers: list[_Claim] = []
        passed: list[_Waiter] = []
        for other in self._claims.values() if claim.is_atomic else self._exclusive:
            if not _meets(claim, other):
                continue
            if other.waiter is None or other in earlier:
                blockers.append(other)
            else:
                passed.append(other.waiter)
        blockers += self._claim_outstanding(claim, by_blocks=True, by_order=False)
        return blockers, passed

    def _blocks(self, command: Command) -> Blocks:
        blocks_of = self.blocks_of.get(command.cdb[0])
        return _NO_BLOCKS if blocks_of is None else blocks_of(command.cdb)

    def _hold(self, command: Command, claim: _Claim) -> None:
        """Hear of a command's end before its owner does."""
        self._claims[command] = claim
        command.on_done = partial(self._finished, claim)

    def _keep_out(self, claim: _Claim) -> None:
        if claim in self._exclusive:
            return
        was_engaged = self.is_engaged
        self._exclusive[claim] = None
        self._ranked += claim.rank in _RANKED
        if not was_engaged:
            self._engage()

    def _let_in(self, claim: _Claim) -> None:
        if claim not in self._exclusive:
            return
        del self._exclusive[claim]
        self._ranked -= claim.rank in _RANKED
        if not self.is_engaged:
            self._engage()

    def _finished(self, claim: _Claim, command: Command) -> None:
        claim.is_finished = True
        del self._claims[command]
        self._let_in(claim)
        for waiter in claim.waiters:
            waiter.blockers -= 1
            if not waiter.blockers:
                self._ready.append(waiter)
        # The owner may send commands at once, this one among them, so nothing here may be half
        # done. Those that waited are outstanding until they end, so nothing atomic passes them.
        command.on_done = claim.on_done
        try:
            claim.on_done(command)
        finally:
            self._start_ready()

    def _start_ready(self) -> None:
        """Begin what need not wait any more; a loop, because each may end at once."""
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._ready:
                waiter = self._ready.popleft()
                # A part that has begun since may keep it waiting, and with its end it comes again.
                if waiter.claim.waiter is waiter and not waiter.blockers:
                    self._start(waiter)
        finally:
            self._is_starting = False

    def _start(self, waiter: _Waiter) -> None:
        try:
            _execute(waiter)
        except Exception:
            # The other commands must still be begun.
            _log.exception("completion callback failed")


def _meets(claim: _Claim, other: _Claim) -> bool:
    return (claim.is_atomic or other.is_atomic) and overlaps(claim.blocks, other.blocks)


def _follows(claim: _Claim, other: _Claim) -> bool:
    if claim.tasks is not other.tasks or other.rank is _Rank.PART:
        return False
    return claim.rank is _Rank.ORDERED or other.rank in _RANKED


def _let_wait(waiter: _Waiter, blocker: _Claim) -> None:
    blocker.waiters.append(waiter)
    waiter.blockers += 1


def _execute(waiter: _Waiter) -> None:
    """What ``ItlNexus.submit`` does for a command that need not wait."""
    command = waiter.command
    waiter.claim.waiter = None
    if command in command.nexus.aborted:
        command.complete(Status.TASK_ABORTED)
        return
    try:
        waiter.execute(command)
    except CheckCondition as failure:
        command.check_condition(failure.sense)
    except Exception:
        # An error in on_done is the submitter's own.
        if waiter.claim.is_finished:
            raise
        _log.exception("%s failed", opcode_text(command.cdb))
        command.check_condition(INTERNAL_TARGET_FAILURE)
