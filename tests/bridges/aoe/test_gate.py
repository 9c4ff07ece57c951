# SPDX-License-Identifier: GPL-2.0-or-later
"""So many at once, the others in their order."""

from __future__ import annotations

from functools import partial

import pytest

from bridges.aoe.gate import MAX_COMMANDS, MAX_COMMANDS_OF_HOST, Gate
from bridges.aoe.port import RESUME_PENDING


def test_so_many_are_let_through_and_the_others_wait_in_their_order() -> None:
    gate, begun = Gate(2), list[int]()
    for number in range(5):
        gate.enter(partial(begun.append, number))
    assert begun == [0, 1]
    gate.leave()
    assert begun == [0, 1, 2]
    gate.leave()
    gate.leave()
    assert begun == [0, 1, 2, 3, 4]
    gate.leave()
    gate.leave()
    gate.enter(partial(begun.append, 5))
    assert begun[-1] == 5


def test_any_number_may_end_at_once() -> None:
    gate, begun = Gate(1), list[int]()

    def begin(number: int) -> None:
        begun.append(number)
        if number:
            gate.leave()

    for number in range(10_000):
        gate.enter(partial(begin, number))
    assert begun == [0]
    gate.leave()
    assert begun == list(range(10_000))


def test_one_that_raises_leaves_the_gate_working() -> None:
    gate, begun = Gate(2), list[int]()

    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        gate.enter(fail)
    gate.enter(partial(begun.append, 1))
    assert begun == [1]


def test_one_host_gets_only_a_part_of_what_there_is() -> None:
    gate = Gate(1)
    for _ in range(MAX_COMMANDS_OF_HOST):
        assert not gate.is_full_for("a")
        gate.arrive("a")
    assert gate.is_full_for("a")
    assert not gate.is_full_for("b")
    gate.depart("a")
    assert not gate.is_full_for("a")


def test_all_hosts_together_are_bounded_well_below_what_stops_a_port() -> None:
    gate = Gate(1)
    for host in range(MAX_COMMANDS):
        assert not gate.is_full_for(host)
        gate.arrive(host)
    assert gate.is_full_for("another")
    gate.depart(0)
    assert not gate.is_full_for("another")
    assert MAX_COMMANDS * 8 <= RESUME_PENDING
