# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: what it answers, in which order, and what does not disturb it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bridges.control import ControlError, ControlServer, ask
from scsi_backend.io.sgv import SgvCache

DEADLINE_S = 20.0


class Commands:
    """The table of a test."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0

    async def echo(self, arguments: Mapping[str, Any]) -> object:
        """Return what was given, once the gate is open."""
        self.running += 1
        assert self.running == 1, "one at a time"
        await self.gate.wait()
        self.running -= 1
        return {"echoed": dict(arguments)}

    async def refuse(self, arguments: Mapping[str, Any]) -> object:
        """Fail as a command may."""
        raise ControlError("not today")

    async def refuse_twice(self, arguments: Mapping[str, Any]) -> object:
        """Fail for two reasons."""
        raise ControlError("one\ntwo")

    async def crash(self, arguments: Mapping[str, Any]) -> object:
        """Fail as no command should."""
        raise ZeroDivisionError("secret")


def serving(path: Path, visit: Callable[[ControlServer, Commands], Awaitable[None]]) -> None:
    """Run a server while ``visit`` does its work."""

    async def run() -> None:
        commands = Commands()
        table = {
            "echo": commands.echo,
            "refuse": commands.refuse,
            "refuse_twice": commands.refuse_twice,
            "crash": commands.crash,
        }
        server = ControlServer(asyncio.get_running_loop(), SgvCache(), str(path), table)
        server.start()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await visit(server, commands)
        finally:
            await server.stop()

    asyncio.run(run())


async def talk(path: Path, sent: bytes, replies: int) -> list[dict[str, Any]]:
    """Send bytes at once; return the replies."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(sent)
    found = [json.loads(await reader.readline()) for _ in range(replies)]
    writer.close()
    return found


def test_commands_are_answered_with_their_result(tmp_path: Path) -> None:
    async def visit(server: ControlServer, commands: Commands) -> None:
        path = str(tmp_path / "c")
        result = await asyncio.to_thread(ask, path, "echo", {"a": [1, "ü"]})
        assert result == {"echoed": {"a": [1, "ü"]}}
        assert await asyncio.to_thread(ask, path, "echo") == {"echoed": {}}

    serving(tmp_path / "c", visit)


def test_only_the_owner_can_open_the_socket_and_a_stop_takes_it_away(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "c"

    async def visit(server: ControlServer, commands: Commands) -> None:
        assert stat.filemode(path.stat().st_mode) == "srw-------"

    serving(path, visit)
    assert not path.exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("refuse", "not today"),
        ("crash", "internal error: see the daemon's log"),
        ("shout", "unknown command 'shout': expected one of crash, echo, refuse, refuse_twice"),
    ],
)
def test_a_command_that_fails_says_why(tmp_path: Path, command: str, message: str) -> None:
    async def visit(server: ControlServer, commands: Commands) -> None:
        path = str(tmp_path / "c")
        with pytest.raises(ControlError) as caught:
            await asyncio.to_thread(ask, path, command)
        assert str(caught.value) == f"{path}: {message}"
        assert await asyncio.to_thread(ask, path, "echo") == {"echoed": {}}

    serving(tmp_path / "c", visit)


def test_several_reasons_have_a_line_each(tmp_path: Path) -> None:
    async def visit(server: ControlServer, commands: Commands) -> None:
        path = str(tmp_path / "c")
        with pytest.raises(ControlError) as caught:
            await asyncio.to_thread(ask, path, "refuse_twice")
        assert str(caught.value).splitlines() == [f"{path}:", "one", "two"]

    serving(tmp_path / "c", visit)


def test_a_client_waits_as_long_as_it_wants_to(tmp_path: Path) -> None:
    async def visit(server: ControlServer, commands: Commands) -> None:
        path = str(tmp_path / "c")
        commands.gate.clear()
        with pytest.raises(ControlError, match=r"no answer within 0\.01 s"):
            await asyncio.to_thread(ask, path, "echo", None, 0.01)
        commands.gate.set()

    serving(tmp_path / "c", visit)


def test_requests_are_answered_one_after_the_other_in_their_order(tmp_path: Path) -> None:
    lines = [
        b'{"command": "echo", "arguments": {"n": 1}}\n',
        b'{"command": "refuse"}\n',
        b"nonsense\n",
        b'{"command": "echo", "arguments": {"n": 2}}\n',
    ]

    async def visit(server: ControlServer, commands: Commands) -> None:
        commands.gate.clear()
        talking = asyncio.create_task(talk(tmp_path / "c", b"".join(lines), 4))
        while not commands.running:
            await asyncio.sleep(0)
        commands.gate.set()
        one, refused, malformed, two = await talking
        assert one == {"result": {"echoed": {"n": 1}}}
        assert refused == {"error": "not today"}
        assert malformed["error"].startswith("malformed request: ")
        assert two == {"result": {"echoed": {"n": 2}}}

    serving(tmp_path / "c", visit)


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"1", b"{}", b'{"command": 1}', b'{"command": "echo", "x": 1}', b"\xff"],
)
def test_a_malformed_request_is_answered_and_the_connection_goes_on(
    tmp_path: Path, line: bytes
) -> None:
    async def visit(server: ControlServer, commands: Commands) -> None:
        wrong, right = await talk(tmp_path / "c", line + b'\n{"command": "echo"}\n', 2)
        assert wrong["error"].startswith("malformed request: ")
        assert right == {"result": {"echoed": {}}}

    serving(tmp_path / "c", visit)


async def endless(writer: asyncio.StreamWriter) -> None:
    """Send as long as it is taken."""
    while True:
        writer.write(b"x" * (1 << 20))
        await writer.drain()


def test_a_line_without_end_is_cut_off(tmp_path: Path) -> None:
    async def visit(server: ControlServer, commands: Commands) -> None:
        _, writer = await asyncio.open_unix_connection(tmp_path / "c")
        with pytest.raises(ConnectionError):
            await endless(writer)
        writer.close()
        assert server.connections == 0

    serving(tmp_path / "c", visit)


def test_a_client_that_leaves_before_its_answer_does_no_harm(tmp_path: Path) -> None:
    async def visit(server: ControlServer, commands: Commands) -> None:
        commands.gate.clear()
        _, writer = await asyncio.open_unix_connection(tmp_path / "c")
        writer.write(b'{"command": "echo"}\n')
        while not commands.running:
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        commands.gate.set()
        while server.connections:
            await asyncio.sleep(0)

    serving(tmp_path / "c", visit)


def test_a_daemon_that_is_not_there_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with pytest.raises(ControlError) as caught:
        ask(str(path), "status")
    assert str(caught.value) == f"{path}: no daemon answers: No such file or directory"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    with pytest.raises(ControlError) as caught:
        ask(str(path), "status")
    assert str(caught.value) == f"{path}: no daemon answers: Connection refused"
    with pytest.raises(ControlError, match="no daemon answers: AF_UNIX path too long"):
        ask("/" + "p" * 200, "status")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "no daemon answers: expected a line of JSON"),
        (b"HTTP/1.1 400\r\n", "no daemon answers: expected a line of JSON"),
        (b"\xff\n", "no daemon answers: expected a line of JSON"),
        (b"[1]\n", "expected a result"),
        (b"{}\n", "expected a result"),
    ],
)
def test_who_answers_something_else_is_no_daemon(
    tmp_path: Path, reply: bytes, message: str
) -> None:
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            sock, _ = server.accept()
            with sock, sock.makefile("rb") as requests:
                assert json.loads(requests.readline())["command"] == "status"
                sock.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ControlError) as caught:
            ask(str(path), "status")
        thread.join(DEADLINE_S)
    assert str(caught.value) == f"{path}: {message}"
    os.unlink(path)
