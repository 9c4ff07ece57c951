# SPDX-License-Identifier: GPL-2.0-or-later
"""One at a time, the others in their order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scsi_backend.servers.turn import Turn, take_all


def test_the_others_wait_in_their_order() -> None:
    turn, begun = Turn(), list[int]()

    def begin(number: int, result: int) -> None:
        assert result == 0
        begun.append(number)

    for number in range(3):
        turn.take(partial(begin, number))
    assert begun == [0]
    turn.leave()
    assert begun == [0, 1]
    turn.leave()
    turn.leave()
    assert begun == [0, 1, 2]
    turn.take(partial(begin, 3))
    assert begun[-1] == 3


def test_any_number_may_leave_at_once() -> None:
    turn, begun = Turn(), list[int]()

    def begin(result: int) -> None:
        begun.append(result)
        turn.leave()

    turn.take(begun.append)
    for _ in range(10_000):
        turn.take(begin)
    assert len(begun) == 1
    turn.leave()
    assert len(begun) == 10_001


def test_all_turns_are_had_at_once_and_given_up_together() -> None:
    turns = Turn(), Turn()
    leaves: list[Callable[[], None]] = []
    turns[1].take(lambda result: None)
    take_all(turns, leaves.append)
    take_all((), leaves.append)
    # Whoever asks for none has them.
    assert len(leaves) == 1
    turns[1].leave()
    assert len(leaves) == 2
    take_all(turns, leaves.append)
    assert len(leaves) == 2
    leaves[1]()
    assert len(leaves) == 3
