# SPDX-License-Identifier: GPL-2.0-or-later
"""The reserve list of a target and SCSI's reservations, each as the other's door sees it."""

from __future__ import annotations

from collections.abc import Callable

from bridges.aoe.address import Address
from bridges.aoe.fence import Commands
from bridges.aoe.policy import Policy, ReservationConflict
from bridges.aoe.reservation import ListReservation
from bridges.aoe.state import MAX_WAITING_CHANGES, KeptState, TargetState
from bridges.aoe.target import AoeTarget
from scsi_backend.servers.disk import disk
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from scsi_backend.target.task_management import i_t_nexus_reset, logical_unit_reset
from tests.bridges.aoe.bench import (
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REPLY_TO_OTHER,
    REQUEST_OF_OTHER,
    Bench,
    CollectingPort,
    ManualClock,
    answer,
    ata,
    ata_reply,
    error_reply,
    read_ext,
    reserve,
    write_ext,
)
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator
from tests.scsi_backend.reserving import (
    CLEAR,
    CONFLICT,
    GOOD,
    IGNORE,
    WE,
    Store,
    pr_out,
    register,
    send_out,
    sign_in,
)
from tests.scsi_backend.reserving import reserve as reserve_persistently

_A, _B = CLIENT_MAC, OTHER_CLIENT_MAC
_LIST_A = (bytes.fromhex(_A),)
_READ = cdbs.block(cdbs.READ, 16, 0, 1)
_RESERVE_6, _RELEASE_6 = cdbs.raw("16" + "00" * 5), cdbs.raw("17" + "00" * 5)
_READ_B = ata("40 00 01 24 070000000000 0000", header=REQUEST_OF_OTHER)
_IDENTIFY_B = ata("00 00 01 ec 000000a00000 0000", header=REQUEST_OF_OTHER)
_SET_A, _FORCE_A = reserve(f"01 01 {_A}"), reserve(f"02 01 {_A}")
_DONE, _FORCED = answer(f"01 01 {_A}", 3), answer(f"02 01 {_A}", 3)
_REFUSED = [answer("01 00", 3, error_reply(6)), answer("02 00", 3, error_reply(6))]
# The port of e1.1 is 1.
_ELSEWHERE = 2


def _local(bench: Bench, name: str = "local") -> Initiator:
    return sign_in(bench.lun.unit, name, _ELSEWHERE)


def _reads(initiator: Initiator) -> bool:
    outcome = initiator.send(_READ, None, 512)
    assert outcome.status in (GOOD.status, CONFLICT.status)
    return outcome.status == GOOD.status


def test_a_list_keeps_other_doors_out_until_it_is_empty() -> None:
    bench = Bench()
    local = _local(bench)
    assert bench.exchange(_SET_A) == [_DONE]
    assert not _reads(local)
    assert local.send(cdbs.TEST_UNIT_READY) == GOOD
    assert len(bench.exchange(read_ext(7, 1))[0]) == 36 + 512
    bench.exchange(reserve("01 00"))
    assert _reads(local)


def test_its_holders_are_so_through_this_target_alone() -> None:
    bench = Bench()
    bench.exchange(_SET_A)
    name = "02:00:00:00:00:02"
    here, elsewhere = sign_in(bench.lun.unit, name), sign_in(bench.lun.unit, name, _ELSEWHERE)
    assert [_reads(here), _reads(elsewhere)] == [True, False]
    assert here.session.nexuses[0].dispatch is bench.lun.unit.dispatch


def test_a_list_that_was_kept_is_in_force_as_soon_as_the_target_is_there() -> None:
    bench = Bench(state=KeptState(TargetState(reserve_list=_LIST_A)))
    assert not _reads(_local(bench))


def test_what_the_list_keeps_out_cannot_reserve() -> None:
    bench = Bench()
    local = _local(bench)
    bench.exchange(_SET_A)
    assert local.send(_RESERVE_6) == CONFLICT
    assert send_out(local, IGNORE, 0, 0xA) == CONFLICT
    assert local.send(_RELEASE_6) == GOOD


def test_no_reset_ends_a_list() -> None:
    bench = Bench()
    bench.log_in()
    bench.exchange(_SET_A)
    local = _local(bench)
    (session,) = bench.scsi_target.sessions
    i_t_nexus_reset([session.nexuses[0]], lambda: None)
    logical_unit_reset(bench.lun.unit, lambda: None)
    bench.target.detach(bench.port)
    local.send(cdbs.TEST_UNIT_READY)
    assert not _reads(local)


def test_what_spc_2_has_reserved_for_somebody_cannot_be_reserved_not_by_force_either() -> None:
    bench = Bench()
    local = _local(bench)
    local.good(_RESERVE_6)
    assert bench.exchange(_SET_A, _FORCE_A) == _REFUSED
    assert bench.exchange(read_ext(7, 1)) == [ata_reply("40 04 01 41 070000000000 0000")]
    local.good(_RELEASE_6)
    assert bench.exchange(_SET_A) == [_DONE]


def test_what_has_registrants_cannot_be_reserved_not_by_force_either() -> None:
    bench = Bench()
    local = _local(bench)
    register(local, 0xA)
    assert bench.exchange(_SET_A, _FORCE_A) == _REFUSED
    reserve_persistently(local, 0xA, WE)
    assert bench.exchange(_SET_A, _FORCE_A) == _REFUSED
    assert send_out(local, CLEAR, 0xA) == GOOD
    assert bench.exchange(_FORCE_A) == [_FORCED]


def test_a_release_is_never_a_conflict() -> None:
    bench = Bench(state=KeptState(TargetState(reserve_list=_LIST_A)))
    bench.lun.unit.reservations.keep_for("somebody", [_local(bench).session.id])
    again = answer(f"01 01 {_A}", 3, error_reply(6))
    assert bench.exchange(_SET_A, reserve("01 00")) == [again, answer("01 00", 3)]


def test_a_list_is_not_set_before_a_registration_that_is_being_stored() -> None:
    bench = Bench()
    local = _local(bench)
    store = bench.lun.unit.reservations.store = Store()
    store.is_held = True
    registers = local.start(pr_out(IGNORE, 0, 24), bytes(15) + b"\x0a" + bytes(8))
    assert bench.exchange(_SET_A) == []
    # Nothing else waits for it.
    assert len(bench.exchange(read_ext(7, 1), reserve("00 00"))) == 2
    store.held.pop()(0)
    assert registers.outcome == GOOD
    assert bench.port.take() == _REFUSED[:1]


def test_a_target_ends_after_a_list_that_waits_for_a_device_that_it_has_lost() -> None:
    bench = Bench()
    local = _local(bench)
    store = bench.lun.unit.reservations.store = Store()
    store.is_held = True
    local.start(pr_out(IGNORE, 0, 24), bytes(15) + b"\x0a" + bytes(8))
    bench.receive(_SET_A)
    bench.scsi_target.configure(luns={})
    ended: list[bool] = []
    bench.target.end(lambda: ended.append(True))
    assert ended == []
    store.held.pop()(0)
    assert (ended, bench.port.allocated) == ([True], 0)


def test_a_list_that_is_kept_as_its_target_is_made_again_fences_all_the_same() -> None:
    finish: list[Callable[[None], None]] = []
    state = KeptState(None, lambda value, done: finish.append(done))
    bench = Bench(state=state)
    bench.exchange(_READ_B)
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    bench.receive(ata("41 00 01 34 070000000000 0000", bytes(512), header=REQUEST_OF_OTHER))
    bench.receive(_SET_A)
    bench.target.end(lambda: None)
    again = AoeTarget(Address(1, 1), bench.scsi_target, bench.clock, state=state)
    finish.pop()(None)
    assert bench.port.take() == []
    bench.lun.release()
    written, reserved = bench.port.take()
    assert (written[27], reserved) == (0x40, _DONE)
    assert not again.admits_data(bytes.fromhex(_B))
    assert bench.lun.unit.reservations.has_legacy
    again.end(lambda: None)
    assert not bench.lun.unit.reservations.has_legacy


def test_a_target_does_not_wait_for_registrations_of_others_to_end() -> None:
    bench = Bench()
    store = bench.lun.unit.reservations.store = Store()
    store.is_held = True
    _local(bench).start(pr_out(IGNORE, 0, 24), bytes(15) + b"\x0a" + bytes(8))
    ended: list[bool] = []
    bench.target.end(lambda: ended.append(True))
    assert ended == [True]


def test_a_registration_waits_for_a_list_that_is_being_kept() -> None:
    saves: list[TargetState] = []
    finish = []

    def save(state: TargetState, done: object) -> None:
        saves.append(state)
        finish.append(done)

    bench = Bench(state=KeptState(None, save))
    local = _local(bench)
    bench.exchange(_SET_A)
    registers = local.start(pr_out(IGNORE, 0, 24), bytes(15) + b"\x0a" + bytes(8))
    assert not registers.is_done
    (done,) = finish
    assert callable(done)
    done(None)
    assert registers.outcome == CONFLICT
    assert bench.port.take() == [_DONE]


def test_a_flood_of_requests_is_not_hoarded_while_a_registration_is_stored() -> None:
    bench = Bench()
    local = _local(bench)
    register(local, 0xA)
    store = bench.lun.unit.reservations.store = Store()
    store.is_held = True
    local.start(pr_out(CLEAR, 0, 24), bytes(7) + b"\x0a" + bytes(16))
    for _ in range(1000):
        bench.receive(_SET_A)
    assert bench.port.allocated == MAX_WAITING_CHANGES
    store.held.pop()(0)
    assert bench.port.take() == [_DONE] * MAX_WAITING_CHANGES


def test_the_reply_says_that_nothing_of_other_doors_is_under_way_any_more() -> None:
    bench = Bench()
    local = _local(bench)
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    write = local.start(cdbs.block(cdbs.WRITE, 16, 0, 1), bytes(512))
    assert bench.exchange(_SET_A) == []
    assert not _reads(local)
    bench.lun.release()
    assert write.outcome == GOOD
    assert bench.port.take() == [_DONE]


def test_the_reply_says_so_of_a_target_too_that_had_the_port_before() -> None:
    bench = Bench()
    former = sign_in(bench.lun.unit, "former", port=1)
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    former.start(cdbs.block(cdbs.WRITE, 16, 0, 1), bytes(512))
    former.session.close()
    assert bench.exchange(_SET_A) == []
    bench.lun.release()
    assert bench.port.take() == [_DONE]


def test_two_targets_of_one_device_cannot_both_be_reserved() -> None:
    bench = Bench()
    other = Target("aoe", "e1.2", _ELSEWHERE)
    other.add_lun(0, LunEntry(bench.lun.unit))
    other.is_enabled = True
    second, port = AoeTarget(Address(1, 2), other, ManualClock()), CollectingPort()

    def ask_second(frame: bytes) -> bytes:
        changed = bytearray(frame)
        changed[18] = 2
        second.receive(memoryview(changed), port)
        (reply,) = port.take()
        return reply

    bench.exchange(_SET_A)
    for command in (1, 2):
        assert ask_second(reserve(f"{command:02x} 01 {_A}"))[14:16] == b"\x1c\6"
    # The same host, but another nexus.
    assert ask_second(read_ext(7, 1))[27] == 0x41
    bench.exchange(reserve("01 00"))
    assert ask_second(_SET_A)[14:16] == b"\x18\0"
    assert bench.exchange(read_ext(7, 1)) == [ata_reply("40 04 01 41 070000000000 0000")]


def test_whom_another_targets_list_keeps_out_is_told_as_the_policy_has_it() -> None:
    bench = Bench(policy=Policy(reservation_conflict=ReservationConflict.AOE))
    bench.log_in()
    bench.lun.unit.reservations.keep_for("e1.2", [_local(bench).session.id])
    (refused,) = bench.exchange(read_ext(7, 1))
    assert refused[14:16] == b"\x1c\6"


def test_what_waits_in_order_when_its_host_is_fenced_off_gets_aoes_own_error() -> None:
    bench = Bench()
    bench.exchange(read_ext(0, 1), _READ_B)
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    bench.receive(write_ext(7, bytes(512)))
    bench.receive(_READ_B)
    bench.receive(_SET_A)
    assert bench.port.take() == []
    bench.lun.release()
    written, refused, reserved = bench.port.take()
    assert written[27] == 0x40
    header = error_reply(6, REPLY_TO_OTHER)
    assert refused == ata_reply("40 00 01 24 070000000000 0000", header=header)
    assert reserved == _DONE


def test_who_has_logged_in_while_it_was_kept_out_knows_everything_afterwards() -> None:
    bench = Bench()
    bench.exchange(_SET_A)
    (kept_out,) = bench.exchange(_IDENTIFY_B)
    bench.exchange(reserve("01 00"))
    (let_in,) = bench.exchange(_IDENTIFY_B)
    (of_holder,) = bench.exchange(ata("00 00 01 ec 000000a00000 0000"))
    assert let_in[36:] == of_holder[36:]
    assert len(kept_out) == len(let_in)


def test_a_device_that_the_target_no_longer_leads_to_is_everybodys_again() -> None:
    other = FaultyVdisk(64)
    other.name = "other"
    one, two = disk(FaultyVdisk(64)), disk(other)
    initiators = [sign_in(unit, "local", _ELSEWHERE) for unit in (one, two)]
    reservation = ListReservation(1)
    reservation.take(_LIST_A)
    seen = []
    for units in ((one,), (one, two), (two,), ()):
        reservation.lead_to(units)
        seen.append([_reads(each) for each in initiators])
    assert seen == [[False, True], [False, False], [True, False], [True, True]]


def test_without_a_list_nothing_is_waited_for() -> None:
    bench = Bench()
    reservation = ListReservation(1)
    reservation.lead_to([bench.lun.unit])
    assert reservation.commands_kept_out() == ()
    reservation.take(_LIST_A)
    (commands,) = reservation.commands_kept_out()
    assert isinstance(commands, Commands)
    assert commands.count == 0
