# SPDX-License-Identifier: GPL-2.0-or-later
"""A session with a shared area, and clients that send what none should."""

from __future__ import annotations

import os

import pytest

from bridges.local.shared_wire import SharedCommandFrame, area_request, nudge
from bridges.local.wire import FrameType
from bridges.stream_session import PeerError
from scsi_backend.t10.cdb import read_16, write_16
from tests.bridges.local.doubles import Recorder, Wire, complete_good
from tests.bridges.local.shared_peer import (
    AREA_BYTES,
    DONE,
    MIB,
    RECORD,
    Peer,
    shared_good,
    shared_wire,
)
from tests.scsi_backend.cdbs import raw
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import connect

VALID = SharedCommandFrame(0x77, 0, read_16(0, 1), 512, 512, 4096, 8192, RECORD).serialize()


class TestHostileClients:
    @pytest.mark.parametrize(
        ("at", "value", "text"),
        [
            (32, "000ffe01", "data-in of 512 bytes at 1048065: the area has 1048576"),
            (32, "ffffffff", "data-in of 512 bytes at 4294967295"),
            (36, "000ffe01", "data-out of 512 bytes at 1048065"),
            (36, "fffffe00", "data-out of 512 bytes at 4294966784"),
            (40, "000ffff9", "record of 8 bytes at 1048569"),
            (40, "ffffffff", "record of 8 bytes at 4294967295"),
            (24, "00100000", "data-in of 1048576 bytes at 4096"),
            (24, "ffffffff", "data-in of 4294967295 bytes"),
            (28, "02000001", "data-out of 33554433 bytes"),
            (6, "0000", "CDB of 0 bytes"),
            (6, "0105", "CDB of 261 bytes"),
            (0, "00000039", "frame length 57: its parts have 56"),
            (4, "07", "frame type 7: expected 1"),
            (4, "05", "frame type 5: expected 1"),
            (4, "08", "frame length 56 of type 8: expected 28"),
        ],
    )
    def test_frame_out_of_bounds_gets_an_error_and_touches_nothing(
        self, at: int, value: str, text: str
    ) -> None:
        nexus = Recorder(complete_good)
        peer = Peer(nexus)
        peer.area[:] = b"\xee" * AREA_BYTES
        data = bytearray(VALID)
        new = bytes.fromhex(value)
        data[at : at + len(new)] = new
        with pytest.raises(PeerError, match=text):
            peer.wire.give(bytes(data))
        [(header, error_text, _)] = peer.wire.responses()
        assert (header.kind, text in error_text.decode()) == (FrameType.ERROR, True)
        assert not nexus.commands
        assert peer.area[:] == b"\xee" * AREA_BYTES

    def test_last_bytes_of_the_area_can_be_used(self) -> None:
        nexus = Recorder(complete_good)
        peer = Peer(nexus)
        end = AREA_BYTES
        peer.give(SharedCommandFrame(1, 0, write_16(0, 1), 512, 512, end - 512, end - 512, end - 8))
        assert peer.area[end - 1] == 1

    def test_parts_may_overlap_at_the_clients_own_risk(self) -> None:
        peer = Peer(connect(FaultyVdisk(64)).session)
        peer.give(SharedCommandFrame(1, 0, read_16(0, 1), 512, 512, 0, 4, 8))
        assert peer.area[DONE] == 1

    @pytest.mark.parametrize("data", [VALID, SharedCommandFrame(1, 0, raw("00")).serialize()])
    def test_shared_command_without_an_area_is_an_error(self, data: bytes) -> None:
        connection = shared_wire(Recorder())
        with pytest.raises(PeerError, match="shared command without an area"):
            connection.give(data)

    @pytest.mark.parametrize("data", [VALID, area_request(MIB), nudge(1)])
    def test_version_1_has_none_of_this(self, data: bytes) -> None:
        connection = Wire(Recorder())
        with pytest.raises(PeerError, match=r"frame type \d: expected 1"):
            connection.give(data)

    def test_client_that_changes_everything_under_way_hurts_only_its_data(self) -> None:
        vdisk = FaultyVdisk(64)
        vdisk.fill()
        nexus = connect(vdisk).session
        peer = Peer(nexus)
        for tag in range(200):
            peer.area[:8192] = os.urandom(8192)
            cdb = (read_16, write_16)[tag % 2](tag % 60, 4)
            peer.give(SharedCommandFrame(tag, 0, cdb, 2048, 2048, tag, 2 * tag, 1 + 7 * tag))
        assert peer.wire.responses() == []
        peer.wire.assert_let_go()

    def test_commands_wait_while_the_connection_is_full(self) -> None:
        nexus = Recorder()
        peer = Peer(nexus)
        peer.wire.limit_bytes = 10 << 10
        data = SharedCommandFrame(1, 0, read_16(0, 1), 512, 0, 0, 0).serialize() * 20
        assert peer.wire.give(data) == len(data) // 2
        for _, command in nexus.commands:
            command.complete()
        assert peer.wire.responses() == [shared_good(1)] * 10
