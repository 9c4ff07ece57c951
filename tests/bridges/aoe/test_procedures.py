# SPDX-License-Identifier: GPL-2.0-or-later
"""ATA commands that are not one CDB: what reaches the LUN, and what is answered."""

from __future__ import annotations

import struct

import pytest

from bridges.aoe.gate import MAX_COMMANDS, MAX_COMMANDS_OF_HOST
from scsi_backend.servers import vital_product_data
from scsi_backend.t10 import sense
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from tests.bridges.aoe.bench import (
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REQUEST,
    Bench,
    ata,
    ata_reply,
    read_ext,
)
from tests.bridges.aoe.ringed import RingBench
from tests.scsi_backend.fakes import FaultyVdisk

_INVALID_OPCODE = (Status.CHECK_CONDITION, sense.INVALID_OPCODE)


def _trim(*entries: tuple[int, int], count: int = 1) -> bytes:
    """DATA SET MANAGEMENT with TRIM; entries are (LBA, sectors)."""
    data = b"".join(struct.pack("<Q", sectors << 48 | lba) for lba, sectors in entries)
    return ata(f"41 01 {count:02x} 06 000000000000 0000", data.ljust(512 * count, b"\0"))


_TRIMMED = ata_reply("41 00 00 40 000000000000 0000")


def _thin() -> Bench:
    bench = Bench(FaultyVdisk(is_thin=True))
    bench.log_in()
    bench.vdisk.log.clear()
    return bench


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that unmaps at most 100 blocks and 3 descriptors at once."""
    monkeypatch.setattr(vital_product_data, "_MAX_UNMAP_BLOCKS", 100)
    monkeypatch.setattr(vital_product_data, "MAX_UNMAP_DESCRIPTORS", 3)


def test_trim_deallocates_its_ranges_and_is_stable_before_its_reply() -> None:
    bench = _thin()
    before = bytes(bench.vdisk.data)
    assert bench.exchange(_trim((10, 2), (0, 0), (20, 1))) == [_TRIMMED]
    assert bench.vdisk.log == [
        ("unmap", 10 * 512, 2 * 512),
        ("unmap", 20 * 512, 512),
        ("sync", 0, 0),
    ]
    after = bytearray(before)
    for lba in (10, 11, 20):
        after[lba * 512 : (lba + 1) * 512] = bytes(512)
    assert bench.vdisk.data == after
    assert len(bench.port.released) == 0


def test_trim_becomes_one_unmap_whose_ranges_are_ascending_and_disjoint() -> None:
    bench = _thin()
    bench.exchange(_trim((20, 5), (10, 5), (15, 2), (22, 8)))
    assert bench.vdisk.log[:2] == [
        ("unmap", 10 * 512, 7 * 512),
        ("unmap", 20 * 512, 10 * 512),
    ]
    assert bench.lun.opcodes() == [Opcode.UNMAP, Opcode.SYNCHRONIZE_CACHE_16]


@pytest.mark.usefixtures("small_limits")
def test_trim_is_split_at_the_limits_of_the_device() -> None:
    bench = _thin()
    ranges = [(0, 250), (300, 1), (302, 1), (304, 1), (306, 1), (308, 1)]
    assert bench.exchange(_trim(*ranges)) == [_TRIMMED]
    # 100, 100, then 50 with two single sectors, then the other three.
    assert bench.lun.opcodes() == [Opcode.UNMAP] * 4 + [Opcode.SYNCHRONIZE_CACHE_16]
    assert [cdb[7:9] for cdb in bench.lun.cdbs[:4]] == [
        bytes((0, 8 + 16 * count)) for count in (1, 1, 3, 3)
    ]
    assert [(start // 512, size // 512) for name, start, size in bench.vdisk.log[:-1]] == [
        (0, 100),
        (100, 100),
        (200, 50),
        *ranges[1:],
    ]


def test_trim_of_nothing_succeeds() -> None:
    bench = _thin()
    assert bench.exchange(_trim((5, 0))) == [_TRIMMED]
    assert "unmap" not in bench.vdisk.names


def test_trim_beyond_the_end_deallocates_nothing() -> None:
    bench = _thin()
    assert bench.exchange(_trim((10, 2), (1023, 2))) == [ata_reply("41 10 01 41 000000000000 0000")]
    assert bench.vdisk.log == []


def test_trim_of_sectors_that_have_just_come_into_being_is_good() -> None:
    bench = _thin()
    bench.vdisk.new_block_count = 2048
    bench.lun.unit.resync_size()
    replies = bench.exchange(_trim((1023, 2)))
    assert replies[-1] == _TRIMMED


def test_trim_of_a_thick_disk_is_aborted() -> None:
    bench = Bench()
    assert bench.exchange(_trim((10, 2))) == [ata_reply("41 04 01 41 000000000000 0000")]
    assert "unmap" not in bench.vdisk.names


def test_trim_without_all_its_data_is_aborted() -> None:
    bench = _thin()
    assert bench.exchange(_trim((10, 2))[:-1]) == [ata_reply("41 04 01 41 000000000000 0000")]


def test_trim_that_fails_is_told() -> None:
    bench = _thin()
    bench.vdisk.faults.errno_of["unmap"] = 5
    assert bench.exchange(_trim((10, 2))) == [ata_reply("41 04 01 61 000000000000 0000")]


def test_trim_is_stable_though_the_cache_was_off_when_the_session_began() -> None:
    bench = Bench(FaultyVdisk(is_thin=True, write_through=True))
    bench.log_in()
    bench.vdisk.has_volatile_cache, bench.lun.unit.is_write_through = True, False
    assert bench.exchange(_trim((10, 2))) == [_TRIMMED]
    assert bench.vdisk.names[-2:] == ["unmap", "sync"]


def test_durable_off_leaves_a_trim_to_the_cache() -> None:
    bench = _thin()
    bench.target.durable = False
    assert bench.exchange(_trim((10, 2))) == [_TRIMMED]
    assert bench.vdisk.names == ["unmap"]


@pytest.fixture
def small_transfers(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A device that moves, and verifies, at most 100 blocks at once."""
    monkeypatch.setattr("scsi_backend.servers.logical_unit.MAX_TRANSFER_BYTES", 100 * 512)
    bench = Bench()
    bench.log_in()
    return bench


def test_verify_is_split_at_what_the_device_takes(small_transfers: Bench) -> None:
    bench = small_transfers
    assert bench.exchange(ata("00 00 00 40 050000e00000 0000")) == [
        ata_reply("00 00 00 40 050000e00000 0000")
    ]
    assert [cdb.hex() for cdb in bench.lun.cdbs] == [
        "8f000000000000000005000000640000",
        "8f000000000000000069000000640000",
        "8f0000000000000000cd000000380000",
    ]


def test_verify_tells_a_bad_sector_of_a_later_piece(small_transfers: Bench) -> None:
    bench = small_transfers
    bench.vdisk.faults.stored_bytes = 200 * 512
    # UNC at LBA 200 (C8h); 61 (3Dh) sectors of 256 from 5 on remain.
    assert bench.exchange(ata("00 00 00 40 050000e00000 0000")) == [
        ata_reply("00 40 3d 41 c80000e00000 0000")
    ]


_STANDBY, _IDLE = bytes.fromhex("1b0000003000"), bytes.fromhex("1b0000002000")


@pytest.mark.parametrize(
    ("opcodes", "cdb"),
    [(("e0", "94", "e2", "96"), _STANDBY), (("e1", "95", "e3", "97"), _IDLE)],
    ids=["standby", "idle"],
)
def test_power_conditions_flush_before_their_reply(opcodes: tuple[str, ...], cdb: bytes) -> None:
    for opcode in opcodes:
        bench = Bench()
        bench.log_in()
        bench.vdisk.is_held = True
        bench.receive(ata(f"00 00 05 {opcode} 000000a00000 0000"))
        assert bench.lun.cdbs == [cdb]
        assert bench.port.take() == []
        bench.vdisk.release()
        assert bench.port.take() == [ata_reply("00 00 00 40 000000a00000 0000")]


def test_a_device_without_power_conditions_is_flushed_all_the_same() -> None:
    bench = Bench()
    bench.log_in()
    bench.lun.answers[Opcode.START_STOP_UNIT] = [_INVALID_OPCODE]
    assert bench.exchange(ata("00 00 00 e0 000000a00000 0000")) == [
        ata_reply("00 00 00 40 000000a00000 0000")
    ]
    assert bench.lun.opcodes() == [Opcode.START_STOP_UNIT, Opcode.SYNCHRONIZE_CACHE_16]
    assert bench.vdisk.names[-1] == "sync"


def test_a_flush_that_fails_fails_the_power_command() -> None:
    bench = Bench()
    bench.vdisk.faults.errno_of["sync"] = 5
    assert bench.exchange(ata("00 00 00 e0 000000a00000 0000")) == [
        ata_reply("00 04 00 61 000000a00000 0000")
    ]


def test_a_trim_keeps_its_place_among_the_writes_but_not_its_frame() -> None:
    bench = _thin()
    bench.vdisk.is_held = True
    trim = memoryview(bytearray(_trim((7, 1), (100, 1))))
    assert not bench.target.receive(trim, bench.port)
    # As the kernel does, once the frame's memory is its own again.
    trim[:] = bytes(len(trim))
    bench.receive(read_ext(100, 1))
    bench.receive(read_ext(50, 1))
    # The read beside it is done, the one of a trimmed sector waits.
    (beside,) = bench.port.take()
    assert int.from_bytes(beside[36:44], "big") == 50
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    trimmed, read = bench.port.take()
    assert trimmed == _TRIMMED
    assert read[36:] == bytes(512)
    assert bench.port.released == []


def _verify(client: str = CLIENT_MAC, lba: int = 0) -> bytes:
    """READ VERIFY of 256 sectors."""
    header = REQUEST.replace(CLIENT_MAC, client)
    return ata(f"00 00 00 40 {lba:02x}0000e00000 0000", header=header)


def _later(registers: str, client: str = CLIENT_MAC) -> bytes:
    """AoE's error 3: the client is to try again."""
    return ata_reply(registers, header=f"{client} 020000000001 88a2 1c 03 0001 01")


_ABORTED_TRIM = ata_reply("41 04 01 41 000000000000 0000")


def test_a_trim_that_cannot_be_is_aborted_at_once_whatever_else_waits() -> None:
    bench = Bench()
    bench.log_in()
    bench.vdisk.is_held = True
    for _ in range(MAX_COMMANDS_OF_HOST):
        bench.receive(_verify())
    assert bench.exchange(_trim((10, 2))) == [_ABORTED_TRIM]
    bench.vdisk.is_held = False
    bench.vdisk.release_all()


def test_a_trim_that_opens_the_session_is_aborted_all_the_same() -> None:
    bench = Bench()
    bench.lun.held_opcodes = {Opcode.TEST_UNIT_READY}
    assert bench.exchange(_trim((10, 2))) == []
    bench.lun.held_opcodes.clear()
    bench.lun.release()
    assert bench.port.take() == [_ABORTED_TRIM]
    assert Opcode.UNMAP not in bench.lun.opcodes()


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        (_verify(), "00 00 00 40 000000e00000 0000"),
        (_trim((8, 1)), "41 01 01 06 000000000000 0000"),
        (ata("00 00 00 e0 000000a00000 0000"), "00 00 00 e0 000000a00000 0000"),
        (ata("00 82 00 ef 000000a00000 0000"), "00 82 00 ef 000000a00000 0000"),
    ],
    ids=["VERIFY", "TRIM", "STANDBY", "SET FEATURES"],
)
def test_only_so_many_long_commands_of_a_host_are_taken_on(request_: bytes, refused: str) -> None:
    bench = _thin()
    bench.vdisk.is_held = True
    for lba in range(MAX_COMMANDS_OF_HOST):
        bench.receive(_verify(lba=lba))
    assert bench.port.take() == []
    assert bench.exchange(request_) == [_later(refused)]
    # Other hosts, and other commands, are not held up.
    assert bench.exchange(_verify(OTHER_CLIENT_MAC), read_ext(7, 1))[0][27] == 0x40
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert len(bench.port.take()) == MAX_COMMANDS_OF_HOST + 1
    (reply,) = bench.exchange(request_)
    assert reply[14] == 0x18
    assert bench.port.allocated == 0


def test_long_commands_of_all_hosts_together_are_bounded() -> None:
    bench = Bench()
    bench.log_in()
    bench.vdisk.is_held = True
    for number in range(MAX_COMMANDS):
        bench.receive(_verify(f"0200000001{number:02x}"))
    assert bench.exchange(_verify()) == [_later("00 00 00 40 000000e00000 0000")]
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert len(bench.port.take()) == MAX_COMMANDS


def test_what_fails_with_its_session_makes_room_for_others() -> None:
    bench = Bench()
    away = (Status.CHECK_CONDITION, Sense(0x04, 0x4400))
    bench.lun.answers[Opcode.TEST_UNIT_READY] = [away] * (MAX_COMMANDS_OF_HOST + 1)
    replies = bench.exchange(*[_verify()] * (MAX_COMMANDS_OF_HOST + 1))
    assert [reply[27] for reply in replies] == [0x61] * (MAX_COMMANDS_OF_HOST + 1)


def test_only_so_many_long_commands_run_at_once() -> None:
    bench = Bench()
    bench.log_in()
    bench.vdisk.is_held = True
    for _ in range(10):
        bench.receive(_verify())
    assert bench.lun.opcodes() == [Opcode.VERIFY_16] * 4
    bench.vdisk.is_held = False
    bench.vdisk.release_all()
    assert bench.port.take() == [ata_reply("00 00 00 40 000000e00000 0000")] * 10


def test_verifies_of_one_host_stop_no_other() -> None:
    bench = RingBench(slots=2048)
    bench.exchange(read_ext(0, 2), _verify(OTHER_CLIENT_MAC))
    bench.lun.held_opcodes = {Opcode.VERIFY_16}
    refused = bench.exchange(*[_verify(OTHER_CLIENT_MAC)] * 1100)
    assert len(refused) == 1100 - MAX_COMMANDS_OF_HOST
    assert len(bench.exchange(read_ext(0, 2))) == 1
    bench.close()
