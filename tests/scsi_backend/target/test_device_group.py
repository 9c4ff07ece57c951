# SPDX-License-Identifier: GPL-2.0-or-later
"""Device groups: what a change of state does to nexuses, and when it takes effect."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.servers.command import Command
from scsi_backend.servers.disk import disk
from scsi_backend.servers.port_groups import StatesNotSetError
from scsi_backend.t10 import sense
from scsi_backend.t10.alua import MAX_PORTS, AccessState
from scsi_backend.t10.sense import SenseKey
from scsi_backend.t10.status import Status
from scsi_backend.target.device_group import DeviceGroup, RemotePort, TargetGroup
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target, TargetError
from scsi_backend.target.task_management import abort_task_set
from tests.scsi_backend import cdbs
from tests.scsi_backend.copies import MIB_BLOCKS, once, segment, start, two
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect_unit
from tests.scsi_backend.ports import CHANGED, TwoPorts, assert_changed_once, target_of

READ = cdbs.block(cdbs.READ, 16, 0, 1)
WRITE = cdbs.block(cdbs.WRITE, 16, 0, 1)
LOSING = (AccessState.STANDBY, AccessState.UNAVAILABLE, AccessState.OFFLINE)


@pytest.fixture
def ports() -> TwoPorts:
    return TwoPorts()


@pytest.fixture
def slow(ports: TwoPorts) -> TwoPorts:
    """The same on a disk that waits for ``release``."""
    ports.vdisk.immediate_bytes, ports.vdisk.is_held = NOT_NOW, True
    return ports


class Ends:
    """Counts how often something has ended."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_a_change_is_told_to_every_nexus_of_the_devices_once(ports: TwoPorts) -> None:
    ports.group.set_state(ports.one, AccessState.NONOPTIMIZED)
    for initiator in (ports.first, ports.second):
        assert_changed_once(initiator)


def test_no_change_is_told_to_nobody(ports: TwoPorts) -> None:
    ports.group.set_state(ports.one, AccessState.ACTIVE)
    ports.group.set_preferred(ports.one, True)
    for initiator in (ports.first, ports.second):
        initiator.good(cdbs.TEST_UNIT_READY)


def test_preference_is_told_as_a_change(ports: TwoPorts) -> None:
    ports.group.set_preferred(ports.two, True)
    for initiator in (ports.first, ports.second):
        assert_changed_once(initiator)
    assert ports.report()[24:26] == "80"


def test_a_transition_is_told_when_it_is_over(ports: TwoPorts) -> None:
    ports.group.set_state(ports.one, AccessState.TRANSITIONING)
    assert_check_condition(ports.first.send(cdbs.TEST_UNIT_READY), "02/04/0A")
    ports.second.good(cdbs.TEST_UNIT_READY)
    ports.group.set_state(ports.one, AccessState.ACTIVE)
    for initiator in (ports.first, ports.second):
        assert_changed_once(initiator)


def test_unit_attention_comes_before_the_refusal_and_write_protection_after(
    ports: TwoPorts,
) -> None:
    target = ports.targets[0]
    target.add_lun(1, LunEntry(ports.unit, is_read_only=True))
    reader = Initiator(target.open_session("reader"), 1)
    reader.send(cdbs.TEST_UNIT_READY)
    assert_check_condition(reader.send(WRITE, bytes(512)), "07/27/00")
    ports.group.set_state(ports.one, AccessState.STANDBY)
    assert_check_condition(reader.send(WRITE, bytes(512)), CHANGED)
    assert_check_condition(reader.send(WRITE, bytes(512)), "02/04/0B")
    ports.group.set_state(ports.one, AccessState.ACTIVE)
    assert_check_condition(reader.send(WRITE, bytes(512)), CHANGED)
    assert_check_condition(reader.send(WRITE, bytes(512)), "07/27/00")


def test_active_nexus_without_unit_attention_has_the_unit_s_own_table(ports: TwoPorts) -> None:
    nexus = ports.first.session.nexuses[0]
    ports.put(ports.one, AccessState.STANDBY)
    assert nexus.dispatch is not ports.unit.dispatch
    for state in (AccessState.NONOPTIMIZED, AccessState.ACTIVE):
        ports.put(ports.one, state)
        assert nexus.dispatch is ports.unit.dispatch


def test_session_opened_later_begins_in_the_state_in_force(ports: TwoPorts) -> None:
    ports.put(ports.one, AccessState.STANDBY)
    late = Initiator(ports.targets[0].open_session("late"))
    assert_check_condition(late.send(cdbs.TEST_UNIT_READY), "06/29/00")
    assert_check_condition(late.send(cdbs.TEST_UNIT_READY), "02/04/0B")


def test_device_added_later_takes_the_states_over(ports: TwoPorts) -> None:
    unit = disk(FaultyVdisk())
    initiator = connect_unit(unit)
    initiator.send(cdbs.TEST_UNIT_READY)
    ports.put(ports.one, AccessState.UNAVAILABLE)
    ports.group.add_device(unit)
    assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "02/04/0C")
    assert ports.group.devices == (ports.unit, unit)


def test_port_in_no_target_group_is_active(ports: TwoPorts) -> None:
    other = Initiator(target_of(ports.unit, 3).open_session("initiator"))
    other.send(cdbs.TEST_UNIT_READY)
    for group in (ports.one, ports.two):
        ports.put(group, AccessState.OFFLINE)
    other.session.nexuses[0].take_unit_attention()
    other.good(READ, None, 512)
    assert ports.group.group_id_of(3) is None


def test_device_in_no_device_group_is_left_alone(ports: TwoPorts) -> None:
    stranger = connect_unit(disk(FaultyVdisk()))
    stranger.send(cdbs.TEST_UNIT_READY)
    ports.put(ports.one, AccessState.OFFLINE)
    stranger.good(READ, None, 512)


def test_both_devices_of_a_group_change_together(ports: TwoPorts) -> None:
    unit = disk(FaultyVdisk())
    ports.group.add_device(unit)
    target = ports.targets[0]
    target.add_lun(1, LunEntry(unit))
    session = target.open_session("initiator")
    initiators = [Initiator(session, lun) for lun in (0, 1)]
    for initiator in initiators:
        initiator.send(cdbs.TEST_UNIT_READY)
    ports.group.set_state(ports.one, AccessState.STANDBY)
    for initiator in initiators:
        assert_check_condition(initiator.send(READ, None, 512), CHANGED)
        assert_check_condition(initiator.send(READ, None, 512), "02/04/0B")


@pytest.mark.parametrize("state", LOSING)
def test_losing_access_waits_for_what_is_under_way(slow: TwoPorts, state: AccessState) -> None:
    reads = [slow.first.start(READ, None, 512) for _ in range(2)]
    ended = Ends()
    slow.group.set_state(slow.one, state, ended)
    assert (slow.one.state, ended.count) == (AccessState.TRANSITIONING, 0)
    assert_check_condition(slow.first.send(READ, None, 512), "02/04/0A")
    slow.vdisk.release()
    assert (slow.one.state, ended.count) == (AccessState.TRANSITIONING, 0)
    slow.vdisk.release()
    assert (slow.one.state, ended.count) == (state, 1)
    assert [read.outcome.status for read in reads] == [Status.GOOD] * 2
    assert_changed_once(slow.first)


def test_losing_access_does_not_wait_for_other_ports(slow: TwoPorts) -> None:
    read = slow.second.start(READ, None, 512)
    slow.group.set_state(slow.one, AccessState.STANDBY)
    assert slow.one.state is AccessState.STANDBY
    slow.vdisk.release_all()
    assert read.outcome.status == Status.GOOD


@pytest.mark.parametrize("state", [AccessState.NONOPTIMIZED, AccessState.TRANSITIONING])
def test_a_state_that_keeps_or_suspends_access_is_in_force_at_once(
    slow: TwoPorts, state: AccessState
) -> None:
    slow.first.start(READ, None, 512)
    slow.group.set_state(slow.one, state)
    assert slow.one.state is state
    slow.vdisk.release_all()


def test_a_session_that_has_left_is_waited_for(slow: TwoPorts) -> None:
    read = slow.first.start(READ, None, 512)
    slow.first.session.close()
    slow.group.set_state(slow.one, AccessState.STANDBY)
    assert slow.one.state is AccessState.TRANSITIONING
    slow.vdisk.release_all()
    assert read.outcome.status == Status.GOOD
    assert slow.group.state_of(1) is AccessState.STANDBY


def test_the_last_decision_counts_and_each_hears_of_its_end(slow: TwoPorts) -> None:
    slow.first.start(READ, None, 512)
    standby, active = Ends(), Ends()
    slow.group.set_state(slow.one, AccessState.STANDBY, standby)
    slow.group.set_state(slow.one, AccessState.ACTIVE, active)
    assert (slow.one.state, standby.count, active.count) == (AccessState.ACTIVE, 0, 1)
    slow.vdisk.release_all()
    assert (slow.one.state, standby.count, active.count) == (AccessState.ACTIVE, 1, 1)
    assert_changed_once(slow.second)


def test_staying_in_transition_may_be_decided_while_in_one(slow: TwoPorts) -> None:
    slow.first.start(READ, None, 512)
    slow.group.set_state(slow.one, AccessState.STANDBY)
    slow.group.set_state(slow.one, AccessState.TRANSITIONING)
    slow.vdisk.release_all()
    assert slow.one.state is AccessState.TRANSITIONING


def test_a_command_sent_again_by_its_owner_meets_the_transition_and_is_not_waited_for(
    slow: TwoPorts,
) -> None:
    told: list[int | None] = []
    nexus = slow.first.session.nexuses[0]

    def again(command: Command) -> None:
        told.append(command.status)
        command.renew(lambda ended: told.append(ended.status))
        nexus.submit(command)

    nexus.submit(Command(READ, memoryview(bytearray(512)), None, again))
    slow.group.set_state(slow.one, AccessState.STANDBY)
    slow.vdisk.release_all()
    assert told == [Status.GOOD, Status.CHECK_CONDITION]
    assert slow.one.state is AccessState.STANDBY


def test_an_owner_that_raises_does_not_hold_the_change_up(slow: TwoPorts) -> None:
    def broken(command: Command) -> None:
        raise RuntimeError("broken front-end")

    slow.first.session.nexuses[0].submit(Command(READ, memoryview(bytearray(512)), None, broken))
    slow.group.set_state(slow.one, AccessState.STANDBY)
    with pytest.raises(RuntimeError, match="broken front-end"):
        slow.vdisk.release_all()
    assert slow.one.state is AccessState.STANDBY


def test_an_atomic_command_and_those_behind_it_end_before_access_is_lost(slow: TwoPorts) -> None:
    atomic = slow.first.start(cdbs.compare_and_write(0, 1), bytes(512) + b"\xaa" * 512)
    behind = slow.first.start(READ, None, 512)
    slow.group.set_state(slow.one, AccessState.STANDBY)
    slow.vdisk.release_all()
    assert (atomic.outcome.status, behind.outcome.data) == (Status.GOOD, b"\xaa" * 512)
    assert slow.one.state is AccessState.STANDBY


def test_states_of_other_machines_are_the_administrator_s(ports: TwoPorts) -> None:
    with pytest.raises(StatesNotSetError, match="target group two has remote targets"):
        ports.group.set_states({2: AccessState.STANDBY}, None)
    ports.put(ports.two, AccessState.STANDBY)
    assert ports.report()[24:28] == "02cf"


def test_the_nexus_that_set_a_state_is_not_told(ports: TwoPorts) -> None:
    ports.group.set_states({1: AccessState.NONOPTIMIZED}, ports.first.session.nexuses[0])
    ports.first.good(cdbs.TEST_UNIT_READY)
    assert ports.second.session.nexuses[0].take_unit_attention() == sense.ACCESS_STATE_CHANGED


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (TargetGroup("one", 3, []), "target group one exists already"),
        (TargetGroup("three", 2, []), "group_id 2 is taken already"),
        (TargetGroup("three", 3, [RemotePort("x", 7)]), "a target is in a group already"),
        (
            TargetGroup("three", 3, [RemotePort("x", 8), RemotePort("y", 8)]),
            "a target is in a group already",
        ),
        (
            TargetGroup("three", 3, [RemotePort("x", n + 8) for n in range(MAX_PORTS + 1)]),
            "expected at most 255 targets",
        ),
    ],
)
def test_a_group_that_would_be_ambiguous_is_refused(
    ports: TwoPorts, group: TargetGroup, message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        ports.group.add_target_group(group)
    assert list(ports.group.target_groups) == ["one", "two"]


def test_a_device_is_in_one_group(ports: TwoPorts) -> None:
    other = DeviceGroup("other")
    with pytest.raises(TargetError, match="device faulty is in a device group already"):
        other.add_device(ports.unit)
    assert other.devices == ()


def test_a_copy_under_way_ends_with_the_piece_that_it_is_at_when_access_is_lost() -> None:
    source, destination, session = two(3 * MIB_BLOCKS)
    destination.immediate_bytes, destination.is_held = NOT_NOW, True
    target = session.target
    assert isinstance(target, Target)
    group, ports = DeviceGroup("g"), TargetGroup("tg", 1, [target])
    group.add_target_group(ports)
    for nexus in session.nexuses.values():
        group.add_device(nexus.unit)
    copy = start(session, once(segment(0, 1, 3 * MIB_BLOCKS, 0, 0)))
    group.set_state(ports, AccessState.STANDBY)
    assert (ports.state, copy.is_done) == (AccessState.TRANSITIONING, False)
    destination.release_all()
    assert copy.outcome.sense is not None
    assert copy.outcome.sense.key == SenseKey.COPY_ABORTED
    assert ports.state is AccessState.STANDBY
    assert destination.blocks(0, MIB_BLOCKS) == source.blocks(0, MIB_BLOCKS)


@pytest.mark.parametrize("is_immediate", [False, True])
def test_access_is_not_taken_away_before_a_sanitize_has_ended(
    slow: TwoPorts, is_immediate: bool
) -> None:
    flags = 0x80 if is_immediate else 0
    sanitize = cdbs.sanitize(cdbs.OVERWRITE, 5, flags)
    pending = slow.first.start(sanitize, bytes((1, 0, 0, 1, 0x5A)))
    if not is_immediate:
        abort_task_set(slow.first.session.nexuses[0], lambda: None)
    assert pending.is_done
    ended = Ends()
    slow.group.set_state(slow.one, AccessState.STANDBY, ended)
    assert (slow.one.state, ended.count) == (AccessState.TRANSITIONING, 0)
    slow.vdisk.release_all()
    assert (slow.one.state, ended.count) == (AccessState.STANDBY, 1)


def test_a_sanitize_that_has_failed_keeps_no_access_state_waiting(ports: TwoPorts) -> None:
    ports.vdisk.faults.errno_of["write"] = errno.EIO
    ports.first.send(cdbs.sanitize(cdbs.OVERWRITE, 5), bytes((1, 0, 0, 1, 0x5A)))
    ports.group.set_state(ports.one, AccessState.STANDBY)
    assert ports.one.state is AccessState.STANDBY
