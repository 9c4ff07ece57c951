# SPDX-License-Identifier: GPL-2.0-or-later
"""A session whose commands have their data in shared memory, without a socket and a loop."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bridges.local.shared_wire import AreaReply, SharedCommandFrame, area_request, nudge
from bridges.local.wire import FrameType, ResponseFrame
from bridges.stream_session import PeerError
from scsi_backend.servers.command import Command
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.cdb import read_16, write_16
from scsi_backend.t10.status import Status
from tests.bridges.local.doubles import Recorder, complete_good, data_out, frame, good
from tests.bridges.local.shared_peer import (
    AREA_BYTES,
    DONE,
    MIB,
    RECORD,
    Peer,
    shared_good,
    shared_wire,
)
from tests.scsi_backend.cdbs import READ, TEST_UNIT_READY, block, raw, unmap, unmap_list
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern
from tests.scsi_backend.initiator import connect


def late_disk() -> FaultyVdisk:
    """A disk whose operations end when they are released."""
    vdisk = FaultyVdisk(64)
    vdisk.immediate_bytes = NOT_NOW
    vdisk.is_held = True
    return vdisk


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk(64)


@pytest.fixture
def peer(vdisk: FaultyVdisk) -> Iterator[Peer]:
    peer = Peer(connect(vdisk).session)
    yield peer
    peer.wire.assert_let_go()


class TestArea:
    @pytest.mark.parametrize("length", [4096, 4097, 64 << 20])
    def test_area_has_the_size_that_was_asked_for(self, length: int) -> None:
        peer = Peer(Recorder(), length)
        assert peer.area[:] == bytes(length)

    @pytest.mark.parametrize("length", [0, 1, 4095, (64 << 20) + 1, (1 << 64) - 1])
    def test_area_of_another_size_is_refused_and_the_connection_goes_on(self, length: int) -> None:
        connection = shared_wire(Recorder(complete_good))
        connection.give(area_request(length) + frame(TEST_UNIT_READY, tag=5))
        text = f"area of {length} bytes: expected 4096 to 67108864"
        refusal = AreaReply(0, text).serialize()
        assert connection.take() == refusal + ResponseFrame(5, 0).serialize()
        connection.assert_let_go()

    def test_area_is_refused_while_commands_are_under_way(self) -> None:
        nexus = Recorder()
        connection = shared_wire(nexus)
        connection.give(frame(TEST_UNIT_READY) + area_request(MIB))
        assert connection.take() == AreaReply(0, "commands are under way").serialize()
        nexus.command().complete()
        assert connection.responses() == [good(1)]
        connection.give(area_request(MIB))
        [descriptor] = connection.descriptors
        os.close(descriptor)

    def test_area_is_refused_while_its_descriptor_would_overtake_something(self) -> None:
        connection = shared_wire(Recorder())
        connection.takes_descriptors = False
        before = len(os.listdir("/proc/self/fd"))
        connection.give(area_request(MIB))
        assert connection.take() == AreaReply(0, "the descriptor cannot be sent now").serialize()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_server_without_descriptors_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def exhausted(name: str, flags: int) -> int:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(os, "memfd_create", exhausted)
        connection = shared_wire(Recorder())
        connection.give(area_request(MIB))
        reply = AreaReply.parse(connection.take())
        assert reply == AreaReply(0, "no memory for 1048576 bytes: Too many open files")

    def test_second_area_is_an_error(self) -> None:
        peer = Peer(Recorder())
        with pytest.raises(PeerError, match="second area request: expected one"):
            peer.wire.give(area_request(MIB))

    @pytest.mark.parametrize("is_late", [False, True])
    def test_memory_is_let_go_of_with_the_session_and_its_last_command(self, is_late: bool) -> None:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        nexus = Recorder()
        peer = Peer(nexus)
        peer.area.close()
        # What is left is the server's mapping.
        assert len(os.listdir("/proc/self/fd")) == before + 1
        peer.give(SharedCommandFrame(1, 0, read_16(0, 8), 4096, 0, 4096, 0, RECORD))
        command = nexus.commands.pop()[1]
        if is_late:
            # The client has gone; the device server still fills the memory.
            view = command.data_in
            assert view is not None
            view[:] = b"x" * 4096
            del view
        command.complete()
        peer.wire.session.closed()
        del command
        assert len(os.listdir("/proc/self/fd")) == before


class TestCommands:
    def test_read_fills_the_area_and_the_record(self, peer: Peer, vdisk: FaultyVdisk) -> None:
        content = vdisk.fill()
        peer.area[:] = b"\xee" * AREA_BYTES
        peer.area[DONE] = 0
        peer.give(SharedCommandFrame(1, 0, read_16(2, 8), 4096, 0, 8192, 0, RECORD))
        assert peer.record == "00001000 00000001"
        assert peer.area[8192:12288] == content[1024:5120]
        assert peer.area[:RECORD] + peer.area[16:8192] == b"\xee" * (8192 - 8)
        assert peer.area[12288:] == b"\xee" * (AREA_BYTES - 12288)
        assert peer.wire.responses() == []

    def test_write_is_taken_from_the_area(self, peer: Peer, vdisk: FaultyVdisk) -> None:
        data = pattern(3, 1024)
        peer.area[AREA_BYTES - 1024 :] = data
        at = AREA_BYTES - 1024
        peer.give(SharedCommandFrame(1, 0, write_16(4, 2), 0, 1024, 0, at, RECORD))
        assert vdisk.blocks(4, 2) == data
        assert peer.record == "00000000 00000001"

    def test_read_and_write_move_no_data_through_buffers(self) -> None:
        nexus = Recorder(complete_good)
        peer = Peer(nexus)
        taken = peer.wire.sgv.taken
        peer.give(
            SharedCommandFrame(1, 0, read_16(0, 8), 4096, 0, 4096, 0),
            SharedCommandFrame(2, 0, write_16(0, 8), 0, 4096, 0, 4096),
        )
        for index, view in enumerate((nexus.command(0).data_in, nexus.command(1).data_out)):
            assert isinstance(view, memoryview)
            assert view.obj is not peer.wire.incoming.view.obj
            peer.area[4096] = index
            assert view[0] == index
        assert peer.wire.sgv.taken == taken

    def test_command_without_a_record_is_answered_by_the_stream(
        self, peer: Peer, vdisk: FaultyVdisk
    ) -> None:
        content = vdisk.fill()
        peer.give(SharedCommandFrame(9, 0, read_16(0, 1), 512, 0, 0, 0))
        header = bytes.fromhex("00000014 07 00 0000 0000000000000009 00000200 00000000")
        assert peer.wire.take() == header
        assert peer.area[:512] == content[:512]

    def test_sense_data_follows_the_record(self, peer: Peer) -> None:
        peer.give(SharedCommandFrame(9, 0, block(READ, 10, 64, 1), 512, 0, 512, 0, RECORD))
        assert peer.record == "00000000 02010001"
        header = bytes.fromhex("00000026 07 02 0012 0000000000000009 00000000 00000000")
        sense = bytes.fromhex("f00005000000400a00000000210000cf0002")
        assert peer.wire.take() == header + sense

    def test_status_without_sense_data_is_in_the_record(self) -> None:
        peer = Peer(Recorder(lambda command: command.complete(Status.BUSY)))
        peer.give(SharedCommandFrame(9, 0, TEST_UNIT_READY, record_offset=RECORD))
        assert peer.record == "00000000 08000001"
        assert peer.wire.responses() == []

    def test_short_answer_has_its_length_in_the_record(self) -> None:
        peer = Peer(Recorder(lambda command: command.reply(b"short", 5)))
        peer.give(SharedCommandFrame(9, 0, raw("12"), 100, 0, 4096, 0, RECORD))
        assert peer.record == "00000005 00000001"
        assert peer.area[4096:4102] == b"short\0"

    @pytest.mark.parametrize("lun", [0, 1, 256, 16383])
    def test_command_goes_to_the_lun_it_names(self, lun: int) -> None:
        nexus = Recorder(complete_good)
        Peer(nexus).give(SharedCommandFrame(1, lun, TEST_UNIT_READY))
        assert [number for number, _ in nexus.commands] == [lun]

    @pytest.mark.parametrize("length", [1, 6, 15, 16, 32, 260])
    def test_cdb_has_at_least_16_bytes(self, length: int) -> None:
        nexus = Recorder(complete_good)
        Peer(nexus).give(SharedCommandFrame(1, 0, b"\x7f" * length))
        assert nexus.cdb() == (b"\x7f" * length).ljust(16, b"\0")

    def test_frames_of_both_versions_cut_anywhere_give_the_same(self, vdisk: FaultyVdisk) -> None:
        vdisk.fill()
        for cut in range(200):
            peer = Peer(connect(vdisk).session)
            peer.area[4096:4608] = b"w" * 512
            data = (
                SharedCommandFrame(1, 0, write_16(1, 1), 0, 512, 0, 4096, RECORD).serialize()
                + frame(block(READ, 6, 1, 1), tag=2, room=512)
                + nudge(1)
                + SharedCommandFrame(3, 0, TEST_UNIT_READY).serialize()
            )
            used = peer.wire.give(data[:cut])
            assert used + peer.wire.give(data[used:]) == len(data)
            returned = ResponseFrame(1, 0, kind=FrameType.NUDGE), b"", b""
            assert peer.wire.responses() == [good(2, b"w" * 512), returned, shared_good(3)]


class TestChangingData:
    @pytest.mark.parametrize(
        "cdb",
        [
            unmap(24),
            block({16: 0x93}, 16, 0, 1),
            block({10: 0x41}, 10, 0, 1),
            block({16: 0x8F}, 16, 0, 1, 2),
            block({10: 0x2F}, 10, 0, 1, 2),
            raw("5510000000000000080000"),
            raw("ff"),
        ],
    )
    def test_data_out_that_is_looked_into_is_a_copy(self, cdb: bytes) -> None:
        nexus = Recorder()
        peer = Peer(nexus)
        peer.area[4096:4608] = b"a" * 512
        peer.give(SharedCommandFrame(1, 0, cdb, 0, 512, 0, 4096, RECORD))
        peer.area[4096:4608] = b"b" * 512
        assert data_out(nexus.command()) == b"a" * 512
        # It takes the server's memory for as long.
        assert peer.wire.held_bytes == 512
        nexus.command().complete()
        peer.wire.assert_let_go()

    @pytest.mark.parametrize("cdb", [raw("0a"), raw("2a"), raw("aa"), raw("8a")])
    def test_written_data_is_not_copied(self, cdb: bytes) -> None:
        nexus = Recorder()
        peer = Peer(nexus)
        peer.give(SharedCommandFrame(1, 0, cdb, 0, 512, 0, 4096, RECORD))
        peer.area[4096:4608] = b"b" * 512
        assert data_out(nexus.command()) == b"b" * 512
        assert peer.wire.held_bytes == 0

    def test_unmap_takes_effect_from_shared_memory(self) -> None:
        vdisk = FaultyVdisk(64, is_thin=True)
        vdisk.fill()
        peer = Peer(connect(vdisk).session)
        peer.area[4096:4120] = unmap_list((3, 2))
        peer.give(SharedCommandFrame(1, 0, unmap(24), 0, 24, 0, 4096, RECORD))
        assert peer.record == "00000000 00000001"
        assert vdisk.blocks(3, 2) == bytes(1024)


class TestLateCommands:
    def test_late_end_is_recorded_and_the_stream_is_told(self) -> None:
        vdisk = late_disk()
        content = vdisk.fill()
        peer = Peer(connect(vdisk).session)
        peer.give(SharedCommandFrame(1, 0, read_16(0, 1), 512, 0, 4096, 0, RECORD))
        assert (peer.area[DONE], peer.wire.session.open_requests) == (0, 1)
        flushes = peer.wire.flushes
        vdisk.release()
        assert peer.record == "00000200 00000001"
        assert peer.area[4096:4608] == content[:512]
        assert peer.wire.flushes == flushes + 1
        assert peer.wire.responses() == []
        peer.wire.assert_let_go()

    def test_nudged_command_is_answered_by_the_stream_alone(self) -> None:
        nexus = Recorder()
        peer = Peer(nexus)
        peer.give(SharedCommandFrame(7, 0, TEST_UNIT_READY, record_offset=RECORD))
        peer.wire.give(nudge(7))
        assert peer.wire.responses() == []
        nexus.command().complete()
        assert peer.wire.responses() == [shared_good(7)]
        assert peer.record == "00000000 00000000"
        peer.wire.assert_let_go()

    def test_nudge_after_the_end_is_returned(self, peer: Peer) -> None:
        peer.give(SharedCommandFrame(7, 0, TEST_UNIT_READY, record_offset=RECORD))
        peer.wire.give(nudge(7) + nudge(8))
        returned = [(ResponseFrame(tag, 0, kind=FrameType.NUDGE), b"", b"") for tag in (7, 8)]
        assert peer.wire.responses() == returned

    def test_tags_may_repeat(self) -> None:
        nexus = Recorder()
        peer = Peer(nexus)
        one = SharedCommandFrame(7, 0, TEST_UNIT_READY, record_offset=RECORD)
        other = SharedCommandFrame(7, 0, TEST_UNIT_READY, record_offset=2 * RECORD)
        peer.give(one, other)
        nexus.command(0).complete()
        assert (peer.area[DONE], peer.area[DONE + RECORD]) == (1, 0)
        peer.wire.give(nudge(7))
        nexus.command(1).complete()
        assert peer.wire.responses() == [shared_good(7)]
        peer.wire.assert_let_go()

    def test_commands_under_way_are_told_of_before_the_error(self) -> None:
        nexus = Recorder()
        peer = Peer(nexus)
        peer.give(SharedCommandFrame(1, 0, TEST_UNIT_READY, record_offset=RECORD))
        with pytest.raises(PeerError):
            peer.wire.give(b"\xff" * 64)
        assert peer.wire.responses() == []
        nexus.command().check_condition(sense_data.READ_ERROR)
        (answer, _, sense), (error, _, _) = peer.wire.responses()
        assert (answer.tag, len(sense), error.kind) == (1, 18, FrameType.ERROR)
        assert peer.record == "00000000 02010001"


def test_error_in_a_command_ends_it_in_the_area() -> None:
    def fail(command: Command) -> None:
        command.check_condition(sense_data.INTERNAL_TARGET_FAILURE)

    peer = Peer(Recorder(fail))
    with suppress(PeerError):
        peer.give(SharedCommandFrame(1, 0, read_16(0, 1), 512, 0, 4096, 0, RECORD))
    assert peer.record == "00000000 02010001"
