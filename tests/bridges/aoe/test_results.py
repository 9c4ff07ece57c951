# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden frames of commands that take no CDB of their own: those of old, SMART, and refusals."""

from __future__ import annotations

import pytest

from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from tests.bridges.aoe.bench import Bench, ata, ata_reply
from tests.scsi_backend.fakes import FaultyVdisk

# Registers of a request and of its reply. The disk has 1024 sectors, the last one is 3FFh.
_FRAMES = {
    "NOP": ("00 00 05 00 112233445566", "00 04 05 41 112233445566"),
    "NOP, auto poll": ("00 01 05 00 112233445566", "00 04 05 41 112233445566"),
    "DEVICE RESET": ("00 00 00 08 000000a00000", "00 04 00 41 000000a00000"),
    "PACKET": ("00 00 00 a0 0014eba00000", "00 04 01 41 010000a00000"),
    "IDENTIFY PACKET DEVICE": ("00 00 01 a1 0014eba00000", "00 04 01 41 010000a00000"),
    **{
        f"RECALIBRATE {rate:x}": (
            f"00 00 01 1{rate:x} 112233e40000",
            "00 00 00 40 112233e40000",
        )
        for rate in range(16)
    },
    "SEEK": ("00 00 01 70 112233e40000", "00 00 00 40 112233e40000"),
    "INITIALIZE DEVICE PARAMETERS": ("00 00 3f 91 000000af0000", "00 00 00 40 000000af0000"),
    "SET MULTIPLE MODE": ("00 00 01 c6 000000a00000", "00 00 00 40 000000a00000"),
    "SET MULTIPLE MODE of 2": ("00 00 02 c6 000000a00000", "00 04 02 41 000000a00000"),
    "EXECUTE DEVICE DIAGNOSTIC": ("00 00 00 90 112233e40000", "00 01 01 40 010000e00000"),
    "CHECK POWER MODE": ("00 00 00 e5 000000a00000", "00 00 ff 40 000000a00000"),
    "CHECK POWER MODE of old": ("00 00 00 98 000000a00000", "00 00 ff 40 000000a00000"),
    "SLEEP": ("00 00 00 e6 000000a00000", "00 04 00 41 000000a00000"),
    "SLEEP of old": ("00 00 00 99 000000a00000", "00 04 00 41 000000a00000"),
    "READ NATIVE MAX ADDRESS": ("00 00 00 f8 000000e00000", "00 00 00 40 ff0300e00000"),
    "READ NATIVE MAX ADDRESS EXT": ("40 00 00 27 000000e00000", "40 00 00 40 ff0300000000"),
    "SET MAX ADDRESS": ("00 00 00 f9 ff0100e00000", "00 04 00 41 ff0100e00000"),
    "SET MAX ADDRESS EXT": ("40 00 00 37 ff0100000000", "40 04 00 41 ff0100000000"),
    "DEVICE CONFIGURATION": ("00 c2 01 b1 000000a00000", "00 04 01 41 000000a00000"),
    "SMART ENABLE OPERATIONS": ("00 d8 00 b0 004fc2a00000", "00 00 00 40 004fc2a00000"),
    "SMART DISABLE OPERATIONS": ("00 d9 00 b0 004fc2a00000", "00 00 00 40 004fc2a00000"),
    "SMART RETURN STATUS": ("00 da 00 b0 004fc2a00000", "00 00 00 40 004fc2a00000"),
    "SMART without its key": ("00 da 00 b0 000000a00000", "00 04 00 41 000000a00000"),
    "SMART EXECUTE OFF-LINE": ("00 d4 00 b0 014fc2a00000", "00 04 00 41 014fc2a00000"),
    "SMART READ LOG": ("00 d5 01 b0 014fc2a00000", "00 04 01 41 014fc2a00000"),
    "SMART WRITE LOG": ("01 d6 01 b0 014fc2a00000", "01 04 01 41 014fc2a00000"),
    "SET FEATURES, transfer mode": ("00 03 45 ef 000000a00000", "00 00 00 40 000000a00000"),
    "SET FEATURES, no look-ahead": ("00 55 00 ef 000000a00000", "00 00 00 40 000000a00000"),
    "SET FEATURES, look-ahead": ("00 aa 00 ef 000000a00000", "00 00 00 40 000000a00000"),
    "SET FEATURES, keep settings": ("00 66 00 ef 000000a00000", "00 00 00 40 000000a00000"),
    "SET FEATURES, revert settings": ("00 cc 00 ef 000000a00000", "00 00 00 40 000000a00000"),
    "SET FEATURES, power-up": ("00 06 00 ef 000000a00000", "00 04 00 41 000000a00000"),
    "WRITE UNCORRECTABLE EXT": ("40 55 01 45 070000000000", "40 04 01 41 070000000000"),
    "READ LOG EXT": ("40 00 01 2f 300000000000", "40 04 01 41 300000000000"),
    "READ LOG DMA EXT": ("40 00 01 47 300000000000", "40 04 01 41 300000000000"),
    "READ FPDMA QUEUED": ("40 01 00 60 070000000000", "40 04 00 41 070000000000"),
    "WRITE FPDMA QUEUED": ("40 01 00 61 070000000000", "40 04 00 41 070000000000"),
    "SECURITY ERASE UNIT": ("00 00 00 f4 000000a00000", "00 04 00 41 000000a00000"),
    "SANITIZE DEVICE": ("40 12 00 b4 000000000000", "40 04 00 41 000000000000"),
}


# Their replies have as much behind the registers as the request has, up to a sector.
_PADDED = ("SMART ENABLE OPERATIONS", "SMART DISABLE OPERATIONS", "SMART RETURN STATUS")


@pytest.mark.parametrize("name", _FRAMES)
def test_registers(name: str) -> None:
    request, reply = _FRAMES[name]
    bench = Bench()
    assert bench.exchange(ata(request + "ffff")) == [ata_reply(reply + "0000")]
    assert bench.port.allocated == 0


@pytest.mark.parametrize("data_bytes", [511, 512, 513])
@pytest.mark.parametrize("name", _FRAMES)
def test_registers_of_a_request_with_data(name: str, data_bytes: int) -> None:
    request, reply = _FRAMES[name]
    bench = Bench()
    length_bytes = 36 + min(data_bytes, 512) if name in _PADDED else 60
    (found,) = bench.exchange(ata(request + "ffff", b"\xaa" * data_bytes))
    assert found == ata_reply(reply + "0000").ljust(length_bytes, b"\0")
    assert bench.port.allocated == 0


_REFUSED = [
    *(0x2F, 0x37, 0x45, 0x47, 0x60, 0x61, 0x63, 0x64, 0x65, 0x92, 0x93, 0xB1, 0xB4, 0xF9),
    *range(0x5B, 0x60),
    *range(0xF1, 0xF7),
]


@pytest.mark.parametrize("opcode", _REFUSED)
def test_what_is_not_served_is_aborted_with_its_registers_as_they_were(opcode: int) -> None:
    bench = Bench()
    before = bytes(bench.vdisk.data)
    (reply,) = bench.exchange(ata(f"41 00 01 {opcode:02x} 070000000000 0000", bytes(512)))
    assert reply == ata_reply("41 04 01 41 070000000000 0000")
    assert bytes(bench.vdisk.data) == before


def test_smart_data_say_nothing_but_that_they_are_whole() -> None:
    (reply,) = Bench().exchange(ata("00 d0 01 b0 004fc2a00000 0000"))
    assert reply[:36] == ata_reply("00 00 00 40 004fc2a00000 0000")[:36]
    assert len(reply) == 36 + 512
    assert reply[36:] == b"\x10" + bytes(510) + b"\xf0"


def test_smart_tells_of_a_failure_that_the_lun_predicts() -> None:
    bench = Bench()
    bench.log_in()
    predicted = Sense(0x01, 0x5D10)
    bench.lun.answers[Opcode.TEST_UNIT_READY] = [(Status.CHECK_CONDITION, predicted)]
    assert bench.exchange(ata("00 da 00 b0 004fc2a00000 0000")) == [
        ata_reply("00 00 00 40 00f42ca00000 0000")
    ]


def test_a_failed_self_test_is_a_device_fault() -> None:
    bench = Bench()
    bench.log_in()
    bench.vdisk.faults.stored_bytes = 0
    assert bench.exchange(ata("00 00 00 90 000000a00000 0000")) == [
        ata_reply("00 04 00 61 000000a00000 0000")
    ]


@pytest.mark.parametrize(
    ("blocks", "lba28", "lba48"),
    [
        (0x10000000, "fffffff0", "ffffff0f0000"),
        (0x10000001, "fffffff0", "000000100000"),
        (0x123456789ABD, "fffffff0", "bc9a78563412"),
    ],
)
def test_native_max_is_cut_to_what_its_command_can_say(blocks: int, lba28: str, lba48: str) -> None:
    vdisk = FaultyVdisk()
    bench = Bench(vdisk)
    bench.log_in()
    vdisk.new_block_count = blocks
    bench.lun.unit.resync_size()
    low = lba28[:6] + "ef"
    replies = bench.exchange(
        ata("00 00 00 f8 000000e00000 0000"), ata("40 00 00 27 000000000000 0000")
    )
    assert replies[-2:] == [
        ata_reply(f"00 00 00 40 {low}0000 0000"),
        ata_reply(f"40 00 00 40 {lba48} 0000"),
    ]


def test_a_lun_that_is_away_is_away_for_commands_without_effect_too() -> None:
    bench = Bench()
    bench.log_in()
    no_medium = Sense(0x02, 0x3A00)
    bench.lun.answers[Opcode.TEST_UNIT_READY] = [(Status.CHECK_CONDITION, no_medium)]
    assert bench.exchange(ata("00 55 00 ef 000000a00000 0000")) == [
        ata_reply("00 06 00 41 000000a00000 0000")
    ]
