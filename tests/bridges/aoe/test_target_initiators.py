# SPDX-License-Identifier: GPL-2.0-or-later
"""A target, its ports and its initiators: who is served, who is told, and when it ends."""

from __future__ import annotations

import pytest

from bridges.aoe.address import Address
from bridges.aoe.policy import Policy
from bridges.aoe.target import AoeTarget
from bridges.aoe.views import AoeTargetError
from scsi_backend.servers.disk import disk
from scsi_backend.target.initiator_pattern import Host
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target, TargetError
from tests.bridges.aoe.bench import (
    ANNOUNCEMENT,
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REQUEST,
    TAG,
    TARGET_MAC,
    Bench,
    CollectingPort,
    ManualClock,
    ata,
    ata_reply,
    padded,
    read_ext,
    write_ext,
)
from tests.scsi_backend.fakes import FaultyVdisk

_DATA = bytes(range(256)) * 4


def test_identify_after_a_resize_has_the_new_capacity_and_everybody_hears_of_it() -> None:
    bench = Bench()
    bench.exchange(ata("00 00 01 ec 000000a00000 0000"))
    second = CollectingPort("02000000000a")
    bench.target.attach(second)
    second.take()
    bench.vdisk.new_block_count = 2048
    bench.lun.unit.resync_size()
    announcement, reply = bench.exchange(ata("00 00 01 ec 000000a00000 0000"))
    assert announcement == padded(ANNOUNCEMENT)
    assert second.take() == [padded(ANNOUNCEMENT.replace(TARGET_MAC, "02000000000a"))]
    assert reply[36:][200:208] == (2048).to_bytes(8, "little")


def test_a_resize_that_no_command_meets_is_announced_once() -> None:
    bench = Bench()
    bench.target.look_at_size()
    assert bench.port.take() == []
    bench.vdisk.new_block_count = 2048
    bench.lun.unit.resync_size()
    bench.target.look_at_size()
    bench.target.look_at_size()
    assert bench.port.take() == [padded(ANNOUNCEMENT)]
    (reply,) = bench.exchange(ata("00 00 01 ec 000000a00000 0000"))
    assert int.from_bytes(reply[36 + 200 : 36 + 208], "little") == 2048


def test_a_resize_that_a_session_has_yet_to_meet_is_announced_once() -> None:
    bench = Bench()
    bench.log_in()
    bench.vdisk.new_block_count = 2048
    bench.lun.unit.resync_size()
    bench.target.look_at_size()
    replies = bench.exchange(ata("00 00 01 ec 000000a00000 0000"))
    assert [reply[19] for reply in replies] == [1, 0]
    assert int.from_bytes(replies[1][36 + 200 : 36 + 208], "little") == 2048


def test_a_resize_is_announced_once_for_all_initiators() -> None:
    bench = Bench()
    other = REQUEST.replace(CLIENT_MAC, OTHER_CLIENT_MAC)
    frames = [read_ext(7, 1), ata("40 00 01 24 070000000000 0000", header=other)]
    bench.exchange(*frames)
    bench.vdisk.new_block_count = 2048
    bench.lun.unit.resync_size()
    replies = bench.exchange(*frames)
    assert replies.count(padded(ANNOUNCEMENT)) == 1
    assert len(replies) == 3


def test_each_source_mac_is_an_initiator_of_its_own() -> None:
    bench = Bench()
    other = REQUEST.replace(CLIENT_MAC, OTHER_CLIENT_MAC)
    bench.exchange(read_ext(7, 1), ata("40 00 01 24 070000000000 0000", header=other))
    names = [session.initiator_name for session in bench.scsi_target.sessions]
    assert names == ["02:00:00:00:00:02", "02:00:00:00:00:03"]


def test_initiators_that_are_done_make_room_for_others() -> None:
    bench = Bench()
    for number in range(1100):
        header = REQUEST.replace(CLIENT_MAC, f"0204{number:08x}")
        assert len(bench.exchange(ata("40 00 01 24 070000000000 0000", header=header))) == 1
    assert len(bench.scsi_target.sessions) == 1024


def test_counts_are_those_of_the_port() -> None:
    bench = Bench()
    jumbo = CollectingPort("02000000000a", sector_count=16)
    jumbo.buffer_count = 33
    bench.target.attach(jumbo)
    (announcement,) = jumbo.take()
    assert announcement[24:32] == bytes.fromhex("0021 0001 10 10 0000")
    header = REQUEST.replace(TARGET_MAC, "02000000000a")
    frame = memoryview(ata("40 00 10 24 000000000000 0000", header=header))
    bench.target.receive(frame, jumbo)
    (reply,) = jumbo.take()
    assert len(reply) == 36 + 16 * 512


def test_a_target_announces_itself() -> None:
    assert Bench().announcements == [padded(ANNOUNCEMENT)]


def test_a_disabled_target_is_silent() -> None:
    bench = Bench()
    bench.scsi_target.is_enabled = False
    bench.target.announce(bench.port)
    assert bench.exchange(padded(f"{REQUEST} 01 {TAG}"), read_ext(7, 1)) == []
    assert bench.scsi_target.sessions == ()


def test_read_only_luns_refuse_writes_with_wp() -> None:
    bench = Bench()
    target = Target("aoe", "e1.1", 2)
    target.add_lun(3, LunEntry(bench.lun.unit, is_read_only=True))
    target.is_enabled = True
    read_only = AoeTarget(Address(1, 1), target, ManualClock())
    read_only.receive(memoryview(write_ext(7, _DATA)), bench.port)
    read_only.receive(memoryview(read_ext(7, 1)), bench.port)
    refused, read = bench.port.take()
    assert refused == ata_reply("41 44 02 41 070000000000 0000")
    assert read[27] == 0x40


class _FullTarget(Target):
    """A target that admits no session."""

    def open_session(self, initiator_name: str, host: Host | None = None) -> Session:
        raise TargetError("no more sessions")


def test_an_initiator_that_is_not_admitted_is_told_to_try_later() -> None:
    full = _FullTarget("aoe", "e1.1", 1)
    full.add_lun(0, LunEntry(disk(FaultyVdisk())))
    full.is_enabled = True
    target = AoeTarget(Address(1, 1), full, ManualClock())
    port = CollectingPort()
    assert not target.receive(memoryview(write_ext(7, _DATA)), port)
    header = f"{CLIENT_MAC} {TARGET_MAC} 88a2 1c 03 0001 01"
    assert port.take() == [ata_reply("41 00 02 34 070000000000 0000", header=header)]


@pytest.mark.parametrize("address", [(0xFFFF, 1), (0xFFF, 1), (1, 0xFF)])
def test_addresses_that_clients_ignore_are_refused(address: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected eSHELF"):
        AoeTarget(Address(*address), Bench().scsi_target, ManualClock())


def test_blocks_of_4096_bytes_are_refused() -> None:
    target = Target("aoe", "e1.1", 1)
    target.add_lun(0, LunEntry(disk(FaultyVdisk(block_size_bytes=4096))))
    with pytest.raises(AoeTargetError, match=r"e1\.1: device faulty has blocks of 4096 bytes"):
        AoeTarget(Address(1, 1), target, ManualClock())


def test_a_target_with_luns_of_which_none_is_the_one_to_serve_is_refused() -> None:
    target, entry = Target("aoe", "e1.1", 1), LunEntry(disk(FaultyVdisk()))
    target.configure(luns={1: entry, 2: entry})
    with pytest.raises(AoeTargetError, match=r"e1\.1: LUNs \[1, 2\]: expected LUN 0"):
        AoeTarget(Address(1, 1), target, ManualClock())


def test_sessions_end_with_the_last_port() -> None:
    bench = Bench()
    second = CollectingPort("02000000000a")
    bench.target.attach(second)
    bench.log_in()
    counts = []
    for port in (bench.port, second):
        bench.target.detach(port)
        counts.append(len(bench.scsi_target.sessions))
    assert counts == [1, 0]


def test_only_an_open_session_has_an_initiator_and_asking_opens_none() -> None:
    bench = Bench()
    client = bytes.fromhex(CLIENT_MAC)
    assert bench.target.initiator(client) is None
    assert bench.scsi_target.sessions == ()
    bench.log_in()
    initiator = bench.target.initiator(client)
    assert initiator is not None
    assert initiator.name == "02:00:00:00:00:02"
    assert bench.target.initiator(bytes.fromhex(OTHER_CLIENT_MAC)) is None


def test_a_disabled_target_admits_no_data() -> None:
    bench = Bench()
    assert bench.target.admits_data(bytes.fromhex(CLIENT_MAC))
    bench.scsi_target.is_enabled = False
    assert not bench.target.admits_data(bytes.fromhex(CLIENT_MAC))


def test_ports_forget_flows_when_they_are_detached_and_when_sessions_end() -> None:
    bench = Bench()
    second = CollectingPort("02000000000a")
    bench.target.attach(second)
    bench.log_in()
    assert (bench.port.forgotten, second.forgotten) == (0, 0)
    bench.target.detach(second)
    assert (bench.port.forgotten, second.forgotten) == (0, 1)
    bench.target.detach(bench.port)
    assert (bench.port.forgotten, second.forgotten) == (1, 1)


def test_an_idle_initiators_session_ends_and_ports_forget_it() -> None:
    bench = Bench(policy=Policy(idle_timeout_s=10))
    bench.log_in()
    bench.clock.pass_time(25)
    assert bench.scsi_target.sessions == ()
    assert bench.target.initiator(bytes.fromhex(CLIENT_MAC)) is None
    assert bench.port.forgotten == 1
    assert len(bench.exchange(read_ext(7, 1))) == 1
    bench.target.detach(bench.port)
    assert bench.clock.pending == 0
