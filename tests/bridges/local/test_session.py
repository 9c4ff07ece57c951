# SPDX-License-Identifier: GPL-2.0-or-later
"""A command session between byte strings and a nexus: commands, CDBs, and broken frames."""

from __future__ import annotations

import struct

import pytest

from bridges.local.wire import FrameType, ResponseFrame
from bridges.stream_session import PeerError
from scsi_backend.servers.command import Command
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status
from tests.bridges.local.doubles import (
    Recorder,
    Wire,
    complete_good,
    disk_wire,
    frame,
    good,
)
from tests.scsi_backend.cdbs import READ, TEST_UNIT_READY, WRITE, block, raw
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import connect

MAX_DATA_BYTES = 32 << 20
RESET_SENSE = bytes.fromhex("700006000000000a00000000290000000000")


class TestCommands:
    def test_read_response_has_the_documented_bytes(self) -> None:
        vdisk = FaultyVdisk(8)
        content = vdisk.fill()
        connection = disk_wire(vdisk)
        data = frame(block(READ, 10, 2, 1), tag=0x0102030405060708, room=512)
        assert connection.give(data) == len(data)
        header = bytes.fromhex("00000214 02 00 0000 0102030405060708 00000200 00000000")
        assert connection.take() == header + content[1024:1536]
        connection.assert_let_go()

    def test_check_condition_has_the_documented_bytes(self) -> None:
        vdisk = FaultyVdisk(8)
        connection = disk_wire(vdisk)
        connection.give(frame(block(READ, 10, 8, 1), tag=9, room=512))
        header = bytes.fromhex("00000026 02 02 0012 0000000000000009 00000000 00000000")
        sense = bytes.fromhex("f00005000000080a00000000210000cf0002")
        assert connection.take() == header + sense
        connection.assert_let_go()

    def test_read_data_is_read_into_the_memory_that_is_sent(self) -> None:
        nexus = Recorder(complete_good)
        connection = Wire(nexus)
        connection.give(frame(block(READ, 10, 0, 8), room=4096))
        data_in = nexus.command().data_in
        assert isinstance(data_in, memoryview)
        assert data_in.obj is connection.out.chunk.view.obj

    def test_write_uses_the_received_bytes_where_they_lie(self) -> None:
        nexus = Recorder(complete_good)
        connection = Wire(nexus)
        connection.give(frame(block(WRITE, 10, 0, 1), payload=b"x" * 512))
        received = nexus.command().data_out
        assert isinstance(received, memoryview)
        assert received.obj is connection.incoming.view.obj
        assert received.tobytes() == b"x" * 512
        assert connection.incoming.uses == 1

    def test_pipelined_commands_are_answered_in_one_piece(self) -> None:
        vdisk = FaultyVdisk(64)
        content = vdisk.fill()
        connection = disk_wire(vdisk)
        data = b"".join(
            frame(block(READ, 16, lba, 1), tag=lba, room=512) + frame(TEST_UNIT_READY, tag=lba)
            for lba in range(64)
        )
        assert connection.give(data) == len(data)
        assert len(connection.out.views(1000)) == 1
        expected = []
        for lba in range(64):
            expected += [good(lba, content[lba * 512 : (lba + 1) * 512]), good(lba)]
        assert connection.responses() == expected
        connection.assert_let_go()

    def test_commands_cut_anywhere_give_the_same_responses(self) -> None:
        vdisk = FaultyVdisk(8)
        vdisk.fill()
        data = (
            frame(block(WRITE, 10, 1, 1), tag=1, payload=b"w" * 512)
            + frame(block(READ, 6, 1, 1), tag=2, room=512)
            + frame(TEST_UNIT_READY[:6], tag=3)
        )
        for cut in range(len(data) + 1):
            connection = disk_wire(vdisk)
            used = connection.give(data[:cut])
            assert used + connection.give(data[used:]) == len(data)
            assert connection.responses() == [good(1), good(2, b"w" * 512), good(3)]

    def test_unit_attention_goes_to_the_client(self) -> None:
        vdisk = FaultyVdisk(8)
        session = connect(vdisk).session
        session.nexuses[0].establish_unit_attention(sense_data.RESET_OCCURRED)
        connection = Wire(session)
        connection.give(frame(TEST_UNIT_READY, tag=1) + frame(TEST_UNIT_READY, tag=2))
        attention = ResponseFrame(1, Status.CHECK_CONDITION, 0, 18), b"", RESET_SENSE
        assert connection.responses() == [attention, good(2)]

    @pytest.mark.parametrize("status", list(Status))
    def test_every_status_goes_to_the_client(self, status: Status) -> None:
        connection = Wire(Recorder(lambda command: command.complete(status)))
        connection.give(frame(TEST_UNIT_READY, tag=5))
        assert connection.responses() == [(ResponseFrame(5, status), b"", b"")]

    def test_data_in_shorter_than_the_room_is_all_that_is_sent(self) -> None:
        nexus = Recorder(lambda command: command.reply(b"abc", 100))
        connection = Wire(nexus)
        connection.give(frame(raw("12"), tag=1, room=100) + frame(raw("12"), tag=2, room=2))
        assert connection.responses() == [good(1, b"abc"), good(2, b"ab")]

    def test_sense_data_follows_data_in_where_there_are_both(self) -> None:
        recovered = Sense(SenseKey.RECOVERED_ERROR, 0)

        def complete(command: Command) -> None:
            assert command.data_in is not None
            command.data_in[:] = b"d" * len(command.data_in)
            command.data_in_length = len(command.data_in)
            command.complete(Status.CHECK_CONDITION, recovered)

        connection = Wire(Recorder(complete))
        connection.give(frame(raw("28"), tag=4, room=600))
        header = ResponseFrame(4, Status.CHECK_CONDITION, 600, 18)
        assert connection.responses() == [(header, b"d" * 600, recovered.encode())]

    def test_commands_may_end_in_any_order(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        connection.give(b"".join(frame(raw("12"), tag=tag, room=10) for tag in range(4)))
        assert connection.session.open_requests == 4
        for index in (2, 0, 3, 1):
            nexus.command(index).reply(bytes([index]), 10)
        expected = [good(index, bytes([index])) for index in (2, 0, 3, 1)]
        assert connection.responses() == expected
        connection.assert_let_go()

    def test_late_responses_without_data_are_sent_in_one_piece(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        connection.give(b"".join(frame(TEST_UNIT_READY, tag=tag) for tag in range(10)))
        for _, command in reversed(nexus.commands):
            command.complete()
        assert len(connection.out.views(100)) == 1
        assert connection.responses() == [good(tag) for tag in reversed(range(10))]

    def test_tags_may_repeat(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        connection.give(frame(TEST_UNIT_READY, tag=7) * 2)
        nexus.command(1).complete(Status.BUSY)
        nexus.command(0).complete()
        assert connection.responses() == [(ResponseFrame(7, Status.BUSY), b"", b""), good(7)]


class TestCdbs:
    @pytest.mark.parametrize("length", [1, 6, 10, 12, 15])
    def test_short_cdb_is_padded_to_16_bytes(self, length: int) -> None:
        nexus = Recorder(complete_good)
        connection = Wire(nexus)
        cdb = bytes(range(1, length + 1))
        connection.give(frame(cdb))
        assert nexus.cdb() == cdb + bytes(16 - length)

    @pytest.mark.parametrize("length", [16, 32, 260])
    def test_long_cdb_keeps_its_length(self, length: int) -> None:
        nexus = Recorder(complete_good)
        connection = Wire(nexus)
        cdb = b"\x7f" * length
        connection.give(frame(cdb))
        assert nexus.cdb() == cdb

    @pytest.mark.parametrize("lun", [0, 1, 255, 256, 16383])
    def test_command_goes_to_the_lun_it_names(self, lun: int) -> None:
        nexus = Recorder(complete_good)
        Wire(nexus).give(frame(TEST_UNIT_READY, lun=lun))
        assert [number for number, _ in nexus.commands] == [lun]

    @pytest.mark.parametrize("raw_lun", [1, 1 << 56, 0xC101 << 48, (1 << 64) - 1])
    def test_lun_in_a_form_that_nothing_has_is_absent(self, raw_lun: int) -> None:
        connection = disk_wire(FaultyVdisk(8))
        for cdb, room in ((TEST_UNIT_READY, 0), (raw("120000002400"), 36)):
            data = bytearray(frame(cdb, room=room))
            data[16:24] = struct.pack(">Q", raw_lun)
            connection.give(bytes(data))
        refused, inquiry = connection.responses()
        assert (refused[0].status, str(Sense.decode(refused[2]))) == (
            Status.CHECK_CONDITION,
            "ILLEGAL REQUEST 25/00 LOGICAL UNIT NOT SUPPORTED",
        )
        assert (inquiry[0].status, inquiry[1][0]) == (Status.GOOD, 0x7F)


def changed(at: int, value: str) -> bytes:
    """A command with some bytes of its header changed."""
    data = bytearray(frame(block(READ, 10, 0, 1), tag=0x77, room=512))
    new = bytes.fromhex(value)
    data[at : at + len(new)] = new
    return bytes(data)


BROKEN = [
    (changed(4, "02"), "frame type 2: expected 1"),
    (changed(6, "0000"), "CDB of 0 bytes"),
    (changed(6, "0105"), "CDB of 261 bytes"),
    (changed(24, "02000001"), "data-in of 33554433 bytes"),
    (changed(24, "ffffffff"), "data-in of 4294967295 bytes"),
    (changed(28, "02000001"), "data-out of 33554433 bytes"),
    (changed(28, "ffffffff"), "data-out of 4294967295 bytes"),
    (changed(0, "ffffffff"), "frame length 4294967295: its parts have 44"),
    (changed(0, "00000000"), "frame length 0: its parts have 44"),
]


class TestBrokenFrames:
    @pytest.mark.parametrize(("data", "text"), BROKEN)
    def test_broken_frame_gets_an_error_that_says_what_is_wrong(
        self, data: bytes, text: str
    ) -> None:
        connection = Wire(Recorder())
        with pytest.raises(PeerError, match=text):
            connection.give(data)
        [(header, error_text, _)] = connection.responses()
        assert (header.kind, header.tag) == (FrameType.ERROR, 0)
        assert text in error_text.decode()

    @pytest.mark.parametrize(("data", "text"), BROKEN)
    def test_broken_frame_is_refused_by_its_header_alone(self, data: bytes, text: str) -> None:
        connection = Wire(Recorder())
        assert connection.give(data[:31]) == 0
        with pytest.raises(PeerError, match=text):
            connection.give(data[:32])

    def test_broken_frame_takes_no_memory(self) -> None:
        connection = Wire(Recorder())
        before = connection.sgv.taken
        for data, _ in BROKEN:
            with pytest.raises(PeerError):
                connection.give(data)
        assert connection.sgv.taken == before

    def test_commands_before_a_broken_frame_are_answered_before_the_error(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        with pytest.raises(PeerError):
            connection.give(frame(TEST_UNIT_READY, tag=1) * 2 + BROKEN[0][0])
        assert connection.responses() == []
        nexus.command(1).complete()
        assert connection.responses() == [good(1)]
        nexus.command(0).complete()
        answered, (error, _, _) = connection.responses()
        assert (answered, error.kind) == (good(1), FrameType.ERROR)
        connection.assert_let_go()

    def test_limits_themselves_are_no_error(self) -> None:
        nexus = Recorder(complete_good)
        connection = Wire(nexus)
        data = frame(bytes(260), room=MAX_DATA_BYTES)
        assert connection.give(data) == len(data)
        assert nexus.command().data_in is not None
        assert connection.responses() == [good(1)]
        connection.assert_let_go()
