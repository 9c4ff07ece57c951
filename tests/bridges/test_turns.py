# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns at blocks: who begins when."""

from __future__ import annotations

import pytest

from bridges.turns import Turn, Turns


class Crowd:
    """Requests that note when they begin and end when they are told to."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.running: dict[str, Turn] = {}
        self.begun: list[str] = []

    def enter(self, name: str, *blocks: int) -> None:
        def begin(turn: Turn) -> None:
            self.begun.append(name)
            self.running[name] = turn

        self.turns.enter(frozenset(blocks), begin)

    def end(self, name: str) -> None:
        self.turns.leave(self.running.pop(name))


def test_requests_for_one_block_run_one_after_the_other_in_their_order() -> None:
    crowd = Crowd()
    for name in "abc":
        crowd.enter(name, 7)
    assert crowd.begun == ["a"]
    crowd.end("a")
    assert crowd.begun == ["a", "b"]
    crowd.end("b")
    crowd.end("c")
    assert crowd.begun == ["a", "b", "c"]


def test_requests_for_different_blocks_run_together() -> None:
    crowd = Crowd()
    crowd.enter("a", 1)
    crowd.enter("b", 2)
    assert crowd.begun == ["a", "b"]


def test_request_for_two_blocks_waits_for_both() -> None:
    crowd = Crowd()
    crowd.enter("a", 1)
    crowd.enter("b", 2)
    crowd.enter("both", 1, 2)
    crowd.enter("c", 1)
    crowd.end("a")
    assert crowd.begun == ["a", "b"]
    crowd.end("b")
    assert crowd.begun == ["a", "b", "both"]
    crowd.end("both")
    assert crowd.begun == ["a", "b", "both", "c"]


@pytest.mark.parametrize("ends_early", [True, False])
def test_crossing_requests_do_not_wait_for_each_other(ends_early: bool) -> None:
    crowd = Crowd()
    crowd.enter("a", 1, 2)
    if ends_early:
        crowd.end("a")
    crowd.enter("b", 2, 1)
    if not ends_early:
        crowd.end("a")
    assert crowd.begun == ["a", "b"]


def test_only_so_many_run_at_once() -> None:
    crowd = Crowd()
    for number in range(70):
        crowd.enter(str(number), number)
    assert len(crowd.begun) == 64
    for number in range(6):
        crowd.end(str(number))
    assert crowd.begun == [str(number) for number in range(70)]


def test_requests_that_end_at_once_do_not_pile_up_on_the_stack() -> None:
    turns = Turns()
    first: list[Turn] = []
    ended = 0

    def at_once(turn: Turn) -> None:
        nonlocal ended
        ended += 1
        turns.leave(turn)

    turns.enter(frozenset({1}), first.append)
    for _ in range(10_000):
        turns.enter(frozenset({1}), at_once)
    turns.leave(first[0])
    assert ended == 10_000


def test_request_that_breaks_down_keeps_nobody_from_its_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crowd = Crowd()
    crowd.enter("a", 1)

    def break_down(turn: Turn) -> None:
        crowd.turns.leave(turn)
        raise ZeroDivisionError

    crowd.turns.enter(frozenset({1}), break_down)
    crowd.enter("b", 1)
    crowd.end("a")
    assert crowd.begun == ["a", "b"]
    assert [record.message for record in caplog.records] == ["completion callback failed"]


def test_request_that_breaks_down_at_once_has_had_its_turn() -> None:
    crowd = Crowd()
    broken: list[Turn] = []

    def break_down(turn: Turn) -> None:
        broken.append(turn)
        raise ZeroDivisionError

    crowd.turns.enter(frozenset({1}), break_down)
    crowd.enter("a", 1)
    crowd.enter("b", 1)
    assert crowd.begun == ["a"]
    # Whatever it had begun may end later.
    crowd.turns.leave(broken[0])
    assert crowd.begun == ["a"]
    crowd.end("a")
    assert crowd.begun == ["a", "b"]
