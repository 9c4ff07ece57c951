# SPDX-License-Identifier: GPL-2.0-or-later
"""The local server with real sockets: who may connect, and how connections and servers end."""

from __future__ import annotations

import logging
import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from bridges.exchange import Request
from bridges.local import wire
from bridges.local.client import LocalClient, LocalError
from bridges.local.hello_wire import HelloReply, HelloRequest
from bridges.local.wire import CommandFrame, FrameType
from scsi_backend.t10.cdb import read_16, write_16
from scsi_backend.t10.status import Status
from tests.bridges.local.conftest import NewSite
from tests.bridges.local.peer import connect, frames, log_in, receive_to_end
from tests.bridges.local.site import DEADLINE_S, Site, wait_until
from tests.scsi_backend.cdbs import TEST_UNIT_READY, raw
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk

BLOCK = 512


def slow_disk(blocks: int = 1024) -> FaultyVdisk:
    """A disk whose every operation waits until it is released."""
    vdisk = FaultyVdisk(blocks)
    vdisk.immediate_bytes = NOT_NOW
    vdisk.is_held = True
    return vdisk


class TestListening:
    def test_default_mode_lets_nobody_else_in(self, site: Site) -> None:
        assert stat.S_IMODE(os.stat(site.path).st_mode) == 0o600

    def test_stale_socket_is_replaced(self, new_site: NewSite) -> None:
        site = new_site()
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(site.path)
        site.add_target("disk", FaultyVdisk(8))
        site.start()
        with closing(LocalClient.connect(site.path)) as client:
            assert client.execute(Request(raw("12"))).status == Status.GOOD

    def test_socket_of_a_living_server_is_refused(self, site: Site, new_site: NewSite) -> None:
        other = new_site()
        with pytest.raises(OSError, match=f"unix:{site.path}: another server listens there"):
            other.start()
        with closing(LocalClient.connect(site.path)) as client:
            assert client.execute(Request(raw("12"))).status == Status.GOOD

    def test_other_file_in_the_way_is_refused_and_left_alone(self, new_site: NewSite) -> None:
        site = new_site()
        Path(site.path).write_text("precious")
        with pytest.raises(OSError, match="the file exists and is no socket"):
            site.start()
        assert Path(site.path).read_text() == "precious"

    def test_stop_takes_the_socket_away(self, site: Site) -> None:
        site.begin_stop().result(DEADLINE_S)
        assert not Path(site.path).exists()

    def test_stopping_again_is_harmless(self, new_site: NewSite) -> None:
        site = new_site()
        site.start()
        site.begin_stop().result(DEADLINE_S)
        site.begin_stop().result(DEADLINE_S)


class TestSessions:
    def test_initiator_is_named_by_the_kernel(self, site: Site) -> None:
        name = f"local:uid={os.getuid()}"
        with closing(LocalClient.connect(site.path)) as client:
            assert client.initiator_name == name
            [target] = site.backend.targets
            assert [session.initiator_name for session in target.sessions] == [name]
        site.wait_for_no_sessions()

    def test_client_adds_a_name_of_its_own(self, site: Site) -> None:
        name = f"local:uid={os.getuid()},node%201"
        with closing(LocalClient.connect(site.path, label="node 1")) as client:
            assert client.initiator_name == name
            [target] = site.backend.targets
            assert [session.initiator_name for session in target.sessions] == [name]
            assert site.server.peers == {name: 1}
        site.wait_for_no_sessions()

    def test_each_connection_is_a_session(self, site: Site) -> None:
        [target] = site.backend.targets
        clients = [LocalClient.connect(site.path) for _ in range(5)]
        assert len(target.sessions) == 5
        assert site.server.connections == 5
        for client in clients:
            # Each of them gets the unit attention of a new nexus.
            assert client.execute(Request(TEST_UNIT_READY)).status == Status.CHECK_CONDITION
            assert client.execute(Request(TEST_UNIT_READY)).status == Status.GOOD
            client.close()
        site.wait_for_no_sessions()

    def test_log_says_which_process_came(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "bridges.local"):
            LocalClient.connect(site.path, "disk-disk", label="tést").close()
            wait_until(lambda: "'tést' logged out" in caplog.text, "the log has the client's end")
        assert f"local:uid={os.getuid()},pid={os.getpid()}: 'tést' logged in" in caplog.text
        assert "'disk-disk'" in caplog.text

    def test_connections_without_a_hello_are_harmless_and_quiet(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            for index in range(100):
                with connect(site) as sock:
                    sock.sendall(HelloRequest("disk").serialize()[: index % 10])
            site.wait_for_no_sessions()
        assert not caplog.records

    def test_silent_connection_is_closed_after_a_while(self, new_site: NewSite) -> None:
        site = new_site(hello_timeout_s=0.05)
        site.add_target("disk", FaultyVdisk(8))
        site.start()
        with closing(LocalClient.connect(site.path)) as client, connect(site) as silent:
            silent.sendall(b"SCST")
            assert receive_to_end(silent) == b""
            # A client that said hello before is none the worse.
            assert client.execute(Request(raw("12"))).status == Status.GOOD

    def test_refused_client_is_told_why_and_let_go(self, site: Site) -> None:
        with pytest.raises(LocalError, match="no target and no mapped device is named 'other'"):
            LocalClient.connect(site.path, "other")
        site.wait_for_no_sessions()

    def test_broken_frame_gets_an_error_and_ends_only_its_connection(self, site: Site) -> None:
        with closing(LocalClient.connect(site.path)) as bystander, log_in(site) as sock:
            command = CommandFrame(1, 0, raw("12")).serialize()
            sock.sendall(command + b"\xff" * 100)
            first, error = list(frames(receive_to_end(sock)))
            assert (first[0].tag, first[0].status) == (1, Status.GOOD)
            assert error[0].kind == FrameType.ERROR
            assert error[1] == b"frame type 255: expected 1"
            assert bystander.execute(Request(raw("12"))).status == Status.GOOD
        site.wait_for_no_sessions()

    def test_commands_in_the_same_packet_as_the_hello_are_served(self, site: Site) -> None:
        with connect(site) as sock:
            hello = HelloRequest("disk").serialize()
            commands = [CommandFrame(tag, 0, raw("1200000024"), 36) for tag in range(100)]
            sock.sendall(hello + b"".join(command.serialize() for command in commands))
            data = b""
            expected = len(HelloReply(0, 1, 0, 0, f"local:uid={os.getuid()}").serialize())
            while len(data) < expected + 100 * (wire.RESPONSE.size + 36):
                data += sock.recv(1 << 20)
            assert [frame.tag for frame, _ in frames(data[expected:])] == list(range(100))


class TestClientsThatDie:
    def test_client_that_dies_in_its_data_out_leaves_nothing_behind(self, site: Site) -> None:
        with log_in(site) as sock:
            frame = CommandFrame(1, 0, write_16(0, 65536), 0, 32 << 20)
            sock.sendall(frame.serialize() + bytes(16 << 20))
        site.wait_for_no_sessions()

    def test_client_that_dies_before_its_data_in_leaves_nothing_behind(self, site: Site) -> None:
        with log_in(site) as sock:
            frame = CommandFrame(1, 0, read_16(0, 65536), 32 << 20)
            sock.sendall(frame.serialize() * 4)
        site.wait_for_no_sessions()

    def test_session_lives_until_its_last_command_has_ended(self, new_site: NewSite) -> None:
        site = new_site()
        vdisk = slow_disk()
        target = site.add_target("slow", vdisk)
        site.start()
        with closing(LocalClient.connect(site.path)) as client:
            client.execute(Request(TEST_UNIT_READY))
            buffer = memoryview(bytearray(8 * BLOCK))
            client.submit(0, read_16(0, 8), buffer)
            client.submit(0, write_16(0, 8), None, buffer)
            wait_until(lambda: len(vdisk.held) == 2, "both commands are under way")
        # The server has seen the end of this client once it has seen that of a later one.
        LocalClient.connect(site.path).close()
        wait_until(lambda: len(target.sessions) == 1, "the later client is gone")
        site.call(vdisk.release)
        LocalClient.connect(site.path).close()
        wait_until(lambda: len(target.sessions) == 1, "the later client is gone")
        assert site.sgv.in_use
        site.call(vdisk.release)
        site.wait_for_no_sessions()


class TestStop:
    def test_stop_answers_what_is_under_way(self, new_site: NewSite) -> None:
        site = new_site()
        vdisk = slow_disk()
        content = vdisk.fill()
        site.add_target("slow", vdisk)
        site.start()
        with closing(LocalClient.connect(site.path)) as client:
            client.execute(Request(TEST_UNIT_READY))
            data_in = memoryview(bytearray(8 * BLOCK))
            tags = [
                client.submit(0, read_16(16, 8), data_in),
                client.submit(0, write_16(0, 1), None, memoryview(b"w" * BLOCK)),
            ]
            wait_until(lambda: len(vdisk.held) == 2, "both commands are under way")
            stopped = site.begin_stop()
            wait_until(lambda: not Path(site.path).exists(), "the server is stopping")
            with pytest.raises(LocalError, match="cannot connect"):
                LocalClient.connect(site.path)
            assert not stopped.done()
            site.call(vdisk.release_all)
            stopped.result(DEADLINE_S)
            assert [client.wait(tag).status for tag in tags] == [Status.GOOD, Status.GOOD]
            assert data_in == content[16 * BLOCK : 24 * BLOCK]
            assert vdisk.blocks(0, 1) == b"w" * BLOCK
            with pytest.raises(LocalError, match="the server closed the connection"):
                client.wait(client.submit(0, TEST_UNIT_READY))
        site.wait_for_no_sessions()

    def test_stopping_twice_at_once_waits_twice(self, new_site: NewSite) -> None:
        site = new_site()
        vdisk = slow_disk()
        site.add_target("slow", vdisk)
        site.start()
        with log_in(site) as sock:
            frame = CommandFrame(1, 0, read_16(0, 8), 8 * BLOCK)
            sock.sendall(CommandFrame(0, 0, TEST_UNIT_READY).serialize() + frame.serialize())
            wait_until(lambda: len(vdisk.held) == 1, "the command is under way")
            stops = [site.begin_stop(), site.begin_stop()]
            wait_until(lambda: not Path(site.path).exists(), "the server is stopping")
            site.call(vdisk.release)
            for stop in stops:
                stop.result(DEADLINE_S)

    def test_stop_ends_idle_connections(self, site: Site) -> None:
        with log_in(site) as sock, connect(site) as silent:
            # The server has accepted both once it has answered a third.
            LocalClient.connect(site.path).close()
            site.begin_stop().result(DEADLINE_S)
            assert receive_to_end(sock) == b""
            assert receive_to_end(silent) == b""

    def test_stop_cuts_off_a_client_that_takes_no_responses(self, new_site: NewSite) -> None:
        site = new_site(stop_timeout_s=0.05)
        vdisk = FaultyVdisk(4096)
        site.add_target("disk", vdisk)
        site.start()
        with log_in(site) as sock:
            frame = CommandFrame(1, 0, read_16(0, 2048), 1 << 20)
            sock.sendall(CommandFrame(0, 0, TEST_UNIT_READY).serialize() + frame.serialize() * 8)
            wait_until(lambda: vdisk.names.count("read_now") == 8, "the commands are executed")
            site.begin_stop().result(DEADLINE_S)
        site.wait_for_no_sessions()

    def test_stop_waits_for_commands_of_a_client_that_was_cut_off(self, new_site: NewSite) -> None:
        site = new_site(stop_timeout_s=1.0)
        vdisk = slow_disk()
        site.add_target("slow", vdisk)
        site.start()
        with log_in(site) as sock:
            frame = CommandFrame(1, 0, read_16(0, 8), 8 * BLOCK)
            sock.sendall(CommandFrame(0, 0, TEST_UNIT_READY).serialize() + frame.serialize())
            wait_until(lambda: len(vdisk.held) == 1, "the command is under way")
            stopped = site.begin_stop()
            # Aborted: the client sees the end although its command goes on.
            receive_to_end(sock)
            assert not stopped.done()
            assert site.sgv.in_use
            site.call(vdisk.release)
            stopped.result(DEADLINE_S)
        assert not site.sgv.in_use
