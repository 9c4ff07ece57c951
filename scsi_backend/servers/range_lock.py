# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock that makes a command atomic against all others that touch its blocks.

SBC-4 5.3 wants COMPARE AND WRITE done as one uninterrupted series of actions. While an atomic
command waits or runs, the unit's dispatch tables lead the commands that read or write blocks
through ``admit``; at all other times they do not know of the lock. An atomic command that nothing
stands in the way of, and that ends at once, leaves the tables alone: on the one thread that a
device has, nothing can come between.

Whoever has to wait waits for commands that came before it and for no others, so there is no
circle of waiting: an atomic command waits for all earlier ones that overlap it, and any other for
the earlier atomic ones.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from scsi_backend.servers.command import CheckCondition, Command, Execute
from scsi_backend.t10.opcodes import opcode_text
from scsi_backend.t10.sense import INTERNAL_TARGET_FAILURE
from scsi_backend.t10.status import Status

_log = logging.getLogger(__name__)

# The (lba, length_blocks) that a CDB reads or writes.
Blocks = tuple[int, int]
BlocksOf = Callable[[bytes], Blocks]
_NO_BLOCKS: Final[Blocks] = (0, 0)


def whole_medium(cdb: bytes) -> Blocks:
    """The blocks of a command that may touch any."""
    return 0, 1 << 64


def overlaps(one: Blocks, other: Blocks) -> bool:
    """Whether two ranges have a block in common."""
    start = max(one[0], other[0])
    return start < min(one[0] + one[1], other[0] + other[1])


def _covers(one: Blocks, other: Blocks) -> bool:
    return one[0] <= other[0] and other[0] + other[1] <= one[0] + one[1]


@dataclass(slots=True, eq=False)
class _Claim:
    """A command whose end somebody waits for, or will; it has its owner's ``on_done``."""

    blocks: Blocks
    on_done: Callable[[Command], None]
    waiters: list[_Waiter] = field(default_factory=list)
    is_finished: bool = False
    # It waits for nobody, though others wait for it.
    is_ahead: bool = False


@dataclass(slots=True, eq=False)
class _Waiter:
    """A command that has not begun, and how many others must end before."""

    command: Command
    claim: _Claim
    execute: Execute
    blockers: int


class RangeLock:
    """Owns what is known of one logical unit's atomic commands and of those that wait.

    ``blocks_of`` has the opcodes that read or write blocks. ``outstanding`` gives the unit's
    commands that did not end at once, waiting ones included. ``engage`` is called with True before
    the first atomic command that other commands can meet, and with False after the last.
    """

    def __init__(
        self,
        blocks_of: Mapping[int, BlocksOf],
        outstanding: Callable[[], Iterable[Command]],
        engage: Callable[[bool], None],
    ) -> None:
        self.blocks_of = blocks_of
        self._outstanding = outstanding
        self._engage = engage
        self._claims: dict[Command, _Claim] = {}
        # In the order of their arrival.
        self._atomic: dict[_Claim, None] = {}
        self._ready: deque[_Waiter] = deque()
        self._is_starting = False

    def run_atomic(self, execute: Execute, command: Command) -> None:
        """Execute a command once no other that overlaps it is under way, and keep others out."""
        self._run(execute, command, self._blocks(command))

    def run_alone(self, execute: Execute, command: Command) -> None:
        """As ``run_atomic``, whatever blocks the CDB names: the command may touch any."""
        self._run(execute, command, whole_medium(command.cdb))

    def _run(self, execute: Execute, command: Command, blocks: Blocks) -> None:
        blockers, are_all = self._in_the_way(reversed(self._claims.values()), blocks)
        if not are_all:
            blockers += self._claim_outstanding(blocks)
        claim = self._claim(command, blocks)
        if blockers:
            self._keep_out(claim)
            self._wait(command, claim, execute, blockers)
            return
        execute(command)
        # Not the command's status: its owner may have sent it once more.
        if not claim.is_finished:
            self._keep_out(claim)

    def run_ahead(self, execute: Execute, command: Command) -> None:
        """Execute a command at once, and keep others out until it ends (HEAD OF QUEUE)."""
        claim = self._claim(command, self._blocks(command))
        claim.is_ahead = True
        execute(command)
        if not claim.is_finished:
            self._keep_out(claim)

    def admit(self, execute: Execute, command: Command) -> None:
        """Execute a command that is not atomic once all atomic ones are out of its way."""
        blocks = self._blocks(command)
        blockers, _ = self._in_the_way(reversed(self._atomic), blocks)
        if blockers:
            self._wait(command, self._claim(command, blocks), execute, blockers)
        else:
            execute(command)

    def _in_the_way(
        self, newest_first: Iterable[_Claim], blocks: Blocks
    ) -> tuple[list[_Claim], bool]:
        """Those to wait for, and whether one of them waits for whatever else there may be.

        An atomic command around all of the blocks does: whoever overlaps them either came before
        it, and it waits for that one, or later, and has a newer claim. So a thousand commands for
        one block wait each for the one before, and not each for all.
        """
        found = []
        for claim in newest_first:
            if overlaps(claim.blocks, blocks):
                found.append(claim)
                if not claim.is_ahead and claim in self._atomic and _covers(claim.blocks, blocks):
                    return found, True
        return found, False

    def _claim_outstanding(self, blocks: Blocks) -> list[_Claim]:
        """Claim the overlapping commands that began when nobody waited for their end."""
        found = []
        for other in self._outstanding():
            if other not in self._claims:
                blocks_of_other = self._blocks(other)
                if overlaps(blocks_of_other, blocks):
                    found.append(self._claim(other, blocks_of_other))
        return found

    def _blocks(self, command: Command) -> Blocks:
        blocks_of = self.blocks_of.get(command.cdb[0])
        return _NO_BLOCKS if blocks_of is None else blocks_of(command.cdb)

    def _claim(self, command: Command, blocks: Blocks) -> _Claim:
        """Hear of a command's end before its owner does."""
        claim = _Claim(blocks, command.on_done)
        self._claims[command] = claim
        command.on_done = partial(self._finished, claim)
        return claim

    def _keep_out(self, claim: _Claim) -> None:
        if not self._atomic:
            self._engage(True)
        self._atomic[claim] = None

    def _wait(
        self, command: Command, claim: _Claim, execute: Execute, blockers: list[_Claim]
    ) -> None:
        waiter = _Waiter(command, claim, execute, len(blockers))
        for blocker in blockers:
            blocker.waiters.append(waiter)

    def _finished(self, claim: _Claim, command: Command) -> None:
        claim.is_finished = True
        del self._claims[command]
        if claim in self._atomic:
            del self._atomic[claim]
            if not self._atomic:
                self._engage(False)
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
                self._start(self._ready.popleft())
        finally:
            self._is_starting = False

    def _start(self, waiter: _Waiter) -> None:
        try:
            _execute(waiter)
        except Exception:
            # The other commands must still be begun.
            _log.exception("completion callback failed")


def _execute(waiter: _Waiter) -> None:
    """What ``ItlNexus.submit`` does for a command that need not wait."""
    command = waiter.command
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
