# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command session does with memory: who holds it, how much is counted, who lets go."""

from __future__ import annotations

from bridges.buffers import CHUNK_BYTES, Chunk
from bridges.local import wire
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.sense import Sense
from tests.bridges.local.doubles import (
    Recorder,
    Wire,
    complete_good,
    data_out,
    frame,
    good,
)
from tests.scsi_backend.cdbs import READ, TEST_UNIT_READY, WRITE, block, raw

MAX_DATA_BYTES = 32 << 20


class TestMemory:
    def test_data_out_is_held_while_its_command_is_under_way(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        connection.give(frame(block(WRITE, 10, 0, 1), payload=b"x" * 512))
        assert connection.incoming.uses == 2
        assert connection.held_bytes == 512
        nexus.command().complete()
        assert connection.incoming.uses == 1
        assert connection.responses() == [good(1)]
        connection.assert_let_go()

    def test_data_out_outlives_the_chunk_it_was_received_in(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        connection.give(frame(block(WRITE, 10, 0, 1), payload=b"x" * 512))
        # What the stream does when the chunk is full.
        old, connection.incoming = connection.incoming, Chunk(connection.sgv, CHUNK_BYTES)
        old.release()
        assert data_out(nexus.command()) == b"x" * 512
        nexus.command().complete()
        connection.assert_let_go()

    def test_room_for_data_in_counts_while_its_command_is_under_way(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        connection.give(frame(block(READ, 10, 0, 0), room=1 << 20))
        assert connection.out.used_bytes > 1 << 20
        nexus.command().complete()
        assert connection.out.used_bytes == wire.RESPONSE.size
        connection.assert_let_go()

    def test_commands_wait_while_the_connection_is_full(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus, limit_bytes=3 << 20)
        data = frame(block(READ, 10, 0, 0), room=1 << 20) * 5
        used = connection.give(data)
        assert used == 3 * len(data) // 5
        for index in range(3):
            nexus.command(index).complete()
        assert len(connection.responses()) == 3
        assert connection.give(data[used:]) == len(data) - used
        assert len(nexus.commands) == 5

    def test_commands_without_data_are_bounded_too(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus, limit_bytes=100 << 10)
        data = frame(TEST_UNIT_READY) * 1000
        assert connection.give(data) == len(data) // 10
        assert connection.session.open_requests == 100

    def test_short_answers_in_much_room_use_little_memory(self) -> None:
        connection = Wire(Recorder(lambda command: command.reply(b"short", 5)))
        for _ in range(1000):
            connection.give(frame(raw("12"), room=1 << 20))
        assert connection.sgv.in_use_bytes <= 8 << 20
        assert connection.responses() == [good(1, b"short")] * 1000
        connection.assert_let_go()

    def test_short_answers_that_come_late_use_little_memory(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus, limit_bytes=8 << 20)
        data = frame(raw("12"), room=1 << 20) * 3
        while connection.give(data) == len(data):
            for _, command in nexus.commands[-3:]:
                command.reply(b"short", 5)
        assert connection.sgv.in_use_bytes <= 24 << 20
        for _, command in nexus.commands:
            if command.status is None:
                command.reply(b"short", 5)
        assert connection.responses() == [good(1, b"short")] * len(nexus.commands)
        assert connection.out.used_bytes == 0
        connection.assert_let_go()

    def test_late_read_that_fails_lets_go_of_its_room(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        connection.give(frame(raw("28"), tag=1, room=4096) + frame(raw("28"), tag=2, room=4096))
        nexus.command(0).check_condition(sense_data.READ_ERROR)
        nexus.command(1).data_in_length = 4096
        nexus.command(1).complete()
        failed, succeeded = connection.responses()
        assert Sense.decode(failed[2]) == sense_data.READ_ERROR
        assert len(succeeded[1]) == 4096
        connection.assert_let_go()


class TestDirect:
    def test_long_data_out_is_received_into_memory_of_its_own(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        payload = bytes(range(256)) * 1024
        data = frame(block(WRITE, 10, 0, 512), tag=3, room=5, payload=payload)
        assert connection.give(data[:1000]) == 1000
        assert not nexus.commands
        assert connection.held_bytes == len(payload)
        connection.give_direct(data[1000:])
        command = nexus.command()
        assert data_out(command) == payload
        assert command.data_in is not None
        assert len(command.data_in) == 5
        command.complete()
        assert connection.responses() == [good(3)]
        connection.assert_let_go()

    def test_longest_data_out_is_taken(self) -> None:
        nexus = Recorder(complete_good)
        connection = Wire(nexus)
        payload = b"\xa5" * MAX_DATA_BYTES
        data = frame(block(WRITE, 10, 0, 0), payload=payload)
        assert connection.give(data[:100]) == 100
        connection.give_direct(data[100:])
        assert data_out(nexus.command()) == payload
        assert connection.responses() == [good(1)]
        connection.assert_let_go()

    def test_long_data_out_begins_when_its_cdb_is_there(self) -> None:
        nexus = Recorder(complete_good)
        connection = Wire(nexus)
        cdb = block(WRITE, 16, 0x1234, 200)
        data = frame(cdb, payload=b"x" * 102_400)
        for length in range(48):
            assert connection.give(data[:length]) == 0
        assert connection.give(data[:48]) == 48
        connection.give_direct(data[48:])
        assert nexus.cdb() == cdb

    def test_data_out_that_fits_the_chunk_is_waited_for(self) -> None:
        nexus = Recorder(complete_good)
        connection = Wire(nexus)
        data = frame(block(WRITE, 10, 0, 128), payload=b"x" * (64 << 10))
        assert connection.give(data[:-1]) == 0
        assert connection.session.direct is None
        assert connection.give(data) == len(data)
        assert data_out(nexus.command()) == b"x" * (64 << 10)

    def test_header_of_the_next_long_command_is_asked_for_alone(self) -> None:
        connection = Wire(Recorder(complete_good))
        data = frame(raw("8a").ljust(16), payload=b"x" * 100_000)
        assert connection.session.receive_limit_bytes == 0
        connection.give(data[:48])
        connection.give_direct(data[48:])
        assert connection.session.receive_limit_bytes == 48
        connection.give(frame(TEST_UNIT_READY))
        assert connection.session.receive_limit_bytes == 0

    def test_connection_that_ends_in_long_data_out_lets_go_of_it(self) -> None:
        nexus = Recorder()
        connection = Wire(nexus)
        data = frame(block(WRITE, 10, 0, 512), payload=bytes(1 << 20))
        connection.give(data[:5000])
        assert len(connection.sgv.in_use) == 3
        connection.session.closed()
        assert len(connection.sgv.in_use) == 2
        assert nexus.is_closed
        assert not nexus.commands
