# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the way through the ring: what is merged, and what waits."""

from __future__ import annotations

import pytest

from scsi_backend.t10.status import Status
from tests.bridges.aoe.bench import (
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REPLY,
    REQUEST,
    ata,
    ata_reply,
    by_tag,
    read_ext,
    write_ext,
)
from tests.bridges.aoe.ringed import READ, WRITE, MakeBench, blocks_of, read_reply, tag, write_reply
from tests.scsi_backend.fakes import NOT_NOW


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


@pytest.mark.parametrize("waits_for", ["disk", "sync"])
def test_a_write_that_has_to_wait_loses_nobodys_frames(
    make_bench: MakeBench, waits_for: str
) -> None:
    bench = make_bench()
    if waits_for == "disk":
        bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    data = [bytes([65 + n]) * 1024 for n in range(4)]
    assert bench.exchange(*(write_ext(10 + 2 * n, data[n], tag(n)) for n in range(4))) == []
    assert bench.ring_port.pending == 4
    # Meanwhile the ring of 128 goes round and round.
    bench.vdisk.immediate_bytes = None
    for _ in range(20):
        replies = bench.exchange(*(read_ext(100 + n, 1, tag(n)) for n in range(30)))
        assert replies == [read_reply(100 + n, 1, n) for n in range(30)]
    assert bench.ring.lost == 0
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert bench.later() == [write_reply(10 + 2 * n, n) for n in range(4)]
    assert bench.vdisk.blocks(10, 8) == b"".join(data)
    assert bench.ring_port.pending == 0


def test_a_plain_write_that_has_to_wait_loses_nobodys_frames(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    registers = "01 00 02 30 0a0000e00000 0000"
    assert bench.exchange(ata(registers, b"p" * 1024, tag=tag(1))) == []
    bench.vdisk.immediate_bytes = None
    for _ in range(20):
        assert len(bench.exchange(*(read_ext(100 + n, 1, tag(n)) for n in range(30)))) == 30
    assert bench.ring.lost == 0
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert bench.later() == [ata_reply("01 00 00 40 0a0000e00000 0000", tag=tag(1))]
    assert bench.vdisk.blocks(10, 2) == b"p" * 1024


def test_replies_are_padded_with_zeros_though_a_read_was_there_that_had_to_wait(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    bench.vdisk.needs_sync = False
    writes = [write_ext(2 * n, bytes(1024), tag(n)) for n in range(8)]
    bench.exchange(*writes)
    bench.vdisk.immediate_bytes = 1536
    bench.vdisk.is_held = True
    assert bench.exchange(*(read_ext(100 + 2 * n, 2, tag(n)) for n in range(4))) == []
    bench.vdisk.immediate_bytes = None
    bench.vdisk.is_held = False
    assert bench.exchange(*writes) == [write_reply(2 * n, n) for n in range(8)]


def test_a_read_whose_rest_is_there_at_once_is_whole(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.vdisk.immediate_bytes = 1536
    replies = bench.exchange(*(read_ext(100 + 2 * n, 2, tag(n)) for n in range(4)))
    assert replies == [read_reply(100 + 2 * n, 2, n) for n in range(4)]


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


def test_replies_go_to_who_has_asked(make_bench: MakeBench) -> None:
    bench = make_bench()
    (reply,) = bench.exchange(read_ext(3, 1, tag(7)))
    assert reply[:20] == bytes.fromhex(f"{REPLY} 00")
