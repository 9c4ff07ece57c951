# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the way through the ring: it answers what the plain way answers, with fewer commands."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from scsi_backend.servers.command import Command
from scsi_backend.t10 import sense
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.status import Status
from scsi_backend.target.nexus import ItlNexus
from tests.bridges.aoe.bench import (
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REPLY,
    REQUEST,
    Bench,
    ata,
    ata_reply,
    by_tag,
    padded,
    read_ext,
    write_ext,
)
from tests.bridges.aoe.ringed import RingBench
from tests.scsi_backend.fakes import NOT_NOW, pattern

READ, WRITE = int(Opcode.READ_16), int(Opcode.WRITE_16)

MakeBench = Callable[[], RingBench]


@pytest.fixture
def make_bench() -> Iterator[MakeBench]:
    benches: list[RingBench] = []

    def make() -> RingBench:
        bench = RingBench()
        benches.append(bench)
        # The first frame opens the session, the second finds the flow made.
        bench.exchange(read_ext(0, 2), write_ext(0, pattern(0, 512) + pattern(1, 512)))
        bench.lun.cdbs.clear()
        return bench

    yield make
    for bench in benches:
        bench.close()


def tag(number: int) -> str:
    """A tag in hex."""
    return f"{number:08x}"


def read_reply(lba: int, sectors: int, number: int) -> bytes:
    """The reply to a READ of sectors that tell their number."""
    data = b"".join(pattern(lba + index, 512) for index in range(sectors))
    registers = f"40 00 00 40 {lba.to_bytes(6, 'little').hex()} 0000"
    return ata_reply(registers, data, tag=tag(number))


def write_reply(lba: int, number: int) -> bytes:
    """The reply to a WRITE."""
    return ata_reply(f"41 00 00 40 {lba.to_bytes(6, 'little').hex()} 0000", tag=tag(number))


def blocks_of(cdb: bytes) -> tuple[int, int, int]:
    """Opcode, LBA and blocks."""
    return cdb[0], int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")


def test_neighbouring_reads_are_one_command_and_each_is_answered(make_bench: MakeBench) -> None:
    bench = make_bench()
    replies = bench.exchange(*(read_ext(10 + 2 * n, 2, tag(n)) for n in range(8)))
    assert replies == [read_reply(10 + 2 * n, 2, n) for n in range(8)]
    assert [blocks_of(cdb) for cdb in bench.lun.cdbs] == [(READ, 10, 16)]


def test_neighbouring_writes_are_one_command_and_each_is_answered(make_bench: MakeBench) -> None:
    bench = make_bench()
    data = [bytes([65 + n]) * 1024 for n in range(8)]
    replies = bench.exchange(*(write_ext(10 + 2 * n, data[n], tag(n)) for n in range(8)))
    assert replies == [write_reply(10 + 2 * n, n) for n in range(8)]
    assert bench.vdisk.blocks(10, 16) == b"".join(data)
    assert [blocks_of(cdb) for cdb in bench.lun.cdbs] == [(WRITE, 10, 16)]
    # Stable before the reply, by default.
    assert bench.lun.cdbs[0][1] == 0x08


def test_a_gap_divides_commands_but_not_the_batch_of_replies(make_bench: MakeBench) -> None:
    bench = make_bench()
    lbas = [4, 6, 100, 102, 104, 8, 500]
    replies = bench.exchange(*(read_ext(lba, 2, tag(lba)) for lba in lbas))
    assert replies == [read_reply(lba, 2, lba) for lba in lbas]
    assert [blocks_of(cdb)[1:] for cdb in bench.lun.cdbs] == [(4, 4), (100, 6), (8, 2), (500, 2)]


def test_frames_of_other_lengths_and_directions_are_commands_of_their_own(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    frames = [
        read_ext(10, 2, tag(1)),
        read_ext(12, 1, tag(2)),
        write_ext(13, b"w" * 512, tag(3)),
        read_ext(14, 1, tag(4)),
    ]
    # Each kind is seen once before, which takes the plain way.
    bench.exchange(*frames)
    bench.lun.cdbs.clear()
    bench.vdisk.fill()
    replies = bench.exchange(*frames)
    assert replies == [
        read_reply(10, 2, 1),
        read_reply(12, 1, 2),
        write_reply(13, 3),
        read_reply(14, 1, 4),
    ]
    assert [blocks_of(cdb)[1:] for cdb in bench.lun.cdbs] == [(10, 2), (12, 1), (13, 1), (14, 1)]


def test_initiators_are_not_merged(make_bench: MakeBench) -> None:
    bench = make_bench()
    other = REQUEST.replace(CLIENT_MAC, OTHER_CLIENT_MAC)

    def of_other(lba: int) -> bytes:
        registers = f"40 00 02 24 {lba.to_bytes(6, 'little').hex()} 0000"
        return ata(registers, header=other, tag=tag(lba))

    bench.exchange(of_other(0))
    bench.lun.cdbs.clear()
    replies = bench.exchange(read_ext(10, 2, tag(10)), of_other(12), read_ext(14, 2, tag(14)))
    assert [reply[0:6].hex() for reply in replies] == [CLIENT_MAC, OTHER_CLIENT_MAC, CLIENT_MAC]
    assert [blocks_of(cdb)[1:] for cdb in bench.lun.cdbs] == [(10, 2), (12, 2), (14, 2)]


def test_more_frames_than_a_batch_are_all_answered(make_bench: MakeBench) -> None:
    bench = make_bench()
    for start in range(0, 300, 100):
        lbas = [start + index for index in range(100)]
        replies = bench.exchange(*(read_ext(lba, 1, tag(lba)) for lba in lbas))
        assert replies == [read_reply(lba, 1, lba) for lba in lbas]
    assert bench.ring.lost == 0
    assert bench.ring.taken == 0


def test_upper_lba_bits_are_read_and_echoed(make_bench: MakeBench) -> None:
    bench = make_bench()
    lbas = [1 << 32 | 2, 1 << 32 | 4, (1 << 48) - 2]
    replies = bench.exchange(*(read_ext(lba, 2, tag(index)) for index, lba in enumerate(lbas)))
    for index, lba in enumerate(lbas):
        registers = f"40 10 02 41 {lba.to_bytes(6, 'little').hex()} 0000"
        assert replies[index] == ata_reply(registers, tag=tag(index))


def test_reserved_bytes_of_a_request_do_not_come_back(make_bench: MakeBench) -> None:
    bench = make_bench()
    frames = [ata("40 00 02 24 0a0000000000 ffff", tag=tag(1)), read_ext(12, 2, tag(2))]
    assert bench.exchange(*frames) == [read_reply(10, 2, 1), read_reply(12, 2, 2)]


def test_a_reply_without_data_has_none_of_an_earlier_one(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.exchange(*(read_ext(2 * n, 2, tag(n)) for n in range(32)))
    replies = bench.exchange(*(write_ext(2 * n, bytes(1024), tag(n)) for n in range(32)))
    assert replies == [write_reply(2 * n, n) for n in range(32)]


def test_a_read_that_has_to_wait_delays_no_other_and_keeps_no_slot(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    assert bench.exchange(*(read_ext(10 + 2 * n, 2, tag(n)) for n in range(4))) == []
    assert bench.ring.taken == 0
    bench.vdisk.immediate_bytes = None
    replies = bench.exchange(*(read_ext(100 + 2 * n, 2, tag(100 + n)) for n in range(4)))
    assert replies == [read_reply(100 + 2 * n, 2, 100 + n) for n in range(4)]
    bench.vdisk.release_all()
    assert bench.later() == [read_reply(10 + 2 * n, 2, n) for n in range(4)]
    assert bench.ring_port.pending == 0


def test_a_read_that_gets_part_of_its_data_at_once_is_whole(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.vdisk.immediate_bytes = 1500
    bench.vdisk.is_held = True
    assert bench.exchange(*(read_ext(10 + 2 * n, 2, tag(n)) for n in range(3))) == []
    bench.vdisk.release_all()
    assert bench.later() == [read_reply(10 + 2 * n, 2, n) for n in range(3)]


def test_what_is_done_at_once_is_answered_although_the_rest_of_a_batch_waits(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    bench.lun.answers[READ] = [(Status.BUSY, None)]
    replies = bench.exchange(
        *(read_ext(lba, 2, tag(lba)) for lba in (10, 12, 50, 52, 90)),
    )
    assert replies == [read_reply(lba, 2, lba) for lba in (50, 52, 90)]
    bench.clock.pass_time(1)
    assert bench.later() == [read_reply(10, 2, 10), read_reply(12, 2, 12)]


def test_a_write_that_has_to_wait_keeps_its_slots_and_no_others(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    data = [bytes([65 + n]) * 1024 for n in range(4)]
    assert bench.exchange(*(write_ext(10 + 2 * n, data[n], tag(n)) for n in range(4))) == []
    assert bench.ring.taken == 4
    assert bench.ring_port.pending == 4
    # Meanwhile the ring goes round and round.
    bench.vdisk.immediate_bytes = None
    for _ in range(3):
        replies = bench.exchange(*(read_ext(100 + n, 1, tag(n)) for n in range(30)))
        assert replies == [read_reply(100 + n, 1, n) for n in range(30)]
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert bench.later() == [write_reply(10 + 2 * n, n) for n in range(4)]
    assert bench.vdisk.blocks(10, 8) == b"".join(data)
    assert bench.ring.taken == 0
    assert bench.ring_port.pending == 0


def test_overlapping_writes_keep_their_order(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    old = [write_ext(10 + 2 * n, b"o" * 1024, tag(n)) for n in range(4)]
    new = [write_ext(12, b"n" * 1024, tag(10)), read_ext(10, 2, tag(11)), read_ext(12, 2, tag(12))]
    assert bench.exchange(*old) == []
    assert bench.exchange(*new) == []
    # The newer write and the reads have not begun.
    assert len(bench.lun.cdbs) == 1
    bench.vdisk.is_held = False
    bench.vdisk.immediate_bytes = None
    bench.vdisk.release_all()
    replies = by_tag(bench.later())
    assert len(replies) == 7
    assert replies[bytes.fromhex(tag(11))][36:] == b"o" * 1024
    assert replies[bytes.fromhex(tag(12))][36:] == b"n" * 1024
    assert bench.vdisk.blocks(10, 8) == b"o" * 1024 + b"n" * 1024 + b"o" * 2048


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


@pytest.mark.parametrize("seed", range(20))
def test_the_ring_answers_what_the_plain_way_answers(make_bench: MakeBench, seed: int) -> None:
    """The same frames, in batches, through the ring and one by one without it."""
    chooser = random.Random(seed)
    through_ring, plain = make_bench(), Bench()
    plain.exchange(read_ext(0, 2))
    frames = Frames(chooser)
    for _ in range(60):
        batch = frames.some(chooser.choice([1, 2, 5, 31, 33, 40]))
        answered = through_ring.exchange(*batch)
        expected = [reply for frame in batch for reply in plain.exchange(frame)]
        assert by_tag(answered) == by_tag(expected)
        assert len(answered) == len(expected)
        assert through_ring.vdisk.data == plain.vdisk.data
    assert through_ring.ring.taken == 0
    assert through_ring.ring.lost == 0
    assert through_ring.ring_port.pending == 0
    # Merged, where there was anything to merge.
    assert len(through_ring.lun.cdbs) < len(plain.lun.cdbs)


class Frames:
    """Frames of two initiators, many of which have a neighbour of the same kind behind them."""

    def __init__(self, chooser: random.Random) -> None:
        self._chooser = chooser
        self._number = 0
        self._kind = ""
        self._lba = 0

    def some(self, count: int) -> list[bytes]:
        """The next frames."""
        choose = self._chooser.choice
        frames = []
        for _ in range(count):
            if choose([True] + [False] * 9) or not self._kind:
                self._kind = choose(["read"] * 4 + ["write"] * 4 + ["odd"])
                self._lba = choose([self._chooser.randrange(1030), 0, 1016])
            frames.append(self._next())
            self._lba = max(0, self._lba + choose([2] * 12 + [1, 0, -3, 50]))
        return frames

    def _next(self) -> bytes:
        choose = self._chooser.choice
        self._number += 1
        lba = self._lba.to_bytes(6, "little").hex()
        other = REQUEST.replace(CLIENT_MAC, OTHER_CLIENT_MAC)
        header = choose([REQUEST] * 15 + [other])
        sectors = choose([2] * 15 + [1, 3, 0])
        data = b""
        if self._kind == "read":
            registers = f"40 00 {sectors:02x} 24 {lba} 0000"
        elif self._kind == "write":
            registers = f"41 00 {sectors:02x} 34 {lba} 0000"
            data = self._chooser.randbytes(512 * min(sectors, 2))
        else:
            registers = choose(
                [
                    "00 00 00 e7 000000000000 0000",
                    "00 00 01 20 050000e00000 0000",
                    f"40 00 02 25 {lba} abcd",
                    f"43 00 02 24 {lba} 0000",
                    f"50 00 02 24 {lba} 0000",
                    "00 00 01 ff 000000000000 0000",
                ]
            )
        return ata(registers, data, header=header, tag=tag(self._number))


def test_replies_go_to_who_has_asked(make_bench: MakeBench) -> None:
    bench = make_bench()
    (reply,) = bench.exchange(read_ext(3, 1, tag(7)))
    assert reply[:20] == bytes.fromhex(f"{REPLY} 00")
