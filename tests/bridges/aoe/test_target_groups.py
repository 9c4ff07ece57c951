# SPDX-License-Identifier: GPL-2.0-or-later
"""A target that shows initiators different devices, and changes that come at run time."""

from __future__ import annotations

from bridges.aoe.address import Address
from bridges.aoe.policy import Policy
from bridges.aoe.state import KeptState, TargetState
from bridges.aoe.target import AoeTarget
from scsi_backend.t10.alua import AccessState
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.target.device_group import DeviceGroup, TargetGroup
from scsi_backend.target.initiator_group import InitiatorGroup
from scsi_backend.target.initiator_pattern import InitiatorPattern
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.aoe.bench import (
    ANNOUNCEMENT,
    BROADCAST_MAC,
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REPLY_TO_OTHER,
    REQUEST_OF_OTHER,
    REQUEST_TO_ANYBODY,
    TAG,
    Bench,
    Lun,
    ManualClock,
    answer,
    ask,
    ata,
    ata_reply,
    padded,
    read_ext,
    reserve,
    write_ext,
)
from tests.bridges.aoe.ringed import MakeBench
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk, pattern
from tests.scsi_backend.reserving import CONFLICT, sign_in

_A, _B = CLIENT_MAC, OTHER_CLIENT_MAC
_NAME_B = "02:00:00:00:00:03"
_READ_B = ata("40 00 01 24 070000000000 0000", header=REQUEST_OF_OTHER)
_IDENTIFY = ata("00 00 01 ec 000000a00000 0000")
_IDENTIFY_B = ata("00 00 01 ec 000000a00000 0000", header=REQUEST_OF_OTHER)
_DISCOVERY = padded(f"{REQUEST_TO_ANYBODY} 01 {TAG}")
_TO_A = padded(ANNOUNCEMENT.replace(BROADCAST_MAC, _A))
_TO_B = padded(ANNOUNCEMENT.replace(BROADCAST_MAC, _B))
_OF_OTHER_DISK = ata_reply("40 00 00 40 070000000000 0000", b"\xee" * 512, header=REPLY_TO_OTHER)
_ABORTED_B = ata_reply("40 04 01 41 070000000000 0000", header=REPLY_TO_OTHER)


def _other_disk() -> Lun:
    """A disk of 2048 sectors, all alike."""
    vdisk = FaultyVdisk(2048)
    vdisk.name = "other"
    vdisk.data[:] = b"\xee" * len(vdisk.data)
    return Lun(vdisk)


def _group(pattern_text: str, *luns: Lun, name: str = "g") -> InitiatorGroup:
    entries = {number: LunEntry(lun.unit) for number, lun in enumerate(luns)}
    return InitiatorGroup(name, (InitiatorPattern.parse(pattern_text),), entries)


def _show_b(bench: Bench, *luns: Lun) -> list[bytes]:
    """Show host B these LUNs; return what was announced."""
    bench.scsi_target.configure(groups=[_group(_NAME_B, *luns)])
    return bench.port.take()


def _sectors(identify_reply: bytes) -> int:
    return int.from_bytes(identify_reply[36 + 200 : 36 + 208], "little")


def test_two_hosts_find_two_devices_at_one_address() -> None:
    bench = Bench()
    _show_b(bench, _other_disk())
    identity, other_identity = bench.exchange(_IDENTIFY, _IDENTIFY_B)
    assert (_sectors(identity), _sectors(other_identity)) == (1024, 2048)
    expected = ata_reply("40 00 00 40 070000000000 0000", pattern(7, 512))
    assert bench.exchange(read_ext(7, 1), _READ_B) == [expected, _OF_OTHER_DISK]


def test_a_host_that_is_shown_another_device_is_told_and_the_others_notice_nothing() -> None:
    bench = Bench()
    bench.exchange(read_ext(7, 1), _READ_B)
    before = bench.target.initiator(bytes.fromhex(_A))
    bench.lun.cdbs.clear()
    assert _show_b(bench, _other_disk()) == [_TO_B]
    assert bench.target.initiator(bytes.fromhex(_A)) is before
    assert bench.lun.cdbs == []
    assert bench.exchange(_READ_B) == [_OF_OTHER_DISK]
    assert bench.port.forgotten == 1


def test_what_was_begun_ends_at_the_device_that_it_was_meant_for() -> None:
    bench = Bench()
    bench.exchange(_READ_B)
    other = _other_disk()
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    begun = ata("41 00 01 34 070000000000 0000", b"\1" * 512, header=REQUEST_OF_OTHER)
    waits = ata("41 00 01 34 070000000000 0000", b"\2" * 512, header=REQUEST_OF_OTHER)
    bench.receive(begun)
    bench.receive(waits)
    _show_b(bench, other)
    bench.lun.release()
    done, failed = bench.port.take()
    assert (done[27], failed[27]) == (0x40, 0x41)
    assert bytes(bench.vdisk.data[7 * 512 : 8 * 512]) == b"\1" * 512
    assert bench.exchange(_READ_B) == [_OF_OTHER_DISK]


def test_writes_to_one_device_do_not_hold_up_those_to_another() -> None:
    bench = Bench()
    _show_b(bench, _other_disk())
    bench.exchange(read_ext(7, 1), _READ_B)
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    bench.receive(write_ext(7, bytes(512)))
    assert bench.exchange(_READ_B) == [_OF_OTHER_DISK]


def test_to_a_host_without_luns_the_target_does_not_exist() -> None:
    bench = Bench()
    bench.scsi_target.configure(luns={}, groups=[_group(_NAME_B, _other_disk())])
    assert bench.port.take() == [_TO_B]
    assert bench.exchange(_DISCOVERY, read_ext(7, 1), reserve("00 00")) == []
    bench.target.announce(bench.port)
    assert bench.port.take() == [_TO_B]


def test_a_client_that_loses_its_luns_fails_at_once_until_it_has_some_again() -> None:
    bench = Bench()
    bench.exchange(read_ext(7, 1), _READ_B)
    assert _show_b(bench) == []
    discovery = padded(f"{REQUEST_TO_ANYBODY.replace(_A, _B)} 01 {TAG}")
    assert bench.exchange(_READ_B, discovery) == [_ABORTED_B]
    assert [session.initiator_name for session in bench.scsi_target.sessions] == [
        "02:00:00:00:00:02"
    ]
    assert _show_b(bench, _other_disk()) == [_TO_B]
    assert bench.exchange(_READ_B) == [_OF_OTHER_DISK]


def test_a_client_whose_session_had_ended_is_told_too() -> None:
    bench = Bench(policy=Policy(idle_timeout_s=10))
    bench.exchange(_READ_B)
    bench.clock.pass_time(25)
    assert bench.scsi_target.sessions == ()
    _show_b(bench)
    assert bench.exchange(_READ_B) == [_ABORTED_B]


def test_a_size_is_announced_to_those_who_are_shown_the_device() -> None:
    bench, other = Bench(), _other_disk()
    _show_b(bench, other)
    bench.exchange(read_ext(7, 1), _READ_B)
    assert isinstance(other.unit.vdisk, FaultyVdisk)
    other.unit.vdisk.new_block_count = 4096
    other.unit.resync_size()
    for _ in range(2):
        bench.target.look_at_size()
    assert bench.port.take() == [_TO_B]
    # Its session hears of it, and says nothing more.
    assert bench.exchange(_READ_B) == [_OF_OTHER_DISK]
    bench.vdisk.new_block_count = 512
    bench.lun.unit.resync_size()
    bench.target.look_at_size()
    assert bench.port.take() == [padded(ANNOUNCEMENT)]


def test_one_device_on_standby_leaves_the_other_in_use() -> None:
    bench, other = Bench(), _other_disk()
    _show_b(bench, other)
    bench.exchange(read_ext(7, 1), _READ_B)
    group, ports = DeviceGroup("d"), TargetGroup("tg", 1, [bench.scsi_target])
    group.add_target_group(ports)
    group.add_device(other.unit)
    group.set_state(ports, AccessState.STANDBY)
    (refused,) = bench.exchange(_READ_B)
    assert refused[14:16].hex() == "1c03"
    assert [bench.target.admits_data(bytes.fromhex(mac)) for mac in (_A, _B)] == [True, False]
    bench.target.announce(bench.port)
    assert bench.port.take() == [padded(ANNOUNCEMENT)]
    group.set_state(ports, AccessState.ACTIVE)
    assert bench.exchange(_READ_B) == [_TO_B, _OF_OTHER_DISK]


def test_a_target_that_is_disabled_is_silent_and_one_that_is_enabled_announces() -> None:
    bench = Bench()
    bench.log_in()
    bench.scsi_target.is_enabled = False
    assert (bench.port.take(), bench.port.forgotten) == ([], 1)
    assert bench.exchange(_DISCOVERY, read_ext(7, 1), reserve("00 00")) == []
    assert bench.scsi_target.sessions == ()
    bench.scsi_target.is_enabled = True
    assert bench.port.take() == [padded(ANNOUNCEMENT)]
    assert len(bench.exchange(read_ext(7, 1))) == 1


def test_only_hosts_of_the_lists_that_are_shown_something_are_told() -> None:
    macs = (bytes.fromhex(_A), bytes.fromhex(_B))
    bench = Bench(state=KeptState(TargetState(mask_list=macs)))
    assert bench.announcements == [_TO_A, _TO_B]
    assert _show_b(bench) == []
    bench.target.announce(bench.port)
    assert bench.port.take() == [_TO_A]
    bench.scsi_target.configure(luns={0: LunEntry(_other_disk().unit)})
    assert bench.port.take() == [_TO_A]


def test_a_reserve_list_is_of_all_the_devices_and_follows_them() -> None:
    bench, other = Bench(), _other_disk()
    bench.exchange(reserve(f"01 01 {_A}"))
    local = sign_in(other.unit, "local", 2)
    read = cdbs.block(cdbs.READ, 16, 0, 1)
    assert local.send(read, None, 512) != CONFLICT
    _show_b(bench, other)
    assert local.send(read, None, 512) == CONFLICT
    _show_b(bench)
    assert local.send(read, None, 512) != CONFLICT
    assert bench.exchange(reserve("00 00")) == [answer(f"00 01 {_A}", 3)]


def test_flows_end_with_what_they_were_made_for(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.exchange(read_ext(7, 1))
    bench.lun.cdbs.clear()
    other = _other_disk()
    bench.scsi_target.configure(luns={0: LunEntry(other.unit)})
    announcement, reply = bench.exchange(read_ext(7, 1))
    assert (announcement[:6].hex(), announcement[19]) == (BROADCAST_MAC, 1)
    assert reply == ata_reply("40 00 00 40 070000000000 0000", b"\xee" * 512)
    assert bench.lun.cdbs == []
    bench.scsi_target.configure(luns={})
    assert bench.exchange(read_ext(7, 1)) == [ata_reply("40 04 01 41 070000000000 0000")]
    bench.scsi_target.is_enabled = False
    assert bench.exchange(read_ext(7, 1)) == []


def test_flows_outlive_a_change_that_does_not_concern_their_host(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.scsi_target.configure(groups=[_group("*:09", _other_disk())])
    # A batch of frames through a flow is one command.
    frames = [read_ext(lba, 2) for lba in range(0, 16, 2)]
    assert len(bench.exchange(*frames)) == 8
    assert bench.lun.opcodes() == [Opcode.READ_16]


def test_a_lun_more_beside_the_one_that_is_served_is_nothing_to_a_client(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    entries = {0: LunEntry(bench.lun.unit), 5: LunEntry(_other_disk().unit)}
    before = bench.target.initiator(bytes.fromhex(_A))
    bench.scsi_target.configure(luns=entries)
    expected = ata_reply("40 00 00 40 070000000000 0000", pattern(7, 512))
    assert bench.exchange(read_ext(7, 1)) == [expected]
    assert bench.target.initiator(bytes.fromhex(_A)) is before


def test_a_change_of_durability_is_in_force_for_the_next_frame(make_bench: MakeBench) -> None:
    bench = make_bench()
    fua = []
    for durable in (True, False):
        bench.target.durable = durable
        for _ in range(2):
            bench.exchange(write_ext(7, bytes(512)))
            fua.append(bool(bench.lun.cdbs[-1][1] & 0x08))
    assert fua == [True, True, False, False]


def test_a_target_that_has_ended_is_silent_and_lets_go_of_everything() -> None:
    bench = Bench()
    bench.log_in()
    bench.exchange(reserve(f"01 01 {_A}"))
    local = sign_in(bench.lun.unit, "local", 2)
    ended: list[bool] = []
    bench.target.end(lambda: ended.append(True))
    assert (ended, bench.scsi_target.sessions) == ([True], ())
    assert bench.exchange(_DISCOVERY, read_ext(7, 1), ask("0000 0000 00 00 0000", 1)) == []
    bench.scsi_target.configure(is_enabled=False)
    bench.scsi_target.configure(is_enabled=True)
    bench.target.look_at_size()
    bench.target.announce(bench.port)
    assert bench.port.take() == []
    assert local.send(cdbs.block(cdbs.READ, 16, 0, 1), None, 512) != CONFLICT
    assert bench.clock.pending == 0
    bench.target.end(lambda: ended.append(True))
    assert ended == [True] * 2


def test_a_target_has_ended_when_everything_under_way_is_answered_and_kept() -> None:
    finish = []
    state = KeptState(None, lambda value, done: finish.append(done))
    bench, ended = Bench(state=state), list[bool]()
    bench.log_in()
    bench.lun.held_opcodes = {Opcode.WRITE_16, Opcode.TEST_UNIT_READY}
    bench.receive(write_ext(7, bytes(512)))
    bench.receive(_IDENTIFY)
    bench.receive(reserve(f"01 01 {_A}"))
    bench.target.end(lambda: ended.append(True))
    bench.lun.release()
    assert ended == []
    bench.lun.release()
    assert ended == []
    finish.pop()(None)
    assert ended == [True]
    assert len(bench.port.take()) == 3
    assert bench.port.allocated == 0


def test_a_target_that_cannot_end_lets_go_all_the_same() -> None:
    bench = Bench()
    bench.log_in()
    bench.exchange(reserve(f"01 01 {_A}"))
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    bench.receive(write_ext(7, bytes(512)))
    bench.target.end(lambda: None)
    assert bench.lun.unit.reservations.has_legacy
    bench.target.let_go()
    assert not bench.lun.unit.reservations.has_legacy
    bench.lun.release()
    assert len(bench.port.take()) == 1


def test_a_disabled_target_keeps_what_it_has_reserved() -> None:
    bench = Bench()
    bench.exchange(reserve(f"01 01 {_A}"))
    bench.scsi_target.is_enabled = False
    assert bench.lun.unit.reservations.has_legacy


def test_a_target_can_be_made_again_behind_the_same_scsi_target() -> None:
    bench = Bench()
    bench.target.end(lambda: None)
    again = AoeTarget(Address(1, 2), bench.scsi_target, ManualClock())
    again.attach(bench.port)
    assert bench.port.take() == [padded(ANNOUNCEMENT.replace("0001 01 01", "0001 02 01"))]


def test_a_target_without_luns_is_there_for_nobody_until_it_has_some() -> None:
    bench = Bench()
    target = Target("aoe", "e1.2", 2)
    target.is_enabled = True
    AoeTarget(Address(1, 2), target, ManualClock()).attach(bench.port)
    assert bench.port.take() == []
    target.add_lun(0, LunEntry(_other_disk().unit))
    assert len(bench.port.take()) == 1
