# SPDX-License-Identifier: GPL-2.0-or-later
"""REPORT and SET TARGET PORT GROUPS against SPC-5 6.37 and 6.45, through a session."""

from __future__ import annotations

import pytest

from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.alua import AccessState
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Pending, assert_check_condition, connect
from tests.scsi_backend.ports import REPORT, TwoPorts, assert_changed_once, set_groups

GROUPS = "80cf0001" + "00000001" + "00000001" + "00cf0002" + "00000002" + "00000002" + "00000007"


@pytest.fixture
def ports() -> TwoPorts:
    return TwoPorts()


@pytest.fixture
def local() -> TwoPorts:
    """Both groups have ports of this machine only."""
    return TwoPorts(has_remote=False)


def test_report_names_the_groups_with_their_ports_by_either_port(ports: TwoPorts) -> None:
    assert ports.first.good(REPORT, None, 255).hex() == "0000001c" + GROUPS
    assert ports.second.good(REPORT, None, 255).hex() == "0000001c" + GROUPS


def test_report_with_the_extended_header(ports: TwoPorts) -> None:
    data = ports.first.good(cdbs.raw("a32a00000000000000ff"), None, 255)
    assert data.hex() == "00000020" + "10000000" + GROUPS


@pytest.mark.parametrize("form", range(2, 8))
def test_report_has_no_other_format(ports: TwoPorts, form: int) -> None:
    cdb = cdbs.raw(f"a3{form << 5 | 0x0A:02x}00000000000000ff")
    assert_check_condition(ports.first.send(cdb, None, 255), "05/24/00", at=(1, 7))


@pytest.mark.parametrize("length", [0, 3, 4, 12, 31, 32, 255])
def test_report_is_cut_to_the_allocation_length(ports: TwoPorts, length: int) -> None:
    cdb = cdbs.raw(f"a30a00000000{length:08x}")
    whole = bytes.fromhex("0000001c" + GROUPS)
    assert ports.first.good(cdb, None, 255) == whole[:length]


def test_report_of_a_device_in_no_group_has_no_groups() -> None:
    initiator = connect(FaultyVdisk())
    assert initiator.good(REPORT, None, 255).hex() == "00000000"
    assert initiator.good(cdbs.raw("120000002400"), None, 36)[5] & 0x30 == 0


def test_report_says_by_whom_a_state_was_set(local: TwoPorts) -> None:
    local.put(local.one, AccessState.NONOPTIMIZED)
    assert local.report()[:16] == "81cf0001" + "00020001"
    assert local.set((0x0, 1)).status == Status.GOOD
    assert local.report()[:16] == "80cf0001" + "00010001"


def test_set_is_there_with_expl_alua_only() -> None:
    ports = TwoPorts(is_explicit=False)
    assert_check_condition(ports.set((0x1, 1)), "05/20/00", at=(0, None))
    assert ports.one.state is AccessState.ACTIVE


def test_set_of_a_device_in_no_group_knows_no_group() -> None:
    vdisk = FaultyVdisk()
    vdisk.has_explicit_alua = True
    initiator = connect(vdisk)
    assert_check_condition(initiator.send(*set_groups((0, 1))), "05/26/00", at=(6, 7), in_cdb=False)
    initiator.good(*set_groups())


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (0x1, AccessState.NONOPTIMIZED),
        (0x2, AccessState.STANDBY),
        (0x3, AccessState.UNAVAILABLE),
        # The bits beside the field are reserved.
        (0xF1, AccessState.NONOPTIMIZED),
    ],
)
def test_set_changes_the_state_and_tells_the_others(
    local: TwoPorts, number: int, state: AccessState
) -> None:
    assert local.set((number, 1)).status == Status.GOOD
    assert local.one.state is state
    assert_changed_once(local.second)
    local.first.good(REPORT, None, 255)


def test_set_changes_several_groups_at_once_and_tells_once(local: TwoPorts) -> None:
    assert local.set((0x2, 1), (0x1, 2)).status == Status.GOOD
    assert (local.one.state, local.two.state) == (AccessState.STANDBY, AccessState.NONOPTIMIZED)
    assert_changed_once(local.second)
    assert_check_condition(local.first.send(cdbs.TEST_UNIT_READY), "02/04/0B")


@pytest.mark.parametrize("descriptors", [(), ((0x0, 1),), ((0x0, 1), (0x0, 2))])
def test_set_to_what_is_tells_nobody(
    ports: TwoPorts, descriptors: tuple[tuple[int, int], ...]
) -> None:
    assert ports.set(*descriptors).status == Status.GOOD
    ports.second.good(cdbs.TEST_UNIT_READY)
    assert ports.report() == GROUPS


def test_set_without_a_list_does_nothing(ports: TwoPorts) -> None:
    ports.first.good(set_groups((0x2, 1), length_bytes=0)[0])
    assert ports.one.state is AccessState.ACTIVE


@pytest.mark.parametrize("length", [1, 3, 5, 7, 10])
def test_set_with_a_list_cut_within_a_descriptor(ports: TwoPorts, length: int) -> None:
    cdb, _ = set_groups(length_bytes=length)
    assert_check_condition(ports.first.send(cdb, bytes(16)), "05/1A/00")


def test_set_with_less_data_than_its_length(ports: TwoPorts) -> None:
    cdb, data = set_groups((0x2, 1), length_bytes=0xFFFFFFFC)
    outcome = ports.first.send(cdb, data)
    assert_check_condition(outcome, "0B/4B/00")
    assert ports.one.state is AccessState.ACTIVE


@pytest.mark.parametrize(
    ("bad", "byte", "bit"),
    [
        # LBA dependent, reserved, offline, transitioning.
        *(((state, 2), 8, 3) for state in (0x4, 0x5, 0xD, 0xE, 0xF)),
        # No such group; one that the list has already.
        ((0x1, 0), 10, 7),
        ((0x1, 3), 10, 7),
        ((0x1, 1), 10, 7),
    ],
)
def test_set_with_a_bad_descriptor_changes_nothing(
    local: TwoPorts, bad: tuple[int, int], byte: int, bit: int
) -> None:
    outcome = local.set((0x2, 1), bad)
    assert_check_condition(outcome, "05/26/00", at=(byte, bit), in_cdb=False)
    assert (local.one.state, local.two.state) == (AccessState.ACTIVE, AccessState.ACTIVE)
    local.second.good(cdbs.TEST_UNIT_READY)


def test_set_of_a_group_with_ports_elsewhere_fails_and_changes_nothing(ports: TwoPorts) -> None:
    assert_check_condition(ports.set((0x1, 1), (0x1, 2)), "04/67/0A")
    assert ports.report() == GROUPS
    ports.second.good(cdbs.TEST_UNIT_READY)


@pytest.mark.parametrize("group_id", [1, 2])
def test_set_of_a_group_in_transition_is_refused(local: TwoPorts, group_id: int) -> None:
    group = local.one if group_id == 1 else local.two
    local.put(group, AccessState.TRANSITIONING)
    assert_check_condition(local.set((0x0, group_id)), "02/04/0A")
    assert group.state is AccessState.TRANSITIONING


@pytest.mark.parametrize("attribute", TaskAttribute)
def test_set_is_in_force_at_once_and_what_is_under_way_goes_on(
    local: TwoPorts, attribute: TaskAttribute
) -> None:
    local.vdisk.immediate_bytes, local.vdisk.is_held = NOT_NOW, True
    read = local.second.start(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)
    setting = Pending(*set_groups((0x2, 1), (0x2, 2)), None)
    local.first.session.nexuses[0].receive(setting.command, attribute)
    assert setting.outcome.status == Status.GOOD
    assert (local.one.state, local.two.state) == (AccessState.STANDBY, AccessState.STANDBY)
    local.vdisk.release_all()
    assert read.outcome.status == Status.GOOD
    assert_changed_once(local.second)


def test_set_in_its_order_waits_for_the_commands_before_it(local: TwoPorts) -> None:
    local.vdisk.immediate_bytes, local.vdisk.is_held = NOT_NOW, True
    nexus = local.first.session.nexuses[0]
    before = local.first.start(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)
    setting = Pending(*set_groups((0x2, 1)), None)
    nexus.receive(setting.command, TaskAttribute.ORDERED)
    behind = local.first.start(cdbs.block(cdbs.READ, 16, 1, 1), None, 512)
    assert not setting.is_done
    local.vdisk.release_all()
    assert [each.outcome.status for each in (before, setting, behind)] == [Status.GOOD] * 3
    assert local.one.state is AccessState.STANDBY
