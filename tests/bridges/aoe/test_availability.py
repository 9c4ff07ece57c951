# SPDX-License-Identifier: GPL-2.0-or-later
"""A LUN on standby: what is noted, and what is told."""

from __future__ import annotations

import pytest

from bridges.aoe.availability import Availability
from scsi_backend.t10.alua import AccessState
from scsi_backend.target.device_group import DeviceGroup, TargetGroup
from tests.bridges.aoe.bench import ANNOUNCEMENT, Bench, padded, read_ext, write_ext


def test_only_changes_are_told() -> None:
    seen: list[bool] = []
    availability = Availability(lambda: seen.append(availability.is_standby))
    for is_standby in (False, True, True, False, False, True):
        availability.note(is_standby=is_standby)
    assert seen == [True, False, True]


@pytest.mark.parametrize(
    "state", [AccessState.STANDBY, AccessState.UNAVAILABLE, AccessState.OFFLINE]
)
def test_a_target_follows_the_access_state_of_its_port(state: AccessState) -> None:
    bench = Bench()
    bench.log_in()
    group, ports = DeviceGroup("g"), TargetGroup("tg", 1, [bench.scsi_target])
    group.add_target_group(ports)
    group.add_device(bench.lun.unit)
    for request in (read_ext(7, 1), write_ext(7, bytes(512))):
        group.set_state(ports, state)
        (reply,) = bench.exchange(request)
        assert reply[14:16].hex() == "1c03"
        group.set_state(ports, AccessState.NONOPTIMIZED)
        announcement, reply = bench.exchange(request)
        assert announcement == padded(ANNOUNCEMENT)
        assert reply[27] == 0x40


def test_a_command_during_a_transition_waits_for_its_end() -> None:
    bench = Bench()
    bench.log_in()
    group, ports = DeviceGroup("g"), TargetGroup("tg", 1, [bench.scsi_target])
    group.add_target_group(ports)
    group.add_device(bench.lun.unit)
    group.set_state(ports, AccessState.TRANSITIONING)
    assert bench.exchange(read_ext(7, 1)) == []
    group.set_state(ports, AccessState.ACTIVE)
    bench.clock.pass_time(1.0)
    (reply,) = bench.port.take()
    assert reply[27] == 0x40
