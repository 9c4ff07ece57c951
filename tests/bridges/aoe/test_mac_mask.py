# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the mask list's rules."""

from __future__ import annotations

import pytest

from bridges.aoe.mac_mask import MaskAnswer, capacity_for, edit
from bridges.aoe.state import TargetState
from bridges.aoe.wire import MaskArgument, MaskError

_A, _B, _C = (bytes((2, 0, 0, 0, 0, number)) for number in (1, 2, 3))
_NOTHING, _ADD, _DELETE = 0, 1, 2


@pytest.mark.parametrize(
    ("before", "directives", "answer", "after"),
    [
        ((), [], (0, 0), ()),
        ((), [(_ADD, _A)], (0, 0), (_A,)),
        ((_A,), [(_ADD, _A)], (0, 0), (_A,)),
        ((_A,), [(_DELETE, _A)], (0, 0), ()),
        ((_A,), [(_DELETE, _B)], (0, 0), (_A,)),
        ((), [(_ADD, _A), (_ADD, _B), (_DELETE, _A)], (0, 0), (_B,)),
        ((_A,), [(_NOTHING, _B)], (0, 0), (_A,)),
        # Up to the first bad one, and that one's index.
        ((_A,), [(_ADD, _B), (3, _C), (_DELETE, _A)], (2, 1), (_A, _B)),
        ((_A,), [(255, _A)], (2, 0), (_A,)),
        ((_A,), [(_ADD, _A), (_ADD, _B), (_ADD, _C)], (3, 2), (_A, _B)),
        # There is room again after a delete.
        ((_A, _B), [(_DELETE, _A), (_ADD, _C)], (0, 0), (_B, _C)),
        # A list from a time of larger frames can still be made shorter.
        ((_A, _B, _C), [(_DELETE, _A), (_ADD, _A)], (3, 1), (_B, _C)),
    ],
)
def test_edit(
    before: tuple[bytes, ...],
    directives: list[tuple[int, bytes]],
    answer: tuple[int, int],
    after: tuple[bytes, ...],
) -> None:
    argument = MaskArgument(1, 0, len(directives), tuple(directives))
    state = TargetState(b"name", before, (_C,))
    expected = MaskAnswer(MaskError(answer[0]), answer[1]), TargetState(b"name", after, (_C,))
    assert edit(argument, 2, state) == expected


@pytest.mark.parametrize(
    ("mtu", "capacity"), [(1500, 184), (548, 65), (2067, 254), (2068, 255), (9000, 255), (0, 0)]
)
def test_a_list_fits_into_its_reply(mtu: int, capacity: int) -> None:
    assert capacity_for(mtu) == capacity
