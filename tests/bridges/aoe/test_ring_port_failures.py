# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the way through the ring when something fails, is refused or goes away."""

from __future__ import annotations

import socket

import pytest

from bridges.aoe.ring import RX_FRAME_OFFSET
from scsi_backend.servers.command import Command
from scsi_backend.t10 import sense
from scsi_backend.t10.status import Status
from scsi_backend.target.nexus import ItlNexus
from tests.bridges.aoe.bench import (
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REQUEST,
    ata,
    ata_reply,
    by_tag,
    padded,
    read_ext,
    write_ext,
)
from tests.bridges.aoe.ringed import (
    READ,
    WRITE,
    MakeBench,
    RingBench,
    blocks_of,
    read_reply,
    tag,
    write_reply,
)
from tests.scsi_backend.fakes import NOT_NOW, pattern


def test_a_bad_sector_fails_its_frame_and_none_of_its_neighbours(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.vdisk.faults.errno_at[13] = 5
    replies = bench.exchange(*(read_ext(10 + 2 * n, 2, tag(n)) for n in range(4)))
    # UNC; the first LBA that was not read, and two sectors that were not transferred.
    bad = ata_reply("40 40 02 41 0c0000000000 0000", tag=tag(1))
    assert by_tag(replies) == by_tag(
        [read_reply(10, 2, 0), bad, read_reply(14, 2, 2), read_reply(16, 2, 3)]
    )
    assert len(replies) == 4
    assert bench.ring_port.pending == 0


def test_a_burst_across_the_end_is_served_up_to_it(make_bench: MakeBench) -> None:
    bench = make_bench()
    replies = bench.exchange(*(write_ext(1020 + 2 * n, b"e" * 1024, tag(n)) for n in range(4)))
    beyond = [
        ata_reply(f"41 10 02 41 {lba.to_bytes(6, 'little').hex()} 0000", tag=tag(number))
        for number, lba in ((2, 1024), (3, 1026))
    ]
    assert by_tag(replies) == by_tag([write_reply(1020, 0), write_reply(1022, 1), *beyond])
    assert bench.vdisk.blocks(1020, 4) == b"e" * 2048
    assert bench.ring.taken == 0


def test_a_newer_write_stays_behind_one_that_is_taken_apart(make_bench: MakeBench) -> None:
    bench = make_bench()
    medium_error = sense.Sense(sense.SenseKey.MEDIUM_ERROR, 0x0C00)
    bench.lun.answers[WRITE] = [(Status.CHECK_CONDITION, medium_error)]
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    # Refused as one command, so each of them is tried by itself, and waits for the disk.
    assert bench.exchange(*(write_ext(10 + 2 * n, b"o" * 1024, tag(n)) for n in range(2))) == []
    assert bench.exchange(write_ext(12, b"n" * 1024, tag(9))) == []
    assert [blocks_of(cdb)[1:] for cdb in bench.lun.cdbs] == [(10, 4), (10, 2), (12, 2)]
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert by_tag(bench.later()) == by_tag(
        [write_reply(10, 0), write_reply(12, 1), write_reply(12, 9)]
    )
    assert bench.vdisk.blocks(10, 4) == b"o" * 1024 + b"n" * 1024


def test_a_unit_attention_costs_a_retry_and_nothing_else(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.lun.unit.raise_unit_attention(sense.CAPACITY_CHANGED)
    replies = bench.exchange(*(read_ext(10 + 2 * n, 2, tag(n)) for n in range(4)))
    assert replies == [read_reply(10 + 2 * n, 2, n) for n in range(4)]


def test_a_flow_is_forgotten_when_its_initiator_is_fenced_off(make_bench: MakeBench) -> None:
    bench = make_bench()
    other = REQUEST.replace(CLIENT_MAC, OTHER_CLIENT_MAC)
    reserve = padded(f"{other} 03 00000001 01 01 {OTHER_CLIENT_MAC}")
    replies = bench.exchange(
        read_ext(10, 2, tag(1)), reserve, read_ext(12, 2, tag(2)), write_ext(0, bytes(512), tag(3))
    )
    assert replies[0] == read_reply(10, 2, 1)
    # Target is reserved.
    assert [reply[14:16] for reply in replies[2:]] == [b"\x1c\x06"] * 2
    assert bench.vdisk.blocks(0, 1) == pattern(0, 512)


def test_an_error_at_one_frame_takes_no_other_with_it(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench()
    bench.fatal_tags.add(bytes.fromhex(tag(99)))
    flush = ata("00 00 00 e7 000000000000 0000", tag=tag(99))
    frames = [read_ext(10, 2, tag(1)), flush, write_ext(20, b"n" * 1024, tag(2))]
    for _ in range(3):
        assert bench.exchange(*frames) == [read_reply(10, 2, 1), write_reply(20, 2)]
    assert bench.ring.taken == 0
    assert "an error of the program" in caplog.text
    # Nothing is left behind that would be executed when the ring has come round.
    for lba in range(300, 500):
        assert bench.exchange(read_ext(lba, 1, tag(lba))) == [read_reply(lba, 1, lba)]


def test_an_error_at_one_burst_takes_no_other_with_it(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    bench.vdisk.needs_sync = False
    # A write that waits has everything keep its place in the order of writes.
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    bench.exchange(write_ext(900, b"h" * 1024, tag(1)))
    bench.vdisk.immediate_bytes = None
    submit = ItlNexus.submit

    def fail_at_100(nexus: ItlNexus, command: Command) -> None:
        if blocks_of(command.cdb)[1] == 100:
            raise RuntimeError("an error of the program")
        submit(nexus, command)

    monkeypatch.setattr(ItlNexus, "submit", fail_at_100)
    writes = [write_ext(lba, b"w" * 1024, tag(lba)) for lba in (10, 100, 102, 200)]
    replies = bench.exchange(*writes, read_ext(50, 2, tag(50)))
    assert replies == [write_reply(10, 10), write_reply(200, 200), read_reply(50, 2, 50)]
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert bench.later() == [write_reply(900, 1)]
    # They have left the order.
    overlapping = [write_ext(lba, b"v" * 1024, tag(lba)) for lba in (10, 200)]
    assert bench.exchange(*overlapping) == [write_reply(10, 10), write_reply(200, 200)]


def test_a_lun_that_is_back_from_standby_is_announced(make_bench: MakeBench) -> None:
    bench = make_bench()
    standby = (Status.CHECK_CONDITION, sense.Sense(sense.SenseKey.NOT_READY, 0x040B))
    frames = [read_ext(10 + 2 * n, 2, tag(n)) for n in range(2)]
    # The burst, then each frame by itself.
    bench.lun.answers[READ] = [standby] * 3
    for _ in range(2):
        assert [reply[14:16] for reply in bench.exchange(*frames)] == [b"\x1c\x03"] * 2
    replies = bench.exchange(*frames)
    announcements = [reply for reply in replies if reply[19] == 1]
    assert [reply[:6] for reply in announcements] == [b"\xff" * 6]
    assert [reply for reply in replies if reply[19] == 0] == [
        read_reply(10, 2, 0),
        read_reply(12, 2, 1),
    ]
    bench.lun.cdbs.clear()
    bench.exchange(*frames)
    bench.exchange(*frames)
    # And merged again.
    assert blocks_of(bench.lun.cdbs[-1]) == (READ, 10, 4)


def test_a_short_write_is_refused_and_not_filled_up(make_bench: MakeBench) -> None:
    bench = make_bench()
    whole = write_ext(10, b"w" * 1024, tag(1))
    replies = bench.exchange(whole, write_ext(12, b"w" * 1024, tag(2))[:-1], whole)
    assert replies[1] == ata_reply("41 04 02 41 0c0000000000 0000", tag=tag(2))
    assert [replies[0], replies[2]] == [write_reply(10, 1)] * 2
    assert bench.vdisk.blocks(12, 2) == pattern(12, 512) + pattern(13, 512)


def send_little(bench: RingBench) -> None:
    """Have replies go by a socket that holds few of them, and none of 16 KiB."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    bench.packets.replace_sender(sender, receiver)


def test_while_replies_cannot_leave_no_frame_is_taken_and_none_is_lost(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    send_little(bench)
    for number in range(20):
        bench.ring.deliver(read_ext(2 * number, 2, tag(number)))
    bench.wake()
    for number in range(20, 40):
        bench.ring.deliver(read_ext(2 * number, 2, tag(number)))
    bench.wake()
    assert bench.ring.taken == 20
    replies = bench.packets.received()
    assert 0 < len(replies) < 20
    while bench.loop.later:
        bench.loop.later.pop()()
        replies += bench.later()
    assert replies == [read_reply(2 * n, 2, n) for n in range(40)]
    assert bench.ring_port.pending == 0


def test_a_reply_that_is_too_long_holds_up_no_other() -> None:
    bench = RingBench(mtu=17000)
    send_little(bench)
    frames = [read_ext(16, 32, tag(1)), read_ext(20, 1, tag(2)), write_ext(30, b"w" * 512, tag(3))]
    # Each is seen once before, which takes the plain way.
    for _ in range(2):
        assert bench.exchange(*frames) == [read_reply(20, 1, 2), write_reply(30, 3)]
    assert bench.ring_port.pending == 0
    bench.close()


def test_a_closed_port_lets_commands_end(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    bench.exchange(*(write_ext(10 + 2 * n, b"c" * 1024, tag(n)) for n in range(3)))
    bench.ring_port.abandon()
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert bench.later() == []
    assert bench.vdisk.blocks(10, 6) == b"c" * 3072
    assert bench.ring_port.pending == 0


CHANGED = sense.Sense(sense.SenseKey.UNIT_ATTENTION, 0x2800)


@pytest.mark.parametrize("count", [1, 4])
def test_what_was_meant_for_one_medium_is_not_written_to_another(
    make_bench: MakeBench, count: int
) -> None:
    bench = make_bench()
    bench.lun.unit.raise_unit_attention(CHANGED)
    before = bytes(bench.vdisk.data)
    replies = bench.exchange(*(write_ext(10 + 2 * n, b"x" * 1024, tag(n)) for n in range(count)))
    assert [reply[24:28] for reply in replies] == [bytes.fromhex("41 04 02 41")] * count
    assert bench.vdisk.data == before


def test_a_deferred_error_fails_the_command_that_meets_it_and_is_told(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench()
    lost = sense.Sense(sense.SenseKey.MEDIUM_ERROR, 0x0C00, deferred=True)
    for nexus in bench.scsi_target.sessions[0].nexuses.values():
        nexus.defer_error(lost)
    replies = bench.exchange(*(read_ext(10 + 2 * n, 2, tag(n)) for n in range(3)))
    # DF and ERR.
    assert [reply[24:28] for reply in replies] == [bytes.fromhex("40 04 02 61")] * 3
    assert caplog.text.count("data of earlier writes are lost") == 1
    assert bench.exchange(read_ext(10, 2, tag(9))) == [read_reply(10, 2, 9)]


def test_a_busy_lun_is_tried_for_as_long_as_any_and_no_longer(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.lun.answers[READ] = [(Status.BUSY, None)] * 100_000
    assert bench.exchange(read_ext(10, 2), read_ext(12, 2)) == []
    waited_s = 0
    while not (replies := bench.later()):
        bench.clock.pass_time(1)
        waited_s += 1
    assert waited_s <= 26
    assert [reply[24:28] for reply in replies] == [bytes.fromhex("40 04 02 41")] * 2


def test_less_data_than_there_should_be_is_a_fault_of_the_device(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.lun.answers[READ] = [(Status.GOOD, None)]
    replies = bench.exchange(read_ext(10, 2, tag(0)), read_ext(12, 2, tag(1)))
    assert [reply[24:28] for reply in replies] == [bytes.fromhex("40 04 02 61")] * 2


def test_frames_elsewhere_in_their_slots_are_answered(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.ring.deliver(read_ext(10, 2, tag(1)), RX_FRAME_OFFSET + 8)
    assert bench.exchange(read_ext(12, 2, tag(2))) == [read_reply(10, 2, 1), read_reply(12, 2, 2)]


def test_sessions_that_end_cost_no_other_initiator_anything(make_bench: MakeBench) -> None:
    bench = make_bench()

    def from_elsewhere(number: int) -> bytes:
        header = REQUEST.replace(CLIENT_MAC, f"06{number:010x}")
        return ata("40 00 02 24 000000000000 0000", header=header, tag=tag(number))

    mine = [read_ext(10 + 2 * n, 2, tag(n)) for n in range(8)]
    for number in range(1100):
        bench.exchange(from_elsewhere(number))
    bench.exchange(*mine)
    bench.exchange(*mine)
    bench.lun.cdbs.clear()
    # Its session takes the place of another one.
    bench.exchange(from_elsewhere(5000), *mine)
    reads = [blocks_of(cdb) for cdb in bench.lun.cdbs if cdb[0] == READ]
    assert reads == [(READ, 0, 2), (READ, 10, 16)]


def test_an_initiator_is_heard_by_the_way_through_the_ring(make_bench: MakeBench) -> None:
    bench = make_bench()
    initiator = bench.target.initiator(bytes.fromhex(CLIENT_MAC))
    assert initiator is not None
    initiator.is_heard = False
    bench.exchange(read_ext(10, 2))
    assert initiator.is_heard
