# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions: their LUNs, what they share, and what closing one leaves behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scsi_backend.servers.command import Command
from scsi_backend.servers.disk import disk
from scsi_backend.t10 import sense
from scsi_backend.t10.status import Status
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.session import AbsentNexus, Session
from scsi_backend.target.target import Target
from scsi_backend.target.task_management import ManagementResponse, TaskManagementFunction
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition


@pytest.fixture
def vdisks() -> dict[int, FaultyVdisk]:
    return {5: FaultyVdisk(blocks=50), 0: FaultyVdisk(blocks=10), 2: FaultyVdisk(blocks=20)}


@pytest.fixture
def target(vdisks: dict[int, FaultyVdisk]) -> Target:
    made = Target("scst_local", "target", 7)
    for lun, vdisk in vdisks.items():
        made.add_lun(lun, LunEntry(disk(vdisk), is_read_only=lun == 2))
    made.is_enabled = True
    return made


def test_session_has_one_nexus_for_each_lun_ascending(target: Target) -> None:
    session = target.open_session("initiator")
    assert session.initiator_name == "initiator"
    assert session.reported_luns() == (0, 2, 5)
    found = [(lun, nexus.lun, nexus.unit.block_count) for lun, nexus in session.nexuses.items()]
    assert found == [(0, 0, 10), (2, 2, 20), (5, 5, 50)]
    protected = [nexus.is_write_protected for nexus in session.nexuses.values()]
    assert protected == [False, True, False]


def test_commands_reach_the_device_of_their_lun(
    target: Target, vdisks: dict[int, FaultyVdisk]
) -> None:
    session = target.open_session("initiator")
    for lun, vdisk in vdisks.items():
        initiator = Initiator(session, lun)
        vdisk.data[:4] = f"lun{lun}".encode()
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "06/29/00")
        data = initiator.good(cdbs.block(cdbs.READ, 10, 0, 1), None, 512)
        assert data[:4] == f"lun{lun}".encode()


def test_relative_target_port_is_the_targets(target: Target) -> None:
    session = target.open_session("initiator")
    assert session.relative_target_port == 7
    data = Initiator(session, 0).good(cdbs.raw("12018300ff00"), None, 255)
    assert bytes.fromhex("01140004" + "00000007") in data


def test_sessions_share_the_medium_and_keep_their_own_attentions(target: Target) -> None:
    first = Initiator(target.open_session("first"))
    second = Initiator(target.open_session("second"))
    assert_check_condition(first.send(cdbs.TEST_UNIT_READY), "06/29/00")
    first.good(cdbs.block(cdbs.WRITE, 10, 3, 1), b"\xaa" * 512)
    assert_check_condition(second.send(cdbs.TEST_UNIT_READY), "06/29/00")
    assert second.good(cdbs.block(cdbs.READ, 10, 3, 1), None, 512) == b"\xaa" * 512
    first.good(cdbs.TEST_UNIT_READY)


def test_clearing_an_attention_spares_other_sessions(target: Target) -> None:
    first, second = target.open_session("first"), target.open_session("second")
    for session in (first, second):
        for nexus in session.nexuses.values():
            nexus.take_unit_attention()
            nexus.establish_unit_attention(sense.REPORTED_LUNS_CHANGED)
    first.nexuses[2].clear_unit_attention(sense.REPORTED_LUNS_CHANGED)
    assert [nexus.take_unit_attention() for nexus in first.nexuses.values()] == [None] * 3
    kept = [nexus.take_unit_attention() for nexus in second.nexuses.values()]
    assert kept == [sense.REPORTED_LUNS_CHANGED, None, None]


def test_report_luns_to_an_absent_lun_clears_the_attention_about_it(target: Target) -> None:
    session = target.open_session("initiator")
    for nexus in session.nexuses.values():
        nexus.take_unit_attention()
        nexus.establish_unit_attention(sense.REPORTED_LUNS_CHANGED)
    data = Initiator(session, 99).good(cdbs.raw("a00000000000000000ff0000"), None, 255)
    assert data[:4] == bytes((0, 0, 0, 24))
    for lun in session.reported_luns():
        Initiator(session, lun).good(cdbs.TEST_UNIT_READY)


def test_every_nexus_of_a_session_reaches_the_units_of_all(target: Target) -> None:
    session, other = target.open_session("one"), target.open_session("two")
    ways = tuple(session.nexuses.values())
    assert [nexus.reachable_units() for nexus in ways] == [ways] * 3
    assert AbsentNexus(session).reachable_units() == ways
    assert not set(ways) & set(other.reachable_units())
    session.close()
    assert (session.reachable_units(), ways[0].reachable_units()) == ((), ())


def test_closed_session_leaves_its_target_and_units(target: Target) -> None:
    first, second = target.open_session("first"), target.open_session("second")
    nexus = first.nexuses[0]
    first.close()
    assert target.sessions == (second,)
    second.nexuses[0].unit.raise_unit_attention(sense.CAPACITY_CHANGED)
    assert [nexus.take_unit_attention(), nexus.take_unit_attention()] == [
        sense.RESET_OCCURRED,
        None,
    ]


def test_command_outstanding_when_its_session_closes_still_ends(
    target: Target, vdisks: dict[int, FaultyVdisk]
) -> None:
    initiator = Initiator(target.open_session("initiator"))
    initiator.send(cdbs.TEST_UNIT_READY)
    vdisks[0].immediate_bytes, vdisks[0].is_held = NOT_NOW, True
    pending = initiator.start(cdbs.block(cdbs.READ, 10, 0, 1), None, 512)
    initiator.session.close()
    assert not pending.is_done
    vdisks[0].release()
    assert pending.outcome.status == Status.GOOD


def _attentions(session: Session) -> dict[int, list[str]]:
    """What is pending on each LUN; taken away."""
    found: dict[int, list[str]] = {}
    for lun, nexus in session.nexuses.items():
        found[lun] = []
        while (taken := nexus.take_unit_attention()) is not None:
            found[lun].append(f"{taken.asc:02X}/{taken.ascq:02X}")
    return found


def test_nexus_that_a_change_leaves_alone_stays_with_its_attentions(target: Target) -> None:
    session = target.open_session("initiator")
    _attentions(session)
    kept = session.nexuses[5]
    kept.establish_unit_attention(sense.CAPACITY_CHANGED)
    luns = {lun: entry for lun, entry in target.luns.items() if lun != 0}
    retired = target.configure(luns=luns)
    assert [nexus.lun for nexus in retired] == [0]
    assert session.nexuses[5] is kept
    # Told once, whichever LUN is asked first.
    assert _attentions(session) == {2: ["3F/0E"], 5: ["2A/09"]}


def test_same_luns_again_change_nothing(target: Target) -> None:
    session = target.open_session("initiator")
    _attentions(session)
    before = dict(session.nexuses)
    assert target.configure(luns=dict(target.luns)) == []
    assert session.nexuses == before
    assert _attentions(session) == {0: [], 2: [], 5: []}


def test_added_lun_is_announced_on_the_others(target: Target) -> None:
    session = target.open_session("initiator")
    _attentions(session)
    target.add_lun(1, LunEntry(disk(FaultyVdisk())))
    assert _attentions(session) == {0: ["3F/0E"], 1: ["29/00"], 2: [], 5: []}


def test_replaced_device_is_announced_on_its_lun(target: Target) -> None:
    session = target.open_session("initiator")
    _attentions(session)
    target.configure(luns={**target.luns, 2: LunEntry(disk(FaultyVdisk(blocks=7)))})
    assert _attentions(session) == {0: [], 2: ["29/00", "3F/03"], 5: []}
    assert session.nexuses[2].unit.block_count == 7


def test_other_access_replaces_the_nexus_but_no_reservation(target: Target) -> None:
    session, other = target.open_session("initiator"), target.open_session("other")
    _attentions(session)
    _attentions(other)
    initiator = Initiator(session, 5)
    initiator.good(cdbs.raw("160000000000"))
    target.configure(luns={**target.luns, 5: replace(target.luns[5], is_read_only=True)})
    assert _attentions(session)[5] == ["29/00", "3F/03"]
    assert_check_condition(initiator.send(cdbs.block(cdbs.WRITE, 10, 0, 1), b"x" * 512), "07/27/00")
    _attentions(other)
    found = Initiator(other, 5).send(cdbs.block(cdbs.READ, 10, 0, 1), None, 512)
    assert found.status == Status.RESERVATION_CONFLICT


def test_retired_nexus_answers_as_a_lun_that_is_not_there(target: Target) -> None:
    session = target.open_session("initiator")
    old = session.nexuses[2]
    unit = old.unit
    target.configure(luns={})
    for cdb in (cdbs.TEST_UNIT_READY, cdbs.block(cdbs.READ, 10, 0, 1)):
        ended: list[Command] = []
        old.submit(Command(cdb, None, None, ended.append))
        assert (ended[0].status, ended[0].sense) == (2, sense.LUN_NOT_SUPPORTED)
    unit.raise_unit_attention(sense.CAPACITY_CHANGED)
    assert old.take_unit_attention() is None


def test_command_outstanding_when_its_nexus_is_retired_still_ends(
    target: Target, vdisks: dict[int, FaultyVdisk]
) -> None:
    initiator = Initiator(target.open_session("initiator"))
    initiator.send(cdbs.TEST_UNIT_READY)
    vdisks[0].immediate_bytes, vdisks[0].is_held = NOT_NOW, True
    pending = initiator.start(cdbs.block(cdbs.READ, 10, 0, 1), None, 512)
    retired = target.configure(luns={})
    assert sum(len(nexus.outstanding) for nexus in retired) == 1
    vdisks[0].release()
    assert pending.outcome.status == Status.GOOD
    assert not any(nexus.outstanding for nexus in retired)


@pytest.mark.parametrize("is_mapped_again", [False, True])
@pytest.mark.parametrize(
    "function", [TaskManagementFunction.ABORT_TASK, TaskManagementFunction.I_T_NEXUS_RESET]
)
def test_task_of_a_retired_nexus_can_be_aborted(
    target: Target,
    vdisks: dict[int, FaultyVdisk],
    function: TaskManagementFunction,
    is_mapped_again: bool,
) -> None:
    initiator = Initiator(target.open_session("initiator"))
    initiator.send(cdbs.TEST_UNIT_READY)
    vdisks[0].immediate_bytes, vdisks[0].is_held = NOT_NOW, True
    pending = initiator.start(cdbs.block(cdbs.READ, 10, 0, 1), None, 512)
    luns = target.luns
    target.configure(luns={})
    if is_mapped_again:
        target.configure(luns=luns)
    responses: list[ManagementResponse] = []
    initiator.session.manage(
        function, 0, lambda command: command is pending.command, responses.append
    )
    # It is complete once the command has ended.
    assert responses == []
    vdisks[0].release()
    assert pending.outcome.status == Status.TASK_ABORTED
    assert responses == [ManagementResponse.FUNCTION_COMPLETE]


def test_task_of_a_retired_nexus_is_found_by_its_lun(
    target: Target, vdisks: dict[int, FaultyVdisk]
) -> None:
    initiator = Initiator(target.open_session("initiator"))
    initiator.send(cdbs.TEST_UNIT_READY)
    vdisks[0].immediate_bytes, vdisks[0].is_held = NOT_NOW, True
    initiator.start(cdbs.block(cdbs.READ, 10, 0, 1), None, 512)
    target.configure(luns={2: target.luns[2]})
    responses: list[ManagementResponse] = []
    for lun in (2, 5):
        initiator.session.manage(
            TaskManagementFunction.ABORT_TASK, lun, lambda _: True, responses.append
        )
    vdisks[0].release()
    initiator.session.manage(TaskManagementFunction.ABORT_TASK, 0, lambda _: True, responses.append)
    assert responses == [
        ManagementResponse.TASK_DOES_NOT_EXIST,
        ManagementResponse.INCORRECT_LUN,
        ManagementResponse.INCORRECT_LUN,
    ]
