# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden frames: what a target answers, and when it is silent."""

from __future__ import annotations

import pytest

from bridges.aoe.policy import Policy
from tests.bridges.aoe.bench import (
    BROADCAST_MAC,
    CLIENT_MAC,
    REPLY,
    REQUEST,
    REQUEST_TO_ANYBODY,
    TAG,
    TARGET_MAC,
    Bench,
    ata,
    ata_reply,
    padded,
    read_ext,
    unhex,
    write_ext,
)
from tests.scsi_backend.fakes import FaultyVdisk, pattern

_DATA = bytes(range(256)) * 4

# Registers of a request, whether data follow; registers of its reply, whether data follow.
_ATA_FRAMES = {
    "READ SECTORS": ("00 00 02 20 070000e00000", "", "00 00 00 40 070000e00000", "7 8"),
    "READ SECTORS without retry": ("00 00 01 21 070000e00000", "", "00 00 00 40 070000e00000", "7"),
    "READ SECTORS EXT": ("40 00 02 24 070000000000", "", "40 00 00 40 070000000000", "7 8"),
    "READ SECTORS EXT, last": ("40 00 01 24 ff0300000000", "", "40 00 00 40 ff0300000000", "1023"),
    "WRITE SECTORS": ("01 00 02 30 070000e00000", "2", "01 00 00 40 070000e00000", ""),
    "WRITE SECTORS without retry": (
        "01 00 01 31 070000e00000",
        "1",
        "01 00 00 40 070000e00000",
        "",
    ),
    "WRITE SECTORS EXT": ("41 00 02 34 070000000000", "2", "41 00 00 40 070000000000", ""),
    "WRITE SECTORS EXT, A": ("43 00 01 34 070000000000", "1", "43 00 00 40 070000000000", ""),
    "WRITE, more data": ("41 00 01 34 070000000000", "2", "41 00 00 40 070000000000", ""),
    "FLUSH CACHE": ("00 00 00 e7 000000a00000", "", "00 00 00 40 000000a00000", ""),
    "FLUSH CACHE EXT": ("40 00 00 ea 000000000000", "", "40 00 00 40 000000000000", ""),
    "CHECK POWER MODE": ("00 00 00 e5 000000a00000", "", "00 00 ff 40 000000a00000", ""),
    # IDNF beyond the end.
    "READ past end": ("40 00 02 24 ff0300000000", "", "40 10 02 41 ff0300000000", ""),
    "READ far beyond": ("40 00 01 24 ffffffffffff", "", "40 10 01 41 ffffffffffff", ""),
    "READ LBA28 past end": ("00 00 01 20 ffffffef0000", "", "00 10 01 41 ffffffef0000", ""),
    "WRITE past end": ("41 00 02 34 ff0300000000", "2", "41 10 02 41 ff0300000000", ""),
    # ABRT: opcode, counts, direction, width, data.
    "NOP": ("00 00 00 00 000000000000", "", "00 04 00 41 000000000000", ""),
    "DATA SET MANAGEMENT": ("41 01 01 06 000000000000", "1", "41 04 01 41 000000000000", ""),
    "SET FEATURES": ("00 02 00 ef 000000000000", "", "00 04 00 41 000000000000", ""),
    "DEVICE RESET": ("00 00 00 08 000000000000", "", "00 04 00 41 000000000000", ""),
    "opcode ff": ("00 00 01 ff 000000000000", "", "00 04 01 41 000000000000", ""),
    "READ, count 0": ("40 00 00 24 070000000000", "", "40 04 00 41 070000000000", ""),
    "READ, count 3": ("40 00 03 24 070000000000", "", "40 04 03 41 070000000000", ""),
    "WRITE, count 0": ("41 00 00 34 070000000000", "1", "41 04 00 41 070000000000", ""),
    "WRITE, count 3": ("41 00 03 34 070000000000", "2", "41 04 03 41 070000000000", ""),
    "WRITE, too little data": ("41 00 02 34 070000000000", "1", "41 04 02 41 070000000000", ""),
    "WRITE, no data": ("41 00 01 34 070000000000", "", "41 04 01 41 070000000000", ""),
    "READ with W": ("41 00 01 24 070000000000", "", "41 04 01 41 070000000000", ""),
    "WRITE without W": ("40 00 01 34 070000000000", "1", "40 04 01 41 070000000000", ""),
    "EXT without E": ("00 00 01 24 070000e00000", "", "00 04 01 41 070000e00000", ""),
    "IDENTIFY, count 2": ("00 00 02 ec 000000a00000", "", "00 04 02 41 000000a00000", ""),
    # Reserved flags and bytes do not come back.
    "reserved flags": ("ec 00 01 24 070000000000", "", "40 00 00 40 070000000000", "7"),
}


@pytest.mark.parametrize("name", _ATA_FRAMES)
def test_ata(name: str) -> None:
    registers, data_sectors, reply_registers, reply_sectors = _ATA_FRAMES[name]
    request = ata(registers + "ffff", _DATA[: 512 * int(data_sectors or 0)])
    expected = ata_reply(
        reply_registers + "0000", *(pattern(int(lba), 512) for lba in reply_sectors.split())
    )
    bench = Bench()
    assert bench.exchange(request) == [expected]
    assert bench.port.allocated == 0


def test_writes_reach_the_disk_and_nothing_beside_it() -> None:
    bench = Bench()
    before = bytes(bench.vdisk.data)
    bench.exchange(write_ext(7, _DATA))
    assert bytes(bench.vdisk.data) == before[: 7 * 512] + _DATA + before[9 * 512 :]


def test_every_reply_is_padded_to_60_bytes_and_short_requests_are_good() -> None:
    bench = Bench()
    frames = {
        "query config of 32 bytes": unhex(f"{REQUEST} 01 {TAG} 0000 0000 00 00 0000"),
        "write": write_ext(7, _DATA),
        "flush of 36 bytes": ata("00 00 00 e7 000000000000 0000"),
        "header of 24 bytes": unhex(f"{REQUEST} 09 {TAG}"),
    }
    replies = [bench.exchange(frame) for frame in frames.values()]
    assert [[len(reply) for reply in each] for each in replies] == [[60]] * 4
    (reply,) = bench.exchange(read_ext(7, 1))
    assert len(reply) == 36 + 512


def test_identify_describes_the_lun() -> None:
    bench = Bench()
    (reply,) = bench.exchange(ata("00 00 01 ec 000000a00000 0000"))
    assert reply[:36] == unhex(f"{REPLY} 00 {TAG} 00 00 00 40 000000a00000 0000")
    data = reply[36:]
    assert len(data) == 512
    assert sum(data) % 256 == 0
    # Words 27 to 46: vendor and product, swapped in pairs; words 100 to 103: 1024 sectors.
    assert data[54:94] == b"CSTSF_OIf uatl y".ljust(40)
    assert data[200:208] == (1024).to_bytes(8, "little")


# The header's first 20 bytes; the reply's, or nothing for silence. The request is a config query.
_HEADERS = {
    "to us": (REQUEST, REPLY),
    "broadcast frame": (REQUEST.replace(TARGET_MAC, BROADCAST_MAC), REPLY),
    "any shelf": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 ffff 01", REPLY),
    "any slot": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 0001 ff", REPLY),
    "anybody": (f"{BROADCAST_MAC} {CLIENT_MAC} 88a2 10 00 ffff ff", REPLY),
    "other shelf": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 0002 01", ""),
    "other slot": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 0001 02", ""),
    "any shelf, other slot": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 ffff 02", ""),
    "other shelf, any slot": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 0002 ff", ""),
    "other ethertype": (f"{TARGET_MAC} {CLIENT_MAC} 0800 10 00 0001 01", ""),
    "response": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 18 00 0001 01", ""),
    "response with error": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 1c 01 0001 01", ""),
    "own transmission": (f"{BROADCAST_MAC} {TARGET_MAC} 88a2 10 00 0001 01", ""),
    "to another host": (f"02000000000f {CLIENT_MAC} 88a2 10 00 0001 01", ""),
    "from a group address": (f"{TARGET_MAC} {BROADCAST_MAC} 88a2 10 00 0001 01", ""),
    # An error flag or code of a request is not echoed, nor are the reserved flags.
    "stray error": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 14 09 0001 01", REPLY),
    "reserved flags": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 13 00 0001 01", REPLY),
}


@pytest.mark.parametrize("name", _HEADERS)
def test_header(name: str) -> None:
    request, reply = _HEADERS[name]
    bench = Bench()
    replies = bench.exchange(padded(f"{request} 01 {TAG} 0000 0000 00 00 0000"))
    expected = padded(f"{reply} 01 {TAG} 0040 0001 02 10 0000")
    assert replies == ([expected] if reply else [])


_BAD = {
    "version 0": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 00 00 0001 01 01 {TAG}", 5),
    "version 2": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 20 00 0001 01 01 {TAG}", 5),
    "version 15": (f"{TARGET_MAC} {CLIENT_MAC} 88a2 f0 00 0001 01 07 {TAG}", 5),
    "command 4": (f"{REQUEST} 04 {TAG}", 1),
    "command 239": (f"{REQUEST} ef {TAG}", 1),
    "vendor command 240": (f"{REQUEST} f0 {TAG}", 1),
    "vendor command 255": (f"{REQUEST} ff {TAG}", 1),
}


@pytest.mark.parametrize("name", _BAD)
def test_what_is_not_understood_is_answered_with_an_error(name: str) -> None:
    request, error = _BAD[name]
    bench = Bench()
    command = unhex(request)[19]
    expected = padded(f"{CLIENT_MAC} {TARGET_MAC} 88a2 1c {error:02x} 0001 01 {command:02x} {TAG}")
    assert bench.exchange(padded(request)) == [expected]


def test_frames_shorter_than_their_argument_are_dropped() -> None:
    bench = Bench()
    config = unhex(f"{REQUEST} 01 {TAG} 0000 0000 00 00 0000")
    mask = unhex(f"{REQUEST} 02 {TAG} 00 00 00 00")
    reserve = unhex(f"{REQUEST} 03 {TAG} 00 00")
    for frame in (config, mask, reserve, read_ext(7, 1)):
        for length in range(len(frame)):
            assert bench.exchange(frame[:length]) == []
        assert len(bench.exchange(frame)) == 1


# ccmd, length and string; error, the string in the reply. None is silence.
_CONFIG_STEPS: list[tuple[str, bytes, int | None, bytes]] = [
    ("00 0000", b"", 0, b""),
    ("01 0000", b"", 0, b""),
    ("01 0001", b"x", None, b""),
    ("03 0005", b"hello", 0, b"hello"),
    ("03 0005", b"hello", 0, b"hello"),
    ("03 0005", b"world", 4, b"hello"),
    ("00 eded", b"\xed" * 64, 0, b"hello"),
    ("01 0005", b"hello", 0, b"hello"),
    ("01 0004", b"hell", None, b""),
    ("02 0004", b"hell", 0, b"hello"),
    ("02 0000", b"", 0, b"hello"),
    ("02 0004", b"helm", None, b""),
    ("04 0401", b"z" * 1025, 2, b"hello"),
    ("04 0006", b"short", 2, b"hello"),
    ("05 0000", b"", 2, b"hello"),
    ("0f 0000", b"", 2, b"hello"),
    # The version nibble of a request means nothing.
    ("94 0400", b"y" * 1024, 0, b"y" * 1024),
    ("04 0000", b"", 0, b""),
]


def test_query_config_step_by_step() -> None:
    bench = Bench()
    for code_and_length, string, error, shown in _CONFIG_STEPS:
        request = unhex(f"{REQUEST} 01 {TAG} 0000 0000 00 {code_and_length}", string)
        command = request[29] & 0x0F
        flags = "1c" if error else "18"
        expected = padded(
            f"{CLIENT_MAC} {TARGET_MAC} 88a2 {flags} {error or 0:02x} 0001 01 01 {TAG}"
            f"0040 0001 02 1{command:x} {len(shown):04x}",
            shown,
        )
        replies = bench.exchange(request)
        assert replies == ([] if error is None else [expected]), code_and_length


@pytest.mark.parametrize(
    "header",
    [
        REQUEST_TO_ANYBODY,
        f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 ffff 01",
        f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 0001 ff",
    ],
)
def test_one_frame_cannot_write_to_all_disks_or_rename_them(header: str) -> None:
    bench = Bench()
    before = bytes(bench.vdisk.data)
    assert bench.exchange(ata("41 00 01 34 070000000000 0000", _DATA[:512], header=header)) == []
    assert bytes(bench.vdisk.data) == before
    assert bench.exchange(unhex(f"{header} 01 {TAG} 0000 0000 00 04 0001 78")) == []
    (reply,) = bench.exchange(padded(f"{REQUEST} 01 {TAG}"))
    assert reply[30:32] == b"\0\0"


# Registers of commands that change something, and how many sectors of data they have.
_CHANGING = {
    "WRITE SECTORS": ("01 00 01 30 070000e00000", 1),
    "WRITE DMA FUA EXT": ("41 00 01 3d 070000000000", 1),
    "TRIM": ("41 01 01 06 000000000000", 1),
    "SET FEATURES, write cache": ("00 82 00 ef 000000a00000", 0),
    "SET FEATURES, nonsense": ("00 99 00 ef 000000a00000", 0),
    **{
        f"power {opcode}": (f"00 00 00 {opcode} 000000a00000", 0)
        for opcode in ("e0", "e1", "e2", "e3", "94", "95", "96", "97")
    },
}


@pytest.mark.parametrize("name", _CHANGING)
@pytest.mark.parametrize("address", ["ffff ff", "ffff 01", "0001 ff"])
def test_one_frame_cannot_change_all_disks(name: str, address: str) -> None:
    registers, sectors = _CHANGING[name]
    bench = Bench(FaultyVdisk(is_thin=True), policy=Policy(write_cache_control=True))
    before = bytes(bench.vdisk.data)
    header = f"{TARGET_MAC} {CLIENT_MAC} 88a2 10 00 {address}"
    data = b"\7" * 512 * sectors
    assert bench.exchange(ata(registers + "0000", data, header=header)) == []
    assert (bytes(bench.vdisk.data), bench.vdisk.has_volatile_cache) == (before, True)
    assert bench.lun.cdbs == []
    # To one target, it is answered.
    assert len(bench.exchange(ata(registers + "0000", data))) == 1


def test_wildcards_may_read_and_identify() -> None:
    bench = Bench()
    replies = bench.exchange(
        ata("40 00 01 24 070000000000 0000", header=REQUEST_TO_ANYBODY),
        ata("00 00 01 ec 000000a00000 0000", header=REQUEST_TO_ANYBODY),
    )
    assert replies[0] == ata_reply("40 00 00 40 070000000000 0000", pattern(7, 512))
    assert [len(reply) for reply in replies] == [36 + 512] * 2


def test_a_broadcast_frame_to_one_address_may_write() -> None:
    bench = Bench()
    header = REQUEST.replace(TARGET_MAC, BROADCAST_MAC)
    frame = ata("41 00 01 34 070000000000 0000", _DATA[:512], header=header)
    assert bench.exchange(frame) == [ata_reply("41 00 00 40 070000000000 0000")]
