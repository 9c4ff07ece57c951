# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the sessions of initiators."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridges.aoe.address import Address
from bridges.aoe.disk import Disk, Disks
from bridges.aoe.gate import Gate
from bridges.aoe.policy import Policy
from bridges.aoe.sessions import Sessions, Terms
from bridges.aoe.views import AoeTargetError
from bridges.recovery import Reply, ScsiError
from bridges.sparing_log import SparingLog
from scsi_backend.servers.disk import disk
from scsi_backend.t10 import sense
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target, TargetError
from tests.bridges.aoe.bench import Lun, ManualClock
from tests.scsi_backend.fakes import FaultyVdisk

_NOT_READY = Sense(0x02, 0x0403)


class _Waiting:
    """A command that notes what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.error: ScsiError | None = None

    def start(self) -> None:
        self.events.append("start")

    def reject(self, error: ScsiError) -> None:
        self.events.append("reject")
        self.error = error


def _log() -> SparingLog:
    return SparingLog(lambda: 0.0, lambda text: None)


def _terms(idle_timeout_s: int = 600) -> Terms:
    return Terms(
        Policy(idle_timeout_s=idle_timeout_s),
        Gate(4),
        _log(),
        lambda mac: mac == _mac(9),
    )


def _disks(announced: list[int]) -> Disks:
    """Disks whose announcements are noted: how many blocks there are."""

    def announce(disk: Disk) -> None:
        announced.append(disk.unit.block_count)

    return Disks(Address(1, 1), announce, lambda: None)


class _Scene:
    """A target with one LUN, and its sessions."""

    def __init__(self, limit: int = 3, idle_timeout_s: int = 600) -> None:
        self.vdisk = FaultyVdisk()
        self.lun = Lun(self.vdisk)
        self.target = Target("aoe", "e1.1", 1)
        self.target.add_lun(0, LunEntry(self.lun.unit))
        self.target.is_enabled = True
        self.announced: list[int] = []
        self.gone = 0
        self.clients: list[bytes] = []
        self.clock = ManualClock()
        self.sessions = Sessions(
            self.target,
            self.clock,
            _terms(idle_timeout_s),
            _disks(self.announced),
            self.clients.append,
            self._count_gone,
            limit,
        )

    def _count_gone(self, mac: bytes | None) -> None:
        self.gone += 1

    @property
    def names(self) -> list[str]:
        return [session.initiator_name for session in self.target.sessions]


def _mac(number: int) -> bytes:
    return b"\x02\0\0\0\0" + bytes((number,))


def test_first_command_opens_a_session_named_after_the_mac() -> None:
    scene = _Scene()
    initiator = scene.sessions.of(bytes.fromhex("0200deadbeef"))
    assert scene.names == ["02:00:de:ad:be:ef"]
    assert initiator.client is not None
    assert initiator.client.info.block_count == 1024
    assert (scene.announced, scene.clients) == ([], [bytes.fromhex("0200deadbeef")])


def test_an_initiator_keeps_its_session() -> None:
    scene = _Scene()
    assert scene.sessions.of(_mac(1)) is scene.sessions.of(_mac(1))
    assert len(scene.sessions) == 1


def test_an_initiator_is_found_only_while_its_session_is_open() -> None:
    scene = _Scene()
    assert scene.sessions.opened(_mac(1)) is None
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    initiator = scene.sessions.of(_mac(1))
    assert scene.sessions.opened(_mac(1)) is None
    scene.lun.held_opcodes = set()
    scene.lun.release()
    assert scene.sessions.opened(_mac(1)) is initiator
    assert len(scene.sessions) == 1
    scene.sessions.close()
    assert scene.sessions.opened(_mac(1)) is None


def test_when_the_table_is_full_the_longest_silent_initiator_goes() -> None:
    scene = _Scene(limit=3)
    for number in (1, 2, 3, 1, 4):
        scene.sessions.of(_mac(number))
    assert scene.names == ["02:00:00:00:00:01", "02:00:00:00:00:03", "02:00:00:00:00:04"]
    assert scene.gone == 1


def test_an_initiator_with_commands_under_way_stays() -> None:
    scene = _Scene(limit=2)
    busy = scene.sessions.of(_mac(1))
    busy.outstanding.begin()
    scene.sessions.of(_mac(2))
    scene.sessions.of(_mac(3))
    assert scene.names == ["02:00:00:00:00:01", "02:00:00:00:00:03"]


def test_forged_macs_do_not_add_up() -> None:
    scene = _Scene(limit=16)
    for number in range(1000):
        scene.sessions.of(number.to_bytes(6, "big"))
    assert len(scene.sessions) == len(scene.target.sessions) == 16


def test_commands_wait_until_the_session_is_open() -> None:
    scene = _Scene()
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    initiator = scene.sessions.of(_mac(1))
    commands = [_Waiting(), _Waiting()]
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
    scene = _Scene()
    scene.lun.held_opcodes = {Opcode.TEST_UNIT_READY}
    initiator = scene.sessions.of(_mac(1))
    command = _Waiting()
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
    late = _Waiting()
    initiator.wait(late)
    assert late.events == ["reject"]
    scene.lun.answers.clear()
    assert scene.sessions.of(_mac(1)).client is not None


def test_a_change_of_the_lun_is_told() -> None:
    scene = _Scene()
    client = scene.sessions.of(_mac(1)).client
    assert client is not None
    scene.vdisk.new_block_count = 2048
    scene.lun.unit.resync_size()
    client.refresh(lambda: None)
    assert scene.announced == [2048]


def test_closing_ends_every_session() -> None:
    scene = _Scene()
    scene.sessions.of(_mac(1))
    scene.sessions.of(_mac(2))
    assert scene.gone == 0
    scene.sessions.close()
    assert scene.names == []
    assert len(scene.sessions) == 0
    assert scene.gone == 1


def test_closing_while_a_session_opens_ends_it_once() -> None:
    scene = _Scene()
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    initiator = scene.sessions.of(_mac(1))
    command = _Waiting()
    initiator.wait(command)
    scene.sessions.close()
    held, _ = scene.lun.held.pop()
    held.check_condition(_NOT_READY)
    assert command.events == ["reject"]
    assert scene.names == []


def test_an_idle_session_ends_within_twice_the_timeout() -> None:
    scene = _Scene(idle_timeout_s=10)
    scene.sessions.of(_mac(1))
    scene.clock.pass_time(11)
    assert len(scene.sessions) == 1
    scene.clock.pass_time(9)
    assert (len(scene.sessions), scene.names, scene.gone) == (0, [], 1)
    # With nobody to watch there is no timer.
    assert scene.clock.pending == 0
    assert scene.sessions.of(_mac(1)).client is not None


def test_a_session_does_not_end_within_the_timeout() -> None:
    scene = _Scene(idle_timeout_s=10)
    initiator = scene.sessions.of(_mac(1))
    scene.sessions.of(_mac(2))
    for _ in range(20):
        scene.clock.pass_time(9)
        # As the data path does.
        initiator.is_heard = True
    assert scene.names == ["02:00:00:00:00:01"]
    assert scene.sessions.of(_mac(1)) is initiator


def test_a_command_keeps_its_session_however_long_it_takes() -> None:
    scene = _Scene(idle_timeout_s=10)
    initiator = scene.sessions.of(_mac(1))
    command = initiator.outstanding.begin()
    scene.clock.pass_time(100)
    assert len(scene.sessions) == 1
    command.end()
    scene.clock.pass_time(20)
    assert len(scene.sessions) == 0


def test_a_session_that_opens_is_not_idle() -> None:
    scene = _Scene(idle_timeout_s=10)
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    initiator = scene.sessions.of(_mac(1))
    scene.clock.pass_time(100)
    scene.lun.held_opcodes = set()
    scene.lun.release()
    assert initiator.client is not None
    assert scene.sessions.opened(_mac(1)) is initiator


def test_without_a_timeout_sessions_stay_and_there_is_no_timer() -> None:
    scene = _Scene(idle_timeout_s=0)
    scene.sessions.of(_mac(1))
    assert scene.clock.pending == 0
    scene.clock.pass_time(10**9)
    assert len(scene.sessions) == 1


def test_closing_leaves_no_timer() -> None:
    scene = _Scene(idle_timeout_s=10)
    scene.sessions.of(_mac(1))
    assert scene.clock.pending == 1
    scene.sessions.close()
    assert scene.clock.pending == 0


def test_in_a_full_table_who_is_heard_stays_however_long_ago_it_came() -> None:
    scene = _Scene(limit=3)
    first = scene.sessions.of(_mac(1))
    for number in range(2, 40):
        first.is_heard = True
        scene.sessions.of(_mac(number))
        assert scene.names[0] == "02:00:00:00:00:01"
    assert len(scene.sessions) == 3


def test_when_everybody_is_busy_there_is_room_for_one_more() -> None:
    scene = _Scene(limit=2)
    for number in (1, 2, 3):
        scene.sessions.of(_mac(number)).outstanding.begin()
    assert len(scene.sessions) == 3


def test_commands_so_far_are_those_of_the_initiators_that_are_meant() -> None:
    scene = _Scene()
    one, other = (scene.sessions.of(_mac(number)).outstanding.begin() for number in (1, 2))
    assert scene.sessions.so_far(lambda mac: mac == _mac(3)) == []
    assert scene.sessions.so_far(lambda mac: mac == _mac(1)) == [one]
    assert scene.sessions.so_far(lambda mac: True) == [one, other]
    one.end()
    assert scene.sessions.so_far(lambda mac: True) == [other]


def test_commands_are_remembered_though_their_session_has_ended() -> None:
    scene = _Scene()
    write = scene.sessions.of(_mac(1)).outstanding.begin()
    scene.sessions.of(_mac(2))
    scene.sessions.close()
    # The host is back, and so is the interface.
    read = scene.sessions.of(_mac(1)).outstanding.begin()
    scene.sessions.close()
    assert scene.sessions.so_far(lambda mac: mac == _mac(1)) == [write, read]
    assert scene.sessions.so_far(lambda mac: mac == _mac(2)) == []
    write.end()
    assert scene.sessions.so_far(lambda mac: True) == [read]
    read.end()
    assert scene.sessions.so_far(lambda mac: True) == []


def test_an_initiator_knows_whether_it_is_fenced_off() -> None:
    scene = _Scene()
    assert not scene.sessions.of(_mac(1)).is_fenced
    assert scene.sessions.of(_mac(9)).is_fenced


def _heard_again(scene: _Scene, number: int) -> None:
    scene.sessions.of(_mac(number))


def _heard_on_the_data_path(scene: _Scene, number: int) -> None:
    initiator = scene.sessions.opened(_mac(number))
    assert initiator is not None
    initiator.is_heard = True


@pytest.mark.parametrize("hear", [_heard_again, _heard_on_the_data_path])
def test_each_command_counts_alike_for_who_goes_whichever_way_it_takes(
    hear: Callable[[_Scene, int], None],
) -> None:
    scene = _Scene(limit=3)
    for number in (1, 2, 3):
        scene.sessions.of(_mac(number))
    for number in (3, 1, 2):
        hear(scene, number)
    # All were heard: each loses its flag, and the first to have lost it goes.
    scene.sessions.of(_mac(4))
    assert scene.names == ["02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:04"]
    hear(scene, 2)
    scene.sessions.of(_mac(5))
    assert scene.names == ["02:00:00:00:00:02", "02:00:00:00:00:04", "02:00:00:00:00:05"]


def test_a_disabled_target_admits_nobody() -> None:
    scene = _Scene()
    scene.target.is_enabled = False
    with pytest.raises(TargetError, match="not enabled"):
        scene.sessions.of(_mac(1))
    assert len(scene.sessions) == 0


def _entry() -> LunEntry:
    return LunEntry(disk(FaultyVdisk()))


def test_a_target_that_has_lost_its_lun_leaves_no_session_behind() -> None:
    target = Target("aoe", "e1.1", 1)
    target.configure(luns={1: _entry(), 2: _entry()}, is_enabled=True)
    sessions = Sessions(
        target, ManualClock(), _terms(), _disks([]), lambda mac: None, lambda mac: None
    )
    with pytest.raises(AoeTargetError, match="expected LUN 0"):
        sessions.of(_mac(1))
    assert target.sessions == ()


def test_who_is_shown_another_device_gets_a_client_anew_in_the_same_session() -> None:
    scene = _Scene()
    stays, moves = scene.sessions.of(_mac(1)), scene.sessions.of(_mac(2))
    command = moves.outstanding.begin()
    other = _entry()
    group = InitiatorGroup("g", (InitiatorPattern.parse("*:02"),), {0: other})
    scene.target.configure(groups=[group])
    scene.sessions.follow()
    assert scene.sessions.of(_mac(1)) is stays
    moved = scene.sessions.of(_mac(2))
    assert moved is not moves
    assert (moved.session, moved.nexus.unit) == (moves.session, other.unit)
    assert moved.client is not None
    assert moved.disk is not moves.disk
    assert scene.gone == 1
    # What was under way is still known of.
    assert scene.sessions.so_far(lambda mac: mac == _mac(2)) == [command]
    scene.sessions.follow()
    assert scene.sessions.of(_mac(2)) is moved


def test_what_waits_for_a_session_that_leads_elsewhere_meanwhile_is_rejected() -> None:
    scene = _Scene()
    scene.lun.held_opcodes = {Opcode.INQUIRY}
    opening, command = scene.sessions.of(_mac(1)), _Waiting()
    opening.wait(command)
    scene.target.configure(luns={0: _entry()})
    scene.sessions.follow()
    assert scene.sessions.opened(_mac(1)) is not None
    scene.lun.held_opcodes = set()
    scene.lun.release()
    assert command.events == ["reject"]
    assert command.error is not None
    assert command.error.reply.sense == sense.LUN_NOT_SUPPORTED
    assert scene.sessions.opened(_mac(1)) is not opening
    assert len(scene.sessions) == 1


@pytest.mark.parametrize("numbers", [(), (1, 2)])
def test_who_is_shown_nothing_any_more_has_no_session(numbers: tuple[int, ...]) -> None:
    scene = _Scene()
    command = scene.sessions.of(_mac(1)).outstanding.begin()
    scene.target.configure(luns={number: _entry() for number in numbers})
    scene.sessions.follow()
    assert (len(scene.sessions), scene.names, scene.gone) == (0, [], 1)
    assert scene.clients == [_mac(1)] * 2
    assert command in scene.sessions.under_way()


def test_what_is_under_way_is_of_all_initiators_and_of_all_kinds() -> None:
    scene = _Scene()
    begun = [
        scene.sessions.of(_mac(1)).outstanding.begin(),
        scene.sessions.of(_mac(2)).outstanding.begin(is_harmless=True),
    ]
    scene.sessions.close()
    busy = [each for each in scene.sessions.under_way() if each.count]
    assert set(busy) == set(begun)


def test_whom_it_may_not_have_been_told_everything_looks_again() -> None:
    scene = _Scene()
    one, _ = scene.sessions.of(_mac(1)), scene.sessions.of(_mac(2))
    assert scene.sessions.macs(lambda mac: mac != _mac(2)) == {_mac(1)}
    scene.lun.cdbs.clear()
    scene.sessions.look_again([_mac(1)])
    assert Opcode.INQUIRY in scene.lun.opcodes()
    assert one.client is not None
