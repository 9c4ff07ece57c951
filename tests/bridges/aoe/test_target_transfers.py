# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden frames of every command that reads, writes or verifies sectors."""

from __future__ import annotations

import pytest

from scsi_backend.t10.opcodes import Opcode
from tests.bridges.aoe.bench import Bench, CollectingPort, ata, ata_reply, unhex
from tests.scsi_backend.fakes import FaultyVdisk, pattern

# LBA 7 and flags of the Device register; LBA 7 in 48 bits.
_LBA28, _LBA48 = "070000e00000", "070000000000"

_OPCODES_28 = {
    "READ SECTORS": "20",
    "READ SECTORS without retry": "21",
    "READ MULTIPLE": "c4",
    "READ DMA": "c8",
    "READ DMA without retry": "c9",
    "WRITE SECTORS": "30",
    "WRITE SECTORS without retry": "31",
    "WRITE MULTIPLE": "c5",
    "WRITE DMA": "ca",
    "WRITE DMA without retry": "cb",
    "READ VERIFY SECTORS": "40",
    "READ VERIFY SECTORS without retry": "41",
}
_OPCODES_48 = {
    "READ SECTORS EXT": "24",
    "READ DMA EXT": "25",
    "READ MULTIPLE EXT": "29",
    "WRITE SECTORS EXT": "34",
    "WRITE DMA EXT": "35",
    "WRITE MULTIPLE EXT": "39",
    "WRITE DMA FUA EXT": "3d",
    "WRITE MULTIPLE FUA EXT": "ce",
    "READ VERIFY SECTORS EXT": "42",
}
_NAMES = [*_OPCODES_28, *_OPCODES_48]
_WRITES = [name for name in _NAMES if "WRITE" in name]
_READS = [name for name in _NAMES if "WRITE" not in name and "VERIFY" not in name]
_DATA = b"\x5a" * 1024


def _row(name: str) -> tuple[str, str, str]:
    """Flags without W, opcode, and LBA 7."""
    if name in _OPCODES_28:
        return "00", _OPCODES_28[name], _LBA28
    return "40", _OPCODES_48[name], _LBA48


def _with_write(flags: str) -> str:
    return f"{int(flags, 16) | 1:02x}"


@pytest.mark.parametrize("name", _READS)
def test_read(name: str) -> None:
    flags, opcode, lba = _row(name)
    assert Bench().exchange(ata(f"{flags} 00 02 {opcode} {lba} 0000")) == [
        ata_reply(f"{flags} 00 00 40 {lba} 0000", pattern(7, 512), pattern(8, 512))
    ]


@pytest.mark.parametrize("name", _WRITES)
def test_write(name: str) -> None:
    flags, opcode, lba = _row(name)
    flags = _with_write(flags)
    bench = Bench()
    bench.target.durable = False
    expected = ata_reply(f"{flags} 00 00 40 {lba} 0000")
    assert bench.exchange(ata(f"{flags} 00 02 {opcode} {lba} 0000", _DATA)) == [expected]
    assert bench.vdisk.blocks(6, 4) == pattern(6, 512) + _DATA + pattern(9, 512)
    # Only what has FUA in its name asks for it; durable targets always do.
    assert (bench.vdisk.names[-1] == "sync") is ("FUA" in name)
    bench.target.durable = True
    bench.exchange(ata(f"{flags} 00 02 {opcode} {lba} 0000", _DATA))
    assert bench.vdisk.names[-1] == "sync"


@pytest.mark.parametrize("name", [name for name in _NAMES if "VERIFY" in name])
def test_verify(name: str) -> None:
    flags, opcode, lba = _row(name)
    bench = Bench()
    assert bench.exchange(ata(f"{flags} 00 02 {opcode} {lba} 0000")) == [
        ata_reply(f"{flags} 00 00 40 {lba} 0000")
    ]
    bench.vdisk.faults.stored_bytes = 8 * 512
    bad = lba.replace("07", "08", 1)
    assert bench.exchange(ata(f"{flags} 00 02 {opcode} {lba} 0000")) == [
        ata_reply(f"{flags} 40 01 41 {bad} 0000")
    ]


@pytest.mark.parametrize("name", [*_READS, *_WRITES])
@pytest.mark.parametrize("count", ["00", "03", "ff"])
def test_more_sectors_than_fit_into_a_frame_are_aborted(name: str, count: str) -> None:
    flags, opcode, lba = _row(name)
    flags = _with_write(flags) if name in _WRITES else flags
    bench = Bench()
    before = bytes(bench.vdisk.data)
    request = ata(f"{flags} 00 {count} {opcode} {lba} 0000", _DATA + bytes(512))
    assert bench.exchange(request) == [ata_reply(f"{flags} 04 {count} 41 {lba} 0000")]
    assert bytes(bench.vdisk.data) == before


@pytest.mark.parametrize("name", [*_READS, *_WRITES])
def test_w_against_the_opcode_is_aborted(name: str) -> None:
    flags, opcode, lba = _row(name)
    flags = flags if name in _WRITES else _with_write(flags)
    bench = Bench()
    before = bytes(bench.vdisk.data)
    assert bench.exchange(ata(f"{flags} 00 01 {opcode} {lba} 0000", _DATA)) == [
        ata_reply(f"{flags} 04 01 41 {lba} 0000")
    ]
    assert bytes(bench.vdisk.data) == before


@pytest.mark.parametrize("name", _NAMES)
def test_past_the_end_there_is_no_sector(name: str) -> None:
    flags, opcode, _ = _row(name)
    lba = "ff0300e00000" if name in _OPCODES_28 else "ff0300000000"
    flags = _with_write(flags) if name in _WRITES else flags
    bench = Bench()
    before = bytes(bench.vdisk.data)
    assert bench.exchange(ata(f"{flags} 00 02 {opcode} {lba} 0000", _DATA)) == [
        ata_reply(f"{flags} 10 02 41 {lba} 0000")
    ]
    assert bytes(bench.vdisk.data) == before


@pytest.mark.parametrize("name", _OPCODES_48)
def test_ext_without_e_is_good_as_long_as_24_bits_say_it_all(name: str) -> None:
    _, opcode, _ = _row(name)
    flags = "01" if name in _WRITES else "00"
    for lba, status in ((_LBA48, "40"), ("070000e00000", "41"), ("070000000100", "41")):
        (reply,) = Bench().exchange(ata(f"{flags} 00 01 {opcode} {lba} 0000", _DATA))
        assert reply[27] == int(status, 16)
        assert reply[25] == (0x04 if status == "41" else 0)


@pytest.mark.parametrize("name", _WRITES)
def test_a_read_only_disk_is_write_protected(name: str) -> None:
    flags, opcode, lba = _row(name)
    flags = _with_write(flags)
    bench = Bench(FaultyVdisk(read_only=True))
    assert bench.exchange(ata(f"{flags} 00 01 {opcode} {lba} 0000", _DATA)) == [
        ata_reply(f"{flags} 44 01 41 {lba} 0000")
    ]


def test_trim_of_a_read_only_disk_is_write_protected() -> None:
    bench = Bench(FaultyVdisk(is_thin=True, read_only=True))
    entry = unhex("0700000000000100")
    assert bench.exchange(ata("41 01 01 06 000000000000 0000", entry.ljust(512, b"\0"))) == [
        ata_reply("41 44 01 41 000000000000 0000")
    ]


def test_a_jumbo_port_carries_as_much_as_it_advertises() -> None:
    bench = Bench()
    port = CollectingPort(sector_count=16)
    port.mtu = 9000
    bench.target.attach(port)
    port.take()
    for count, status in ((16, 0x40), (17, 0x41)):
        frame = ata(f"40 00 {count:02x} 24 {_LBA48} 0000")
        bench.target.receive(memoryview(frame), port)
        (reply,) = port.take()
        assert (reply[27], len(reply)) == (status, 36 + 16 * 512 if status == 0x40 else 60)


def test_flush_asks_for_all_of_the_medium() -> None:
    bench = Bench()
    bench.log_in()
    for opcode in ("e7", "ea"):
        bench.exchange(ata(f"00 00 05 {opcode} 112233e40000 0000"))
    assert bench.lun.opcodes() == [Opcode.SYNCHRONIZE_CACHE_16] * 2
    assert {cdb.hex() for cdb in bench.lun.cdbs} == {"91" + "00" * 15}
