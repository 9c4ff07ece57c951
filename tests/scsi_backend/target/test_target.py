# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets: LUN maps and who may log in."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import TargetPort
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
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


def test_nobody_can_log_in_where_nothing_is_mapped(target: Target) -> None:
    target.is_enabled = True
    with pytest.raises(TargetError, match="target target has no LUNs for initiator somebody"):
        target.open_session("somebody")


def test_sessions_are_listed_oldest_first(target: Target, entry: LunEntry) -> None:
    target.configure(luns={0: entry}, is_enabled=True)
    opened = [target.open_session(name) for name in ("b", "a", "c")]
    assert target.sessions == tuple(opened)
    opened[1].close()
    assert [session.initiator_name for session in target.sessions] == ["b", "c"]


def _group(name: str, entry: LunEntry, *patterns: str) -> InitiatorGroup:
    return InitiatorGroup(name, tuple(map(InitiatorPattern.parse, patterns)), {5: entry})


def test_first_group_that_matches_gives_the_luns(target: Target, entry: LunEntry) -> None:
    others = [LunEntry(disk(FaultyVdisk())) for _ in range(2)]
    groups = [_group("one", others[0], "a*", "10.0.0.0/8"), _group("two", others[1], "ab*")]
    target.configure(luns={0: entry}, groups=groups, is_enabled=True)
    assert list(target.groups) == ["one", "two"]
    assert target.luns_of("ab") == {5: others[0]}
    assert target.luns_of("tls:CN=x", IPv4Address("10.1.1.1")) == {5: others[0]}
    assert target.luns_of("b") == {0: entry}
    target.configure(groups=reversed(groups))
    assert target.luns_of("ab") == {5: others[1]}


def test_group_without_luns_keeps_its_initiators_out(target: Target, entry: LunEntry) -> None:
    group = InitiatorGroup("nobody", (InitiatorPattern.parse("a*"),), {})
    target.configure(luns={0: entry}, groups=[group], is_enabled=True)
    with pytest.raises(TargetError, match="no LUNs for initiator ab"):
        target.open_session("ab")
    assert target.open_session("b").reported_luns() == (0,)


def test_change_reaches_every_session_at_once(target: Target, entry: LunEntry) -> None:
    other = LunEntry(disk(FaultyVdisk()))
    target.configure(luns={0: entry}, is_enabled=True)
    first, second = target.open_session("first"), target.open_session("second")
    kept = second.nexuses[0]
    retired = target.configure(groups=[_group("group", other, "FIRST")])
    assert (first.reported_luns(), second.reported_luns()) == ((5,), (0,))
    assert second.nexuses[0] is kept
    assert [nexus.session for nexus in retired] == [first]


def test_nobody_has_luns_while_it_is_disabled(target: Target, entry: LunEntry) -> None:
    target.configure(luns={0: entry}, is_enabled=True)
    session = target.open_session("initiator")
    target.is_enabled = False
    assert session.reported_luns() == ()
    target.is_enabled = True
    assert session.reported_luns() == (0,)


def test_change_that_cannot_be_leaves_all_as_it_was(target: Target, entry: LunEntry) -> None:
    target.configure(luns={0: entry})
    with pytest.raises(TargetError, match="group two exists already"):
        target.configure(luns={}, groups=[_group("two", entry), _group("two", entry)])
    with pytest.raises(TargetError, match="LUN 16384: expected 0 to 16383"):
        target.configure(groups=[InitiatorGroup("group", (), {16384: entry})], is_enabled=True)
    assert (dict(target.luns), dict(target.groups), target.is_enabled) == ({0: entry}, {}, False)


def test_unit_forgets_a_port_that_leads_to_it_no_more(target: Target, entry: LunEntry) -> None:
    target.configure(luns={0: entry}, groups=[_group("group", entry, "*")])
    target.configure(luns={})
    assert list(entry.unit.ports) == [TargetPort(1, "nbd/target")]
    target.configure(groups=[])
    assert list(entry.unit.ports) == []


def test_watchers_see_what_has_changed_until_they_stop(target: Target, entry: LunEntry) -> None:
    seen = []
    end = target.watch(lambda: seen.append((target.is_enabled, dict(target.luns))))
    target.add_lun(0, entry)
    target.is_enabled = True
    end()
    target.is_enabled = False
    assert seen == [(False, {0: entry}), (True, {0: entry})]


def test_watcher_that_fails_keeps_no_other_from_hearing(
    target: Target, entry: LunEntry, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("cannot")

    heard: list[int] = []
    target.watch(fail)
    target.watch(lambda: heard.append(len(target.luns)))
    target.add_lun(0, entry)
    assert heard == [1]
    assert "target target: a door did not take over a change" in caplog.messages
