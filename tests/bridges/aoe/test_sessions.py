# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the sessions of initiators."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridges.aoe.sessions import Sessions
from bridges.aoe.views import AoeTargetError
from bridges.recovery import Reply
from scsi_backend.t10 import sense
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.target import Target, TargetError
from tests.bridges.aoe.bench import ManualClock
from tests.bridges.aoe.session_scene import (
    Scene,
    Waiting,
    mac_of,
    make_disks,
    make_entry,
    make_terms,
)

_NOT_READY = Sense(0x02, 0x0403)


def test_first_command_opens_a_session_named_after_the_mac() -> None:
    scene = Scene()
    initiator = scene.sessions.of(bytes.fromhex("0200deadbeef"))
    assert scene.names == ["02:00:de:ad:be:ef"]
    assert initiator.client is not None
    assert initiator.client.info.block_count == 1024
    assert (scene.announced, scene.clients) == ([], [bytes.fromhex("0200deadbeef")])


def test_an_initiator_keeps_its_session() -> None:
    scene = Scene()
    assert scene.sessions.of(mac_of(1)) is scene.sessions.of(mac_of(1))
    assert len(scene.sessions) == 1


def test_an_initiator_is_found_only_while_its_session_is_open() -> None:
    scene = Scene()
    assert scene.sessions.opened(mac_of(1)) is None
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    initiator = scene.sessions.of(mac_of(1))
    assert scene.sessions.opened(mac_of(1)) is None
    scene.lun.held_opcodes = set()
    scene.lun.release()
    assert scene.sessions.opened(mac_of(1)) is initiator
    assert len(scene.sessions) == 1
    scene.sessions.close()
    assert scene.sessions.opened(mac_of(1)) is None


def test_when_the_table_is_full_the_longest_silent_initiator_goes() -> None:
    scene = Scene(limit=3)
    for number in (1, 2, 3, 1, 4):
        scene.sessions.of(mac_of(number))
    assert scene.names == ["02:00:00:00:00:01", "02:00:00:00:00:03", "02:00:00:00:00:04"]
    assert scene.gone == 1


def test_an_initiator_with_commands_under_way_stays() -> None:
    scene = Scene(limit=2)
    busy = scene.sessions.of(mac_of(1))
    busy.outstanding.begin()
    scene.sessions.of(mac_of(2))
    scene.sessions.of(mac_of(3))
    assert scene.names == ["02:00:00:00:00:01", "02:00:00:00:00:03"]


def test_forged_macs_do_not_add_up() -> None:
    scene = Scene(limit=16)
    for number in range(1000):
        scene.sessions.of(number.to_bytes(6, "big"))
    assert len(scene.sessions) == len(scene.target.sessions) == 16


def test_commands_wait_until_the_session_is_open() -> None:
    scene = Scene()
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    initiator = scene.sessions.of(mac_of(1))
    commands = [Waiting(), Waiting()]
    for command in commands:
        initiator.wait(command)
    scene.lun.held_opcodes = set()
    assert initiator.client is None
    assert [command.events for command in commands] == [[], []]
    scene.lun.release()
    assert initiator.client is not None
    assert [command.events for command in commands] == [["start"], ["start"]]


def test_commands_are_rejected_if_the_session_cannot_be_opened_and_the_next_one_tries_again() -> (
    None
):
    scene = Scene()
    scene.lun.held_opcodes = {Opcode.TEST_UNIT_READY}
    initiator = scene.sessions.of(mac_of(1))
    command = Waiting()
    initiator.wait(command)
    # Held behind the session's power-on unit attention; the retry meets the answer below.
    scene.lun.held_opcodes = set()
    scene.lun.answers[Opcode.TEST_UNIT_READY] = [(Status.CHECK_CONDITION, _NOT_READY)] * 2
    held, _ = scene.lun.held.pop()
    held.check_condition(sense.RESET_OCCURRED)
    assert command.events == ["reject"]
    assert command.error is not None
    assert command.error.cdb[0] == Opcode.TEST_UNIT_READY
    assert command.error.reply == Reply(Status.CHECK_CONDITION, _NOT_READY, 0)
    assert scene.names == []
    late = Waiting()
    initiator.wait(late)
    assert late.events == ["reject"]
    scene.lun.answers.clear()
    assert scene.sessions.of(mac_of(1)).client is not None


def test_a_change_of_the_lun_is_told() -> None:
    scene = Scene()
    client = scene.sessions.of(mac_of(1)).client
    assert client is not None
    scene.vdisk.new_block_count = 2048
    scene.lun.unit.resync_size()
    client.refresh(lambda: None)
    assert scene.announced == [2048]


def test_closing_ends_every_session() -> None:
    scene = Scene()
    scene.sessions.of(mac_of(1))
    scene.sessions.of(mac_of(2))
    assert scene.gone == 0
    scene.sessions.close()
    assert scene.names == []
    assert len(scene.sessions) == 0
    assert scene.gone == 1


def test_closing_while_a_session_opens_ends_it_once() -> None:
    scene = Scene()
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    initiator = scene.sessions.of(mac_of(1))
    command = Waiting()
    initiator.wait(command)
    scene.sessions.close()
    held, _ = scene.lun.held.pop()
    held.check_condition(_NOT_READY)
    assert command.events == ["reject"]
    assert scene.names == []


def test_an_idle_session_ends_within_twice_the_timeout() -> None:
    scene = Scene(idle_timeout_s=10)
    scene.sessions.of(mac_of(1))
    scene.clock.pass_time(11)
    assert len(scene.sessions) == 1
    scene.clock.pass_time(9)
    assert (len(scene.sessions), scene.names, scene.gone) == (0, [], 1)
    # With nobody to watch there is no timer.
    assert scene.clock.pending == 0
    assert scene.sessions.of(mac_of(1)).client is not None


def test_a_session_does_not_end_within_the_timeout() -> None:
    scene = Scene(idle_timeout_s=10)
    initiator = scene.sessions.of(mac_of(1))
    scene.sessions.of(mac_of(2))
    for _ in range(20):
        scene.clock.pass_time(9)
        # As the data path does.
        initiator.is_heard = True
    assert scene.names == ["02:00:00:00:00:01"]
    assert scene.sessions.of(mac_of(1)) is initiator


def test_a_command_keeps_its_session_however_long_it_takes() -> None:
    scene = Scene(idle_timeout_s=10)
    initiator = scene.sessions.of(mac_of(1))
    command = initiator.outstanding.begin()
    scene.clock.pass_time(100)
    assert len(scene.sessions) == 1
    command.end()
    scene.clock.pass_time(20)
    assert len(scene.sessions) == 0


def test_a_session_that_opens_is_not_idle() -> None:
    scene = Scene(idle_timeout_s=10)
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    initiator = scene.sessions.of(mac_of(1))
    scene.clock.pass_time(100)
    scene.lun.held_opcodes = set()
    scene.lun.release()
    assert initiator.client is not None
    assert scene.sessions.opened(mac_of(1)) is initiator


def test_without_a_timeout_sessions_stay_and_there_is_no_timer() -> None:
    scene = Scene(idle_timeout_s=0)
    scene.sessions.of(mac_of(1))
    assert scene.clock.pending == 0
    scene.clock.pass_time(10**9)
    assert len(scene.sessions) == 1


def test_closing_leaves_no_timer() -> None:
    scene = Scene(idle_timeout_s=10)
    scene.sessions.of(mac_of(1))
    assert scene.clock.pending == 1
    scene.sessions.close()
    assert scene.clock.pending == 0


def test_in_a_full_table_who_is_heard_stays_however_long_ago_it_came() -> None:
    scene = Scene(limit=3)
    first = scene.sessions.of(mac_of(1))
    for number in range(2, 40):
        first.is_heard = True
        scene.sessions.of(mac_of(number))
        assert scene.names[0] == "02:00:00:00:00:01"
    assert len(scene.sessions) == 3


def test_when_everybody_is_busy_there_is_room_for_one_more() -> None:
    scene = Scene(limit=2)
    for number in (1, 2, 3):
        scene.sessions.of(mac_of(number)).outstanding.begin()
    assert len(scene.sessions) == 3


def test_commands_so_far_are_those_of_the_initiators_that_are_meant() -> None:
    scene = Scene()
    one, other = (scene.sessions.of(mac_of(number)).outstanding.begin() for number in (1, 2))
    assert scene.sessions.so_far(lambda mac: mac == mac_of(3)) == []
    assert scene.sessions.so_far(lambda mac: mac == mac_of(1)) == [one]
    assert scene.sessions.so_far(lambda mac: True) == [one, other]
    one.end()
    assert scene.sessions.so_far(lambda mac: True) == [other]


def test_commands_are_remembered_though_their_session_has_ended() -> None:
    scene = Scene()
    write = scene.sessions.of(mac_of(1)).outstanding.begin()
    scene.sessions.of(mac_of(2))
    scene.sessions.close()
    # The host is back, and so is the interface.
    read = scene.sessions.of(mac_of(1)).outstanding.begin()
    scene.sessions.close()
    assert scene.sessions.so_far(lambda mac: mac == mac_of(1)) == [write, read]
    assert scene.sessions.so_far(lambda mac: mac == mac_of(2)) == []
    write.end()
    assert scene.sessions.so_far(lambda mac: True) == [read]
    read.end()
    assert scene.sessions.so_far(lambda mac: True) == []


def test_an_initiator_knows_whether_it_is_fenced_off() -> None:
    scene = Scene()
    assert not scene.sessions.of(mac_of(1)).is_fenced
    assert scene.sessions.of(mac_of(9)).is_fenced


def _heard_again(scene: Scene, number: int) -> None:
    scene.sessions.of(mac_of(number))


def _heard_on_the_data_path(scene: Scene, number: int) -> None:
    initiator = scene.sessions.opened(mac_of(number))
    assert initiator is not None
    initiator.is_heard = True


@pytest.mark.parametrize("hear", [_heard_again, _heard_on_the_data_path])
def test_each_command_counts_alike_for_who_goes_whichever_way_it_takes(
    hear: Callable[[Scene, int], None],
) -> None:
    scene = Scene(limit=3)
    for number in (1, 2, 3):
        scene.sessions.of(mac_of(number))
    for number in (3, 1, 2):
        hear(scene, number)
    # All were heard: each loses its flag, and the first to have lost it goes.
    scene.sessions.of(mac_of(4))
    assert scene.names == ["02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:04"]
    hear(scene, 2)
    scene.sessions.of(mac_of(5))
    assert scene.names == ["02:00:00:00:00:02", "02:00:00:00:00:04", "02:00:00:00:00:05"]


def test_a_disabled_target_admits_nobody() -> None:
    scene = Scene()
    scene.target.is_enabled = False
    with pytest.raises(TargetError, match="not enabled"):
        scene.sessions.of(mac_of(1))
    assert len(scene.sessions) == 0


def test_a_target_that_has_lost_its_lun_leaves_no_session_behind() -> None:
    target = Target("aoe", "e1.1", 1)
    target.configure(luns={1: make_entry(), 2: make_entry()}, is_enabled=True)
    sessions = Sessions(
        target, ManualClock(), make_terms(), make_disks([]), lambda mac: None, lambda mac: None
    )
    with pytest.raises(AoeTargetError, match="expected LUN 0"):
        sessions.of(mac_of(1))
    assert target.sessions == ()
