# SPDX-License-Identifier: GPL-2.0-or-later
"""A change counts when it has been kept, and changes are made one after another."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

from bridges.aoe.state import MAX_WAITING_CHANGES, KeptState, TargetState


class _SlowDisk:
    """Keeps states when it is told to."""

    def __init__(self) -> None:
        self.pending: list[tuple[TargetState, Callable[[OSError | None], None]]] = []

    def save(self, state: TargetState, done: Callable[[OSError | None], None]) -> None:
        self.pending.append((state, done))

    def finish(self, error: OSError | None = None) -> TargetState:
        state, done = self.pending.pop(0)
        done(error)
        return state


def _append(letter: bytes) -> Callable[[TargetState], tuple[bytes, TargetState]]:
    """Answers with the string before, and appends to it."""
    return lambda state: (
        state.config_string,
        replace(state, config_string=state.config_string + letter),
    )


def test_in_memory_a_change_is_made_at_once() -> None:
    kept = KeptState()
    seen: list[object] = []
    kept.watch(lambda before, after: seen.append((before, after)))
    kept.change(_append(b"a"), seen.append)
    before, after = TargetState(), TargetState(b"a")
    assert seen == [(before, after), b""]
    assert kept.value == after


def test_all_who_watch_hear_of_a_change_until_they_have_heard_enough() -> None:
    kept = KeptState()
    heard: list[str] = []
    unwatch = kept.watch(lambda before, after: heard.append("a"))
    kept.watch(lambda before, after: heard.append("b"))
    kept.change(_append(b"a"), lambda answer: None)
    for _ in range(2):
        unwatch()
    kept.change(_append(b"b"), lambda answer: None)
    assert heard == ["a", "b", "b"]


def test_what_changes_nothing_is_not_kept() -> None:
    disk, answers = _SlowDisk(), list[object]()
    kept = KeptState(TargetState(b"x"), disk.save)
    kept.watch(lambda before, after: answers.append(b"changed"))
    kept.change(lambda state: (b"same", state), answers.append)
    assert (answers, disk.pending) == ([b"same"], [])


def test_nobody_sees_a_change_before_it_is_kept() -> None:
    disk, answers = _SlowDisk(), list[object]()
    kept = KeptState(None, disk.save)
    kept.change(_append(b"a"), answers.append)
    assert (kept.value, answers) == (TargetState(), [])
    assert disk.finish() == TargetState(b"a")
    assert (kept.value, answers) == (TargetState(b"a"), [b""])


def test_changes_wait_for_one_another_and_begin_with_what_is_there_then() -> None:
    disk, answers = _SlowDisk(), list[object]()
    kept = KeptState(None, disk.save)
    for letter in (b"a", b"b", b"c"):
        kept.change(_append(letter), answers.append)
    assert len(disk.pending) == 1
    assert [disk.finish(), disk.finish(), disk.finish()] == [
        TargetState(b"a"),
        TargetState(b"ab"),
        TargetState(b"abc"),
    ]
    assert answers == [b"", b"a", b"ab"]


def test_a_change_that_could_not_be_kept_has_not_happened() -> None:
    disk, answers = _SlowDisk(), list[object]()
    kept = KeptState(TargetState(b"x"), disk.save)
    kept.watch(lambda before, after: answers.append("changed"))
    kept.change(_append(b"a"), answers.append)
    kept.change(_append(b"b"), answers.append)
    error = OSError(errno.ENOSPC, "full")
    disk.finish(error)
    assert (kept.value, answers) == (TargetState(b"x"), [error])
    disk.finish()
    assert (kept.value, answers) == (TargetState(b"xb"), [error, "changed", b"x"])


def test_only_so_many_changes_wait() -> None:
    disk = _SlowDisk()
    kept = KeptState(None, disk.save)
    count = 0
    while not kept.is_full:
        kept.change(_append(b"a"), lambda answer: None)
        count += 1
    # One is being kept, and the others wait.
    assert count == 1 + MAX_WAITING_CHANGES
    disk.finish()
    assert not kept.is_full


def test_a_request_may_be_made_while_another_is_answered() -> None:
    kept = KeptState()
    answers: list[object] = []
    kept.change(_append(b"a"), lambda answer: kept.change(_append(b"b"), answers.append))
    assert (kept.value, answers) == (TargetState(b"ab"), [b"a"])
