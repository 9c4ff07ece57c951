# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the way through the ring when something fails, is refused or goes away."""

from __future__ import annotations

import pytest

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
from tests.bridges.aoe.ringed import READ, WRITE, MakeBench, blocks_of, read_reply, tag, write_reply
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


def test_an_error_at_frames_that_are_alike_takes_no_other_with_it(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    submit = ItlNexus.submit

    def fail_at_100(nexus: ItlNexus, command: Command) -> None:
        if blocks_of(command.cdb)[1] == 100:
            raise RuntimeError("an error of the program")
        submit(nexus, command)

    monkeypatch.setattr(ItlNexus, "submit", fail_at_100)
    writes = [write_ext(lba, b"w" * 1024, tag(lba)) for lba in (10, 100, 102, 200)]
    bench.exchange(*writes, read_ext(50, 2, tag(50)))
    assert bench.exchange(read_ext(60, 2, tag(60))) == [read_reply(60, 2, 60)]
    assert bench.ring.taken == 0
    for number in range(200):
        assert bench.exchange(read_ext(500, 1, tag(number))) == [read_reply(500, 1, number)]


def test_a_lun_that_is_back_from_standby_is_announced(make_bench: MakeBench) -> None:
    bench = make_bench()
    standby = (Status.CHECK_CONDITION, sense.Sense(sense.SenseKey.NOT_READY, 0x040B))
    frames = [read_ext(10 + 2 * n, 2, tag(n)) for n in range(2)]
    # The burst, and each of its frames; then each frame by itself.
    bench.lun.answers[READ] = [standby] * 5
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


def test_while_replies_cannot_leave_no_frame_is_taken(make_bench: MakeBench) -> None:
    bench = make_bench()
    # The sender's buffer holds a few replies of this size.
    bench.packets.sender.setsockopt(1, 7, 4608)
    bench.packets.receiver.setsockopt(1, 8, 4608)
    for _ in range(2):
        bench.vdisk.immediate_bytes = NOT_NOW
        bench.vdisk.is_held = True
        bench.exchange(*(read_ext(2 * n, 2, tag(n)) for n in range(20)))
        bench.vdisk.immediate_bytes = None
        bench.vdisk.is_held = False
        bench.vdisk.release_all()
        replies = bench.later()
        while bench.loop.later:
            bench.loop.later.pop()()
            replies += bench.later()
    assert bench.ring_port.pending == 0


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
