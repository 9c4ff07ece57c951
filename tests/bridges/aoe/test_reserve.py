# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the reserve list's rules."""

from __future__ import annotations

import pytest

from bridges.aoe.reserve import capacity_for, reserve
from bridges.aoe.state import TargetState
from bridges.aoe.wire import ReserveArgument

_A, _B, _C = (bytes((2, 0, 0, 0, 0, number)) for number in (1, 2, 3))
_SET, _FORCE = 1, 2
_RESERVED = 6


@pytest.mark.parametrize(
    ("before", "command", "macs", "error", "after"),
    [
        ((), _SET, (_A,), 0, (_A,)),
        ((), _SET, (_B, _C), 0, (_B, _C)),
        ((), _SET, (), 0, ()),
        ((_A,), _SET, (_A, _B), 0, (_A, _B)),
        ((_A, _B), _SET, (_C,), 0, (_C,)),
        ((_A,), _SET, (), 0, ()),
        ((_B,), _SET, (_A,), _RESERVED, (_B,)),
        ((_B,), _SET, (), _RESERVED, (_B,)),
        ((_B,), _FORCE, (_A,), 0, (_A,)),
        ((_B,), _FORCE, (), 0, ()),
    ],
)
def test_request_from_the_first_host(
    before: tuple[bytes, ...],
    command: int,
    macs: tuple[bytes, ...],
    error: int,
    after: tuple[bytes, ...],
) -> None:
    state = TargetState(b"name", (_A,), before)
    argument = ReserveArgument(command, len(macs), macs)
    assert reserve(argument, _A, state) == (error, TargetState(b"name", (_A,), after))


@pytest.mark.parametrize(("mtu", "capacity"), [(1500, 245), (548, 87), (1556, 255), (0, 0)])
def test_a_list_fits_into_its_reply(mtu: int, capacity: int) -> None:
    assert capacity_for(mtu) == capacity
