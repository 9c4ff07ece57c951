# SPDX-License-Identifier: GPL-2.0-or-later
"""A stream server's limits and its stop, with sessions that do as the test says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

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

    def __init__(self, path: Path, **options: float) -> None:
        self.sessions: list[Quiet] = []
        self.path = str(path)
        stop_timeout_s = options.get("stop_timeout_s", DEADLINE_S)
        self.server = StreamServer(
            asyncio.get_running_loop(),
            SgvCache(),
            [Listen(Address(path=self.path))],
            self._connect,
            stop_timeout_s=stop_timeout_s,
            max_connections=int(options.get("max_connections", 100)),
        )
        self.server.start()

    def _connect(self, stream: Stream, listen: Listen) -> Quiet:
        self.sessions.append(Quiet(stream))
        return self.sessions[-1]

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.wait_for(asyncio.open_unix_connection(self.path), DEADLINE_S)

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
