# SPDX-License-Identifier: GPL-2.0-or-later
"""Aborting: which commands are marked, who hears of it, and when all of it has ended."""

from __future__ import annotations

import pytest

from scsi_backend.servers.command import Command
from scsi_backend.servers.task_abort import Countdown, abort, when_ended
from scsi_backend.t10 import sense
from scsi_backend.t10.sense import Sense
from tests.scsi_backend.lone_nexus import LoneNexus


class Listener(LoneNexus):
    """A nexus with commands under way, which records unit attentions."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.heard: list[Sense] = []
        # Those whose owner has heard of their end.
        self.ended: list[Command] = []
        self.commands = [Command(bytes(16), None, None, self.ended.append) for _ in range(count)]
        for command in self.commands:
            command.nexus = self
            command.is_deferred = True
        self.outstanding |= set(self.commands)

    def establish_unit_attention(self, sense: Sense) -> None:
        """See ``AbortedNexus``."""
        self.heard.append(sense)


def test_all_outstanding_commands_are_marked() -> None:
    one, other = Listener(2), Listener(1)
    aborted = abort([one, other], one, tas=False)
    assert set(aborted) == {*one.commands, *other.commands}
    assert (one.aborted, other.aborted) == (set(one.commands), set(other.commands))


def test_command_that_aborts_is_spared() -> None:
    one = Listener(2)
    first, second = one.commands
    assert abort([one], one, tas=False, but=first) == [second]
    assert one.aborted == {second}


@pytest.mark.parametrize(("tas", "heard"), [(False, [sense.COMMANDS_CLEARED]), (True, [])])
def test_others_are_told_where_they_get_no_status(tas: bool, heard: list[Sense]) -> None:
    one, other, idle = Listener(1), Listener(1), Listener(0)
    abort([one, other, idle], one, tas=tas)
    assert (one.heard, other.heard, idle.heard) == ([], heard, [])


def test_end_is_told_after_the_owners_have_heard() -> None:
    one = Listener(2)
    seen: list[int] = []
    when_ended(one.commands, lambda: seen.append(len(one.ended)))
    for command in one.commands:
        assert seen == []
        command.complete()
    assert seen == [2]


def test_nothing_has_ended_already() -> None:
    seen: list[bool] = []
    when_ended([], lambda: seen.append(True))
    assert seen == [True]


def test_countdown_waits_for_the_announcement_of_all() -> None:
    seen: list[bool] = []
    countdown = Countdown(lambda: seen.append(True))
    countdown.expect()()
    assert seen == []
    countdown.begun()
    assert seen == [True]
