# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client with a shared area, against real servers of both versions and bad ones."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import random
import socket
import threading
from collections.abc import Iterator

import pytest

from bridges.exchange import Request, run_blocking
from bridges.local import wire
from bridges.local.area import create_area
from bridges.local.client import LocalClient, LocalError
from bridges.local.hello_wire import HelloReply, HelloStatus
from bridges.local.shared_wire import RECORD, SHARED_COMMAND, AreaReply, nudge
from bridges.local.wire import FrameType, ResponseFrame
from bridges.lun import probe
from bridges.recovery import Reply
from scsi_backend.t10 import sense as sense_data
from scsi_backend.t10.cdb import read_16, write_16
from scsi_backend.t10.status import Status
from tests.bridges.local.conftest import NewSite
from tests.bridges.local.fake_server import Script, ServeOne
from tests.bridges.local.peer import receive_to_end
from tests.bridges.local.site import DEADLINE_S, Site, wait_until
from tests.scsi_backend.cdbs import TEST_UNIT_READY, raw
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern

BLOCK = 512
MIB = 1 << 20


def view(size_bytes: int) -> memoryview:
    return memoryview(bytearray(size_bytes))


def ready(site: Site, shared_bytes: int = 4 * MIB) -> LocalClient:
    """A client with an area whose unit attention is out of the way."""
    client = LocalClient.connect(site.path, shared_bytes=shared_bytes)
    assert client.shared_bytes == shared_bytes
    assert client.execute(Request(TEST_UNIT_READY)).status == Status.CHECK_CONDITION
    return client


@pytest.fixture
def client(site: Site) -> Iterator[LocalClient]:
    with ready(site) as client:
        yield client


class TestCommands:
    @pytest.mark.parametrize(
        "size_bytes", [BLOCK, 4096, MIB, 2 * MIB - 8192, 2 * MIB, 3 * MIB, 32 * MIB]
    )
    def test_data_of_any_size_moves_both_ways(self, client: LocalClient, size_bytes: int) -> None:
        data = random.Random(size_bytes).randbytes(size_bytes)
        blocks = size_bytes // BLOCK
        reply = client.execute(Request(write_16(8, blocks), None, memoryview(data)))
        assert reply == Reply(Status.GOOD, None, 0)
        found = view(size_bytes)
        assert client.execute(Request(read_16(8, blocks), found)) == Reply(
            Status.GOOD, None, size_bytes
        )
        assert found == data

    def test_every_read_brings_its_own_data(self, client: LocalClient) -> None:
        content = random.Random(3).randbytes(MIB)
        client.execute(Request(write_16(0, MIB // BLOCK), None, memoryview(content)))
        source = random.Random(4)
        found = view(8 * BLOCK)
        for _ in range(3000):
            lba, blocks = source.randrange(2000), source.randint(1, 8)
            length = blocks * BLOCK
            reply = client.execute(Request(read_16(lba, blocks), found[:length]))
            assert reply == Reply(Status.GOOD, None, length)
            assert found[:length] == content[lba * BLOCK :][:length]

    def test_sense_data_comes_with_the_end(self, client: LocalClient) -> None:
        for _ in range(3):
            reply = client.execute(Request(read_16(1 << 20, 1), view(BLOCK)))
            assert "21/00 LOGICAL BLOCK ADDRESS OUT OF RANGE" in str(reply.sense)
            assert client.execute(Request(read_16(0, 1), view(BLOCK))).status == Status.GOOD

    def test_short_data_in_leaves_the_rest_of_the_buffer_alone(self, client: LocalClient) -> None:
        for cdb in (raw("1200000024"), raw("1200000024").ljust(16, b"\0")):
            buffer = memoryview(bytearray(b"\xee" * 100))
            assert client.execute(Request(cdb, buffer)) == Reply(Status.GOOD, None, 36)
            assert bytes(buffer[36:]) == b"\xee" * 64

    def test_other_lun_is_reached(self, client: LocalClient) -> None:
        reply = client.execute(Request(raw("00").ljust(16, b"\0")), 16383)
        assert reply.sense == sense_data.LUN_NOT_SUPPORTED

    def test_exchanges_run_over_the_client(self, site: Site) -> None:
        with LocalClient.connect(site.path, shared_bytes=MIB) as client:
            info = run_blocking(probe(), client.execute)
        assert (info.block_size_bytes, info.size_bytes) == (BLOCK, 64 * MIB)

    @pytest.mark.parametrize("shared_bytes", [16 << 10, 4 * MIB])
    def test_many_commands_are_waited_for_in_any_order(self, site: Site, shared_bytes: int) -> None:
        source = random.Random(2)
        content = source.randbytes(MIB)
        with ready(site, shared_bytes) as client:
            client.execute(Request(write_16(0, MIB // BLOCK), None, memoryview(content)))
            # Another one begins whenever one has been waited for: the parts of the area move about.
            outstanding: list[tuple[int, int, memoryview]] = []
            for _ in range(2000):
                lba, blocks = source.randrange(1900), source.randint(1, 100)
                buffer = view(blocks * BLOCK)
                outstanding.append((client.submit(0, read_16(lba, blocks), buffer), lba, buffer))
                while len(outstanding) > source.randint(1, 60):
                    tag, lba, buffer = outstanding.pop(source.randrange(len(outstanding)))
                    assert client.wait(tag) == Reply(Status.GOOD, None, len(buffer))
                    assert buffer == content[lba * BLOCK :][: len(buffer)]

    def test_execute_goes_on_while_others_are_outstanding(self, client: LocalClient) -> None:
        data = memoryview(pattern(5, BLOCK))
        client.execute(Request(write_16(99, 1), None, data))
        tags = [client.submit(0, write_16(lba, 1), None, data) for lba in range(10)]
        found = view(BLOCK)
        assert client.execute(Request(read_16(99, 1), found)).status == Status.GOOD
        assert found == data
        assert [client.wait(tag).status for tag in tags] == [Status.GOOD] * 10

    def test_buffers_of_the_area_need_no_copy(self, client: LocalClient) -> None:
        data, found = client.buffer(8 * BLOCK), client.buffer(8 * BLOCK)
        data[:] = pattern(6, 8 * BLOCK)
        assert client.execute(Request(write_16(0, 8), None, data)).status == Status.GOOD
        assert client.execute(Request(read_16(1, 7), found[BLOCK:])).status == Status.GOOD
        assert found[BLOCK:] == data[BLOCK:]
        assert bytes(found[:BLOCK]) == bytes(BLOCK)

    def test_buffer_that_does_not_fit_the_area_is_memory_like_any(
        self, client: LocalClient
    ) -> None:
        buffer = client.buffer(8 * MIB)
        assert client.execute(Request(read_16(0, 16384), buffer)).status == Status.GOOD


class TestSlowDevices:
    def test_command_that_takes_longer_than_the_client_looks_is_slept_for(
        self, new_site: NewSite
    ) -> None:
        site = new_site()
        vdisk = FaultyVdisk(64)
        content = vdisk.fill()
        vdisk.immediate_bytes = NOT_NOW
        vdisk.is_held = True
        site.add_target("slow", vdisk)
        site.start()
        found = view(BLOCK)
        replies: list[Reply] = []
        with ready(site) as client:
            for lba in range(20):
                request = Request(read_16(lba, 1), found)
                thread = threading.Thread(
                    target=lambda r=request: replies.append(client.execute(r))
                )
                thread.start()
                wait_until(lambda: len(vdisk.held) == 1, "the command is under way")
                site.call(vdisk.release)
                thread.join(DEADLINE_S)
                assert replies.pop() == Reply(Status.GOOD, None, BLOCK)
                assert found == content[lba * BLOCK : (lba + 1) * BLOCK]
        site.wait_for_no_sessions()

    def test_commands_that_end_late_by_themselves_are_all_seen(self, new_site: NewSite) -> None:
        site = new_site()
        vdisk = FaultyVdisk(64)
        content = vdisk.fill()
        vdisk.immediate_bytes = NOT_NOW
        site.add_target("late", vdisk)
        site.start()
        found = view(BLOCK)
        with ready(site) as client:
            for index in range(2000):
                lba = index % 64
                reply = client.execute(Request(read_16(lba, 1), found))
                assert reply == Reply(Status.GOOD, None, BLOCK)
                assert found == content[lba * BLOCK : (lba + 1) * BLOCK]


class TestSessions:
    @pytest.mark.parametrize("shared_bytes", [16 << 10, 64 << 20])
    def test_area_has_the_size_that_was_asked_for(self, site: Site, shared_bytes: int) -> None:
        with LocalClient.connect(site.path, shared_bytes=shared_bytes) as client:
            assert client.shared_bytes == shared_bytes
        assert client.shared_bytes == 0

    def test_area_that_the_server_refuses_is_done_without(self, site: Site) -> None:
        with LocalClient.connect(site.path, shared_bytes=(64 << 20) + 4096) as client:
            assert client.shared_bytes == 0
            client.execute(Request(TEST_UNIT_READY))
            assert client.execute(Request(read_16(0, 1), view(BLOCK))).status == Status.GOOD
            assert len(client.buffer(10)) == 10

    @pytest.mark.parametrize("shared_bytes", [1, 16383])
    def test_area_without_room_is_not_asked_for(self, shared_bytes: int) -> None:
        with pytest.raises(ValueError, match=f"{shared_bytes} shared bytes: expected 16384"):
            LocalClient.connect("/nowhere", shared_bytes=shared_bytes)

    def test_closed_client_says_so(self, client: LocalClient) -> None:
        client.close()
        with pytest.raises(LocalError, match="the connection was closed"):
            client.execute(Request(read_16(0, 1), view(BLOCK)))

    def test_500_sessions_leave_nothing_behind(self, site: Site) -> None:
        for _ in range(3):
            ready(site).close()
        site.wait_for_no_sessions()
        gc.collect()
        gc.disable()
        try:
            before = len(os.listdir("/proc/self/fd"))
            for index in range(500):
                with ready(site, MIB) as client:
                    client.execute(Request(read_16(0, 8), view(4096)))
                    if index % 2:
                        client.submit(0, write_16(0, 8), None, view(4096))
            site.wait_for_no_sessions()
            wait_until(
                lambda: len(os.listdir("/proc/self/fd")) <= before + 2, "descriptors are closed"
            )
        finally:
            gc.enable()

    def test_memory_outlives_a_client_that_dies_in_its_commands(self, new_site: NewSite) -> None:
        site = new_site()
        vdisk = FaultyVdisk(1024)
        vdisk.immediate_bytes = NOT_NOW
        vdisk.is_held = True
        target = site.add_target("slow", vdisk)
        site.start()
        data = memoryview(pattern(9, 8 * BLOCK))
        client = ready(site)
        client.submit(0, write_16(0, 8), None, data)
        client.submit(0, read_16(16, 8), view(8 * BLOCK))
        wait_until(lambda: len(vdisk.held) == 2, "both commands are under way")
        client.close()
        # The server has seen the end of this client once it has seen that of a later one.
        LocalClient.connect(site.path).close()
        wait_until(lambda: len(target.sessions) == 1, "the later client is gone")
        site.call(vdisk.release_all)
        site.wait_for_no_sessions()
        assert vdisk.blocks(0, 8) == data

    def test_stopping_server_tells_of_what_was_under_way(self, new_site: NewSite) -> None:
        site = new_site()
        vdisk = FaultyVdisk(64)
        vdisk.immediate_bytes = NOT_NOW
        vdisk.is_held = True
        site.add_target("slow", vdisk)
        site.start()
        replies: list[Reply] = []
        with ready(site) as client:
            request = Request(write_16(3, 1), None, memoryview(b"w" * BLOCK))
            thread = threading.Thread(target=lambda: replies.append(client.execute(request)))
            thread.start()
            wait_until(lambda: len(vdisk.held) == 1, "the command is under way")
            stopped = site.begin_stop()
            wait_until(lambda: not os.path.exists(site.path), "the server is stopping")
            site.call(vdisk.release)
            stopped.result(DEADLINE_S)
            thread.join(DEADLINE_S)
            assert replies == [Reply(Status.GOOD, None, 0)]


HELLO = HelloReply(HelloStatus.OK, 2, 0, 1 << 20, "tester").serialize()


def answering(
    *answers: bytes,
    record: bytes = b"",
    data: bytes = b"",
    ends: bool = True,
    asked: bytes = b"",
    frames: list[bytes] | None = None,
) -> Script:
    """A server that grants an area, takes a command, and answers it in one way or another.

    The command is added to ``frames``. The data goes to where it wants it, then the record, then
    what is sent; ``asked`` is for a client that sends a nudge.
    """

    def script(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(HELLO)
        length = int.from_bytes(sock.recv(4096)[8:16], "big")
        area, descriptor = create_area(length)
        socket.send_fds(sock, [AreaReply(length).serialize()], [descriptor])
        os.close(descriptor)
        frame = sock.recv(SHARED_COMMAND.size + 16, socket.MSG_WAITALL)
        if frames is not None:
            frames.append(frame)
        in_at, _, record_at = SHARED_COMMAND.unpack_from(frame)[8:]
        area[in_at : in_at + len(data)] = data
        if record:
            area[record_at : record_at + len(record)] = record
            area[record_at + 7] = 1
        # The client may have seen the record since, and be gone.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for answer in answers:
                sock.sendall(answer)
            if ends:
                sock.shutdown(socket.SHUT_WR)
            if asked and sock.recv(len(nudge(1))):
                sock.sendall(asked)
            receive_to_end(sock)

    return script


def ended(length: int, status: int = 0, *, has_response: bool = False) -> bytes:
    made = bytearray(7)
    RECORD.pack_into(made, 0, length, status, has_response)
    return bytes(made)


def shared_response(tag: int, length: int, status: int = 0, sense: bytes = b"") -> bytes:
    frame = ResponseFrame(tag, status, length, len(sense), FrameType.SHARED_RESPONSE)
    return frame.serialize() + sense


RETURNED = ResponseFrame(1, 0, kind=FrameType.NUDGE).serialize()


class TestServers:
    @pytest.mark.parametrize("version", [0, 1])
    def test_server_of_version_1_is_not_asked_for_memory(
        self, serve_one: ServeOne, version: int
    ) -> None:
        def script(sock: socket.socket) -> None:
            sock.recv(4096)
            sock.sendall(HelloReply(HelloStatus.OK, 1, 0, 1 << 20, "tester").serialize())
            frame = sock.recv(wire.COMMAND.size + 16, socket.MSG_WAITALL)
            assert frame[4] == FrameType.COMMAND
            sock.sendall(ResponseFrame(1, 0, 4).serialize() + b"data")
            sock.recv(1)

        path, _ = serve_one(script)
        with LocalClient.connect(path, shared_bytes=version * MIB) as client:
            found = view(4)
            assert client.execute(Request(read_16(0, 1), found)) == Reply(0, None, 4)
            assert (bytes(found), client.shared_bytes) == (b"data", 0)

    @pytest.mark.parametrize(
        "script",
        [
            # However late this server is: a client that looks in vain asks, as it does of any.
            answering(record=ended(4), data=b"data", ends=False, asked=RETURNED),
            answering(record=ended(4), data=b"data"),
            answering(shared_response(1, 4), data=b"data", ends=False),
            answering(RETURNED, record=ended(4), data=b"data", ends=False),
        ],
        ids=["record", "record and end", "response", "record and nudge"],
    )
    def test_end_is_seen_whichever_way_it_is_told(
        self, serve_one: ServeOne, script: Script
    ) -> None:
        path, _ = serve_one(script)
        with LocalClient.connect(path, shared_bytes=MIB) as client:
            found = view(10)
            assert client.execute(Request(read_16(0, 1), found)) == Reply(0, None, 4)
            assert bytes(found) == b"data" + bytes(6)

    @pytest.mark.parametrize("lun", [None, 0, 300])
    def test_every_lun_is_told_by_the_record(self, serve_one: ServeOne, lun: int | None) -> None:
        frames: list[bytes] = []
        script = answering(record=ended(4), data=b"data", frames=frames)
        path, _ = serve_one(script)
        with LocalClient.connect(path, shared_bytes=MIB) as client:
            assert client.execute(Request(read_16(0, 1), view(4)), lun) == Reply(0, None, 4)
        fields = SHARED_COMMAND.unpack_from(frames[0])
        assert fields[5] == wire.encode_lun(lun or 0)
        # The lane begins behind the record's page.
        assert fields[8] == mmap.PAGESIZE

    def test_nudge_that_crosses_a_response_is_ignored(self, serve_one: ServeOne) -> None:
        sense = sense_data.RESET_OCCURRED.encode()
        answer = shared_response(1, 0, 2, sense) + RETURNED
        path, _ = serve_one(answering(answer, record=ended(0, 2, has_response=True)))
        with LocalClient.connect(path, shared_bytes=MIB) as client:
            reply = client.execute(Request(read_16(0, 1), view(4)))
            assert reply == Reply(Status.CHECK_CONDITION, sense_data.RESET_OCCURRED, 0)
            with pytest.raises(LocalError, match="the server closed the connection"):
                client.execute(Request(read_16(0, 1), view(4)))

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            (answering(), "the server closed the connection"),
            (answering(record=ended(5)), "broke the protocol: tag 1 and its data"),
            (answering(record=ended(0, 2, has_response=True)), "the server closed the connection"),
            (answering(shared_response(1, 5)), "broke the protocol: tag 1 and its data"),
            (answering(shared_response(2, 0)), "broke the protocol: tag 2 and its data"),
            (answering(ResponseFrame(1, 0).serialize()), "broke the protocol: tag 1 and its data"),
            (answering(RETURNED), "the server closed the connection"),
            (answering(nudge(1)), "broke the protocol: frame length 28"),
        ],
    )
    def test_bad_answer_ends_the_session(
        self, serve_one: ServeOne, script: Script, message: str
    ) -> None:
        path, _ = serve_one(script)
        with LocalClient.connect(path, shared_bytes=MIB) as client:
            for _ in range(2):
                with pytest.raises(LocalError, match=f"^{path}: .*{message}"):
                    client.execute(Request(read_16(0, 1), view(4)))
