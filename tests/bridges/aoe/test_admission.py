# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is heard and who may use the disk, by all three lists."""

from __future__ import annotations

from bridges.aoe.acl import AccessList
from bridges.aoe.admission import Admission
from bridges.aoe.state import TargetState

_A, _B, _C = (bytes((2, 0, 0, 0, 0, number)) for number in (1, 2, 3))
_EVERYBODY = b"\xff" * 6


def _heard(admission: Admission) -> list[bytes]:
    return [mac for mac in (_A, _B, _C) if admission.hears(mac)]


def test_without_lists_everybody_is_heard_and_nobody_fenced() -> None:
    admission = Admission(AccessList(), TargetState())
    assert _heard(admission) == [_A, _B, _C]
    assert not admission.fences(_A)
    assert admission.audience() is None


def test_a_mask_list_shuts_out_the_others() -> None:
    admission = Admission(AccessList(), TargetState(mask_list=(_B, _A)))
    assert _heard(admission) == [_A, _B]
    assert admission.audience() == (_B, _A)


def test_the_mask_list_opens_nothing_that_the_access_list_shuts() -> None:
    access = AccessList(frozenset((_A, _B)), frozenset((_B,)))
    admission = Admission(access, TargetState())
    assert _heard(admission) == [_A]
    assert admission.audience() == (_A,)
    admission.take(TargetState(mask_list=(_A, _B, _C)))
    assert _heard(admission) == [_A]
    assert admission.audience() == (_A,)
    admission.take(TargetState(mask_list=(_C,)))
    assert _heard(admission) == []
    assert admission.audience() == ()


def test_where_all_who_are_allowed_are_denied_nobody_is_told() -> None:
    admission = Admission(AccessList(frozenset((_A,)), frozenset((_A,))), TargetState())
    assert admission.audience() == ()


def test_who_is_denied_hears_a_broadcast_and_gets_no_answer() -> None:
    admission = Admission(AccessList(deny=frozenset((_A,))), TargetState())
    assert admission.audience() is None
    assert _heard(admission) == [_B, _C]


def test_a_reserve_list_fences_the_others_off_but_hears_them() -> None:
    admission = Admission(AccessList(), TargetState(reserve_list=(_A,)))
    assert [admission.fences(mac) for mac in (_A, _B)] == [False, True]
    assert _heard(admission) == [_A, _B, _C]
    admission.take(TargetState())
    assert not admission.fences(_B)
