# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is shown which device of a target, and who is told of a change."""

from __future__ import annotations

import pytest

from bridges.aoe.address import Address
from bridges.aoe.views import MAX_CLIENTS, AoeTargetError, Views, shown_lun
from bridges.aoe.wire import BROADCAST_MAC
from scsi_backend.servers.disk import disk
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.scsi_backend.fakes import FaultyVdisk

_A, _B, _C = (bytes((2, 0, 0, 0, 0, number)) for number in (1, 2, 3))
_EVERYBODY = (BROADCAST_MAC,)


def _entry(block_size_bytes: int = 512) -> LunEntry:
    return LunEntry(disk(FaultyVdisk(64, block_size_bytes)))


def _group(name: str, patterns: str, *entries: LunEntry) -> InitiatorGroup:
    parsed = tuple(InitiatorPattern.parse(text) for text in patterns.split())
    return InitiatorGroup(name, parsed, dict(enumerate(entries)))


def _mine(entry: LunEntry) -> bool:
    return True


class _Scene:
    """A target with a device for whoever is in no group."""

    def __init__(self, *groups: InitiatorGroup, has_default: bool = True) -> None:
        self.default = _entry()
        self.target = Target("aoe", "e1.1", 1)
        luns = {0: self.default} if has_default else {}
        self.target.configure(luns=luns, groups=groups, is_enabled=True)
        self.views = Views(Address(1, 1), self.target)


@pytest.mark.parametrize(("numbers", "expected"), [([0], 0), ([0, 5], 0), ([5], 5)])
def test_lun_0_is_shown_or_the_only_one(numbers: list[int], expected: int) -> None:
    luns = {number: _entry() for number in numbers}
    assert shown_lun(luns) is luns[expected]


def test_without_luns_nothing_is_shown() -> None:
    assert shown_lun({}) is None


def test_without_lun_0_there_is_no_choice_to_make() -> None:
    with pytest.raises(AoeTargetError, match="expected LUN 0, or only one LUN"):
        shown_lun({1: _entry(), 2: _entry()})


def test_other_blocks_than_aoes_cannot_be_shown() -> None:
    with pytest.raises(AoeTargetError, match="device faulty has blocks of 4096 bytes"):
        shown_lun({0: _entry(4096)})


def test_a_group_that_can_be_shown_nothing_is_refused() -> None:
    target = Target("aoe", "e1.1", 1)
    target.configure(luns={0: _entry()}, groups=[_group("g", "*:01", _entry(4096))])
    with pytest.raises(AoeTargetError, match=r"^e1\.1: device faulty has blocks of 4096"):
        Views(Address(1, 1), target)


def test_each_initiator_is_shown_the_device_of_its_group() -> None:
    one = _entry()
    scene = _Scene(_group("g", "02:00:00:00:00:01", one), _group("none", "*:03"))
    assert [scene.views.entry_of(mac) for mac in (_A, _B, _C)] == [one, scene.default, None]
    assert scene.views.units == {one.unit, scene.default.unit}
    scene.target.configure(is_enabled=False)
    scene.views.update()
    assert [scene.views.entry_of(mac) for mac in (_A, _B, _C)] == [None] * 3
    # It leads there all the same.
    assert scene.views.units == {one.unit, scene.default.unit}


def test_what_cannot_be_shown_at_run_time_is_not(caplog: pytest.LogCaptureFixture) -> None:
    scene = _Scene()
    scene.target.configure(luns={0: _entry(4096)})
    assert scene.views.update() == ()
    assert scene.views.entry_of(_A) is None
    assert "target e1.1: not shown: device faulty has blocks of 4096 bytes" in caplog.text


def test_clients_are_remembered_but_not_without_bounds() -> None:
    scene = _Scene()
    assert not scene.views.is_client(_A)
    for number in range(MAX_CLIENTS + 1):
        scene.views.remember(b"\2\4" + number.to_bytes(4, "big"))
    assert not scene.views.is_client(b"\2\4\0\0\0\0")
    assert scene.views.is_client(b"\2\4\0\0\0\1")


def test_everybody_is_told_of_what_those_in_no_group_are_shown() -> None:
    scene = _Scene(_group("g", "*:01", _entry()))
    assert scene.views.audience(_mine) == _EVERYBODY
    scene.target.configure(luns={0: _entry()})
    assert scene.views.update() == _EVERYBODY
    scene.target.configure(luns={})
    assert scene.views.update() == ()


def test_of_a_groups_device_those_are_told_who_are_named_or_known() -> None:
    one = _entry()
    scene = _Scene(_group("g", "02:00:00:00:00:01 *:02 *:03", one))
    scene.views.remember(_C)
    assert scene.views.audience(lambda entry: entry is one) == (_A, _C)
    assert scene.views.shows(_B, lambda entry: entry is one)
    assert not scene.views.shows(b"\2\0\0\0\0\4", lambda entry: entry is one)


def test_only_those_are_told_who_are_shown_something_else() -> None:
    one, two = _entry(), _entry()
    scene = _Scene(_group("g", "*:01", one), _group("h", "*:02 *:03", two))
    for mac in (_A, _B, _C):
        scene.views.remember(mac)
    scene.target.configure(groups=[_group("g", "*:01 *:02", one), _group("h", "*:03", two)])
    assert scene.views.update() == (_B,)
    assert scene.views.update() == ()
    # The same device, but read-only.
    read_only = LunEntry(two.unit, is_read_only=True)
    scene.target.configure(groups=[_group("g", "*:01 *:02", one), _group("h", "*:03", read_only)])
    assert scene.views.update() == (_C,)
    scene.target.configure(groups=[_group("g", "*:01 *:02", one), _group("h", "*:03")])
    assert scene.views.update() == ()


def test_a_host_that_a_group_names_newly_is_told_and_one_that_it_names_no_more() -> None:
    one = _entry()
    scene = _Scene()
    scene.target.configure(groups=[_group("g", "02:00:00:00:00:01", one)])
    assert scene.views.update() == (_A,)
    scene.target.configure(groups=[])
    assert scene.views.update() == (_A,)


def test_an_enabled_target_is_told_of() -> None:
    scene = _Scene(_group("g", "02:00:00:00:00:01", _entry()), has_default=False)
    scene.target.configure(is_enabled=False)
    assert (scene.views.update(), scene.views.audience(_mine)) == ((), ())
    scene.target.configure(is_enabled=True)
    assert (scene.views.update(), scene.views.audience(_mine)) == ((_A,), (_A,))


def test_where_it_concerns_too_many_everybody_is_told() -> None:
    scene = _Scene(_group("g", "*", _entry()), has_default=False)
    for number in range(256):
        scene.views.remember(b"\2\4" + number.to_bytes(4, "big"))
    assert scene.views.audience(_mine) == _EVERYBODY
    scene.target.configure(groups=[_group("g", "*", _entry())])
    assert scene.views.update() == _EVERYBODY
