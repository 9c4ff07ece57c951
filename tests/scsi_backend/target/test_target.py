# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets: LUN maps and who may log in."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import TargetPort
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target, TargetError
from tests.scsi_backend.fakes import FaultyVdisk


@pytest.fixture
def target() -> Target:
    return Target("nbd", "target", 1)


@pytest.fixture
def entry() -> LunEntry:
    return LunEntry(disk(FaultyVdisk()))


def test_new_target_is_disabled_and_empty(target: Target) -> None:
    assert (target.is_enabled, dict(target.luns), target.sessions) == (False, {}, ())


@pytest.mark.parametrize("lun", [0, 255, 256, 16383])
def test_lun_of_14_bits_can_be_mapped(target: Target, entry: LunEntry, lun: int) -> None:
    target.add_lun(lun, entry)
    assert dict(target.luns) == {lun: entry}


def test_unit_knows_through_which_ports_it_is_reached(entry: LunEntry) -> None:
    first, second = Target("nbd", "target", 1), Target("aoe", "e1.1", 2)
    for target, luns in ((second, (0,)), (first, (0, 1))):
        for lun in luns:
            target.add_lun(lun, entry)
    assert list(entry.unit.ports) == [TargetPort(1, "nbd/target"), TargetPort(2, "aoe/e1.1")]


@pytest.mark.parametrize("lun", [-1, 16384])
def test_any_other_lun_is_refused(target: Target, entry: LunEntry, lun: int) -> None:
    with pytest.raises(TargetError, match=f"LUN {lun}: expected 0 to 16383"):
        target.add_lun(lun, entry)


def test_lun_is_mapped_once(target: Target, entry: LunEntry) -> None:
    target.add_lun(3, entry)
    with pytest.raises(TargetError, match="LUN 3 is mapped already"):
        target.add_lun(3, entry)


def test_lun_map_cannot_be_changed_from_outside(target: Target, entry: LunEntry) -> None:
    with pytest.raises(TypeError):
        target.luns[0] = entry  # type: ignore[index]


def test_nobody_can_log_in_while_it_is_disabled(target: Target) -> None:
    with pytest.raises(TargetError, match="target target is not enabled"):
        target.open_session("initiator")
    assert target.sessions == ()


def test_sessions_are_listed_oldest_first(target: Target) -> None:
    target.is_enabled = True
    opened = [target.open_session(name) for name in ("b", "a", "c")]
    assert target.sessions == tuple(opened)
    opened[1].close()
    assert [session.initiator_name for session in target.sessions] == ["b", "c"]


def test_lun_mapped_later_is_seen_by_later_sessions_only(target: Target, entry: LunEntry) -> None:
    target.is_enabled = True
    before = target.open_session("before")
    target.add_lun(0, entry)
    assert (before.reported_luns(), target.open_session("after").reported_luns()) == ((), (0,))
