# SPDX-License-Identifier: GPL-2.0-or-later
"""Device groups whose devices and target groups become others."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.t10.alua import AccessState
from scsi_backend.t10.status import Status
from scsi_backend.target.device_group import DeviceGroup, TargetGroup
from scsi_backend.target.target import TargetError
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator
from tests.scsi_backend.ports import CHANGED, TwoPorts

READ = cdbs.block(cdbs.READ, 16, 0, 1)
INQUIRY_CHANGED = "06/3F/03"


@pytest.fixture
def ports() -> TwoPorts:
    return TwoPorts()


@pytest.fixture
def slow(ports: TwoPorts) -> TwoPorts:
    """The same on a disk that waits for ``release``."""
    ports.vdisk.immediate_bytes, ports.vdisk.is_held = NOT_NOW, True
    return ports


def told(initiator: Initiator) -> list[str]:
    """The unit attentions that are pending, which this takes."""
    nexus, found = initiator.session.nexuses[0], []
    while (attention := nexus.take_unit_attention()) is not None:
        found.append(f"{attention.key:02X}/{attention.asc:02X}/{attention.ascq:02X}")
    return found


def test_regrouping_tells_initiators_what_is_different_for_them(ports: TwoPorts) -> None:
    group, one, two = ports.group, ports.one, ports.two
    group.configure([ports.unit], [one, two])
    assert told(ports.first) == []
    two.ports = two.ports[:1]
    group.configure([ports.unit], [one, TargetGroup("two", 5, ports.targets[1:])])
    assert told(ports.first) == [CHANGED, INQUIRY_CHANGED]
    assert [each.group_id for each in group.described()] == [1, 5]
    group.configure([], [])
    assert told(ports.second) == [CHANGED, INQUIRY_CHANGED]
    assert ports.unit.port_groups is None


def test_regrouping_keeps_the_states_of_target_groups(ports: TwoPorts) -> None:
    ports.put(ports.two, AccessState.STANDBY)
    ports.group.set_preferred(ports.two, True)
    wanted = TargetGroup("two", 2, ports.targets[1:])
    ports.group.configure([ports.unit], [TargetGroup("new", 3, []), wanted])
    assert ports.group.target_groups["two"] is ports.two
    assert ports.two.state is AccessState.STANDBY
    assert ports.two.is_preferred
    # The port that is in no group any more leads there as ever.
    assert ports.group.state_of(1) is AccessState.ACTIVE
    ports.first.session.nexuses[0].take_unit_attention()
    ports.first.session.nexuses[0].take_unit_attention()
    ports.first.good(READ, None, 512)


def test_regrouping_that_is_refused_changes_nothing(ports: TwoPorts) -> None:
    other = disk(FaultyVdisk())
    DeviceGroup("other").add_device(other)
    with pytest.raises(TargetError, match="is in a device group already"):
        ports.group.configure([ports.unit, other], [])
    with pytest.raises(TargetError, match="group_id 1 is taken already"):
        ports.group.configure([], [TargetGroup("a", 1, []), TargetGroup("b", 1, [])])
    assert ports.group.devices == (ports.unit,)
    assert list(ports.group.target_groups.values()) == [ports.one, ports.two]
    assert told(ports.first) == []


def test_a_state_that_is_waited_for_comes_after_regrouping(slow: TwoPorts) -> None:
    ended: list[bool] = []
    pending = slow.first.start(READ, None, 512)
    slow.group.set_state(slow.one, AccessState.STANDBY, lambda: ended.append(True))
    wanted = TargetGroup("one", 9, slow.targets[:1])
    slow.group.configure([slow.unit], [wanted])
    assert slow.one.state is AccessState.TRANSITIONING
    slow.vdisk.release()
    assert pending.outcome.status == Status.GOOD
    assert (slow.one.state, ended) == (AccessState.STANDBY, [True])


def test_a_state_that_is_waited_for_is_forgotten_with_its_target_group(slow: TwoPorts) -> None:
    ended: list[bool] = []
    slow.first.start(READ, None, 512)
    slow.group.set_state(slow.one, AccessState.STANDBY, lambda: ended.append(True))
    slow.group.configure([slow.unit], [slow.two])
    slow.vdisk.release()
    assert (slow.one.state, ended) == (AccessState.TRANSITIONING, [True])
