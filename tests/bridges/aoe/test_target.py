# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden frames: what a target answers, and when it is silent."""

from __future__ import annotations

import pytest

from bridges.aoe.address import Address
from bridges.aoe.sessions import AoeTargetError
from bridges.aoe.target import AoeTarget
from scsi_backend.servers.disk import disk
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target, TargetError
from tests.bridges.aoe.bench import (
    ANNOUNCEMENT,
    BROADCAST_MAC,
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REPLY,
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


_ANYBODY = f"{BROADCAST_MAC} {CLIENT_MAC} 88a2 10 00 ffff ff"


@pytest.mark.parametrize(
    "header",
    [
        _ANYBODY,
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


def test_wildcards_may_read_and_identify() -> None:
    bench = Bench()
    replies = bench.exchange(
        ata("40 00 01 24 070000000000 0000", header=_ANYBODY),
        ata("00 00 01 ec 000000a00000 0000", header=_ANYBODY),
    )
    assert replies[0] == ata_reply("40 00 00 40 070000000000 0000", pattern(7, 512))
    assert [len(reply) for reply in replies] == [36 + 512] * 2


def test_a_broadcast_frame_to_one_address_may_write() -> None:
    bench = Bench()
    header = REQUEST.replace(TARGET_MAC, BROADCAST_MAC)
    frame = ata("41 00 01 34 070000000000 0000", _DATA[:512], header=header)
    assert bench.exchange(frame) == [ata_reply("41 00 00 40 070000000000 0000")]


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

    def open_session(self, initiator_name: str) -> Session:
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


def test_a_target_without_a_lun_to_serve_is_refused() -> None:
    with pytest.raises(AoeTargetError, match=r"e1\.1: LUNs \[\]: expected LUN 0"):
        AoeTarget(Address(1, 1), Target("aoe", "e1.1", 1), ManualClock())


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
