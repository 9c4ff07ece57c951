# SPDX-License-Identifier: GPL-2.0-or-later
"""A stream server's limits and its stop, with sessions that do as the test says."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bridges.access import EVERYBODY, AccessRules, Identity, IdentityKind, parse_rule
from bridges.listen import Listen
from bridges.listeners import Address
from bridges.stream import Stream
from bridges.stream_server import StreamServer
from scsi_backend.io.sgv import SgvCache

DEADLINE_S = 10.0


class Quiet:
    """A session that takes everything and answers nothing; ``open_requests`` is the test's."""

    receive_limit_bytes = 0
    direct: memoryview | None = None
    wants_close = False

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.open_requests = 0
        self.has_ended = False

    def receive(self, data: memoryview) -> int:
        return len(data)

    def direct_received(self) -> None:
        raise AssertionError("nothing is received directly")

    def start(self) -> None:
        self.stream.start(self)

    def closed(self) -> None:
        self.has_ended = True


class Rig:
    """A server on a unix socket, and the sessions that it made."""

    def __init__(
        self,
        path: Path,
        *others: Listen,
        access: AccessRules = EVERYBODY,
        own_limit: int | None = None,
        max_connections: int = 100,
        stop_timeout_s: float = DEADLINE_S,
    ) -> None:
        self.sessions: list[Quiet] = []
        self.path = str(path)
        first = Listen(Address(path=self.path), access=access, max_connections=own_limit)
        self.server = StreamServer(
            asyncio.get_running_loop(),
            SgvCache(),
            [first, *others],
            self._connect,
            stop_timeout_s=stop_timeout_s,
            max_connections=max_connections,
        )
        self.server.start()

    def _connect(self, stream: Stream, listen: Listen) -> Quiet:
        self.sessions.append(Quiet(stream))
        return self.sessions[-1]

    async def client(
        self, path: Path | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = asyncio.open_unix_connection(path or self.path)
        return await asyncio.wait_for(where, DEADLINE_S)

    async def refused(self) -> None:
        """Connect, and find the connection closed."""
        reader, writer = await self.client()
        assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
        writer.close()

    async def until_connected(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.server.connections != count:
                await asyncio.sleep(0)


def test_stop_ends_idle_connections(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path / "s")
        reader, writer = await rig.client()
        await rig.until_connected(1)
        await rig.server.stop()
        assert await reader.read() == b""
        assert rig.sessions[0].has_ended
        assert rig.server.connections == 0
        writer.close()

    asyncio.run(scenario())


def test_a_stream_knows_the_host_of_who_comes_by_a_network(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path / "s", Listen(Address("127.0.0.1", 0)))
        _, local = await rig.client()
        await rig.until_connected(1)
        address = rig.server.addresses[1]
        _, remote = await asyncio.open_connection(address.host, address.port)
        await rig.until_connected(2)
        assert [each.stream.host for each in rig.sessions] == [None, IPv4Address("127.0.0.1")]
        await rig.server.stop()
        for writer in (local, remote):
            writer.close()

    asyncio.run(scenario())


def test_stop_gives_up_on_commands_that_do_not_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path / "s", stop_timeout_s=0.05)
        reader, writer = await rig.client()
        await rig.until_connected(1)
        rig.sessions[0].open_requests = 1
        await asyncio.wait_for(rig.server.stop(), DEADLINE_S)
        assert await reader.read() == b""
        assert not rig.sessions[0].has_ended
        writer.close()

    asyncio.run(scenario())
    assert "1 connections have commands that do not end" in caplog.text


def test_a_connection_too_many_is_refused_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path / "s", max_connections=1)
        _, first = await rig.client()
        await rig.until_connected(1)
        refused, second = await rig.client()
        assert await asyncio.wait_for(refused.read(), DEADLINE_S) == b""
        assert rig.server.connections == 1
        await rig.server.stop()
        for writer in (first, second):
            writer.close()

    asyncio.run(scenario())
    assert "refused: 1 connections are open" in caplog.text


def test_an_address_that_cannot_be_had_leaves_nothing_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        good, bad = tmp_path / "good", tmp_path / "bad"
        bad.write_text("no socket")
        server = StreamServer(
            asyncio.get_running_loop(),
            SgvCache(),
            [Listen(Address(path=str(good))), Listen(Address(path=str(bad)))],
            lambda stream, listen: Quiet(stream),
        )
        with pytest.raises(OSError, match="the file exists and is no socket"):
            server.start()
        assert not good.exists()

    asyncio.run(scenario())


ME = Identity(IdentityKind.UID, os.getuid())


def test_the_port_that_the_kernel_chose_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        with caplog.at_level(logging.INFO):
            rig = Rig(tmp_path / "s", Listen(Address("127.0.0.1", 0)))
        port = rig.server.addresses[1].port
        await rig.server.stop()
        assert caplog.messages == [
            f"listening on unix:{rig.path}",
            f"listening on 127.0.0.1:{port}",
        ]

    asyncio.run(run())


def test_who_is_not_allowed_is_closed_at_once_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path / "s", access=AccessRules(deny=(ME,)))
        for _ in range(3):
            await rig.refused()
        assert rig.sessions == []
        await rig.server.stop()

    asyncio.run(scenario())
    # Those of the same second are counted, not logged.
    assert caplog.messages[0] == f"unix:{ME}: refused: not allowed at unix:{tmp_path}/s"
    assert len(caplog.messages) <= 2


def test_refusals_that_were_not_logged_are_counted_in_the_next_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        now_s = 1000.0
        monkeypatch.setattr(loop, "time", lambda: now_s)
        server = StreamServer(
            loop, SgvCache(), [], lambda stream, listen: Quiet(stream), max_connections=0
        )
        for _ in range(3):
            knock(server)
        now_s = 1002.0
        knock(server)

    def knock(server: StreamServer) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            server.adopt(ours, Listen(Address(inherited="stdio")), lambda: None)

    asyncio.run(scenario())
    line = f"unix:{ME}: refused: 0 connections are open"
    assert caplog.messages == [line, f"{line} (and 2 others before)"]


def test_a_listener_has_a_limit_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        other = tmp_path / "other"
        rig = Rig(tmp_path / "s", Listen(Address(path=str(other))), own_limit=1)
        _, first = await rig.client()
        await rig.until_connected(1)
        await rig.refused()
        _, second = await rig.client(other)
        await rig.until_connected(2)
        assert [(str(each.address), each.connections) for each in rig.server.entrances] == [
            (f"unix:{tmp_path}/s", 1),
            (f"unix:{other}", 1),
        ]
        assert rig.server.peers == {f"unix:{ME}": 2}
        # Who leaves makes room.
        first.close()
        await rig.until_connected(1)
        _, third = await rig.client()
        await rig.until_connected(2)
        await rig.server.stop()
        for writer in (second, third):
            writer.close()

    asyncio.run(scenario())
    assert caplog.messages == [f"unix:{ME}: refused: 1 connections are open at unix:{tmp_path}/s"]


def test_a_connection_can_be_adopted_and_its_end_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path / "s")
        ours, theirs = socket.socketpair()
        ended = asyncio.Event()
        rig.server.adopt(ours, Listen(Address(inherited="stdio")), ended.set)
        assert rig.server.connections == 1
        assert [str(each.address) for each in rig.server.entrances][1:] == ["stdio"]
        _, other = await rig.client()
        await rig.until_connected(2)
        theirs.close()
        await asyncio.wait_for(ended.wait(), DEADLINE_S)
        assert rig.server.connections == 1
        await rig.server.stop()
        other.close()

    asyncio.run(scenario())


def test_a_connection_that_is_refused_when_adopted_has_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path / "s")
        ours, theirs = socket.socketpair()
        ended: list[bool] = []
        rules = AccessRules(allow=(parse_rule("cid=3"),))
        terms = Listen(Address(inherited="stdio"), access=rules)
        rig.server.adopt(ours, terms, lambda: ended.append(True))
        assert ended == [True]
        with theirs:
            assert theirs.recv(1) == b""
        await rig.server.stop()

    asyncio.run(scenario())


def test_a_stream_has_the_memory_of_its_listener(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path / "s")
        ours, theirs = socket.socketpair()
        terms = Listen(Address(inherited="stdio"), connection_memory_bytes=100_000)
        rig.server.adopt(ours, terms, lambda: None)
        stream = rig.sessions[0].stream
        stream.held_bytes = 99_999
        assert not stream.is_full
        stream.held_bytes = 100_000
        assert stream.is_full
        stream.held_bytes = 0
        theirs.close()
        await rig.server.stop()

    asyncio.run(scenario())
