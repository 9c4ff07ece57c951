# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: JSON lines over a unix socket that only the daemon's user can open.

A request is an object with ``command`` and perhaps ``arguments``; the answer has either ``result``
or ``error``, a text. Commands of one connection are carried out one after the other. What commands
there are, and what they do, must not live here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bridges.listen import Listen
from bridges.listeners import Address
from bridges.stream import Stream
from bridges.stream_server import StreamServer
from bridges.stream_session import PeerError
from scsi_backend.io.sgv import SgvCache

_log = logging.getLogger(__name__)

DEFAULT_CONTROL_SOCKET = "/run/scst-bridge/control.sock"
# A whole configuration fits.
_MAX_LINE_BYTES = 8 << 20
_MAX_CONNECTIONS = 64
_TIMEOUT_S = 10.0
# Commands that change something wait for the change before, for storage, and for other commands.
CHANGE_TIMEOUT_S = 60.0

# Takes the request's arguments; what it returns must be fit for JSON. Raises ControlError.
Command = Callable[[Mapping[str, Any]], Coroutine[Any, Any, object]]


class ControlError(Exception):
    """A command cannot be carried out; says why, in one line for each reason."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    command: str
    arguments: dict[str, Any] = {}


class ControlServer(StreamServer):
    """Serves a table of commands by name on a unix socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sgv: SgvCache,
        path: str,
        commands: Mapping[str, Command],
    ) -> None:
        def connect(stream: Stream, listen: Listen) -> _Connection:
            return _Connection(loop, stream, commands)

        super().__init__(
            loop, sgv, [Listen(Address(path=path))], connect, max_connections=_MAX_CONNECTIONS
        )


class _Connection:
    """One client: its requests, of which at most one is being carried out."""

    receive_limit_bytes = 0
    direct: memoryview | None = None
    wants_close = False

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stream: Stream, commands: Mapping[str, Command]
    ) -> None:
        self._loop = loop
        self._stream = stream
        self._commands = commands
        self._running: asyncio.Task[object] | None = None

    def start(self) -> None:
        """See ``stream_server.Connection``."""
        self._stream.start(self)

    @property
    def open_requests(self) -> int:
        """See ``stream.Session``."""
        return 0 if self._running is None else 1

    def receive(self, data: memoryview) -> int:
        """See ``stream.Session``."""
        line, end, _ = bytes(data).partition(b"\n")
        if self._running is not None or not end:
            if len(data) > _MAX_LINE_BYTES:
                raise PeerError(f"{len(data)} bytes wait: expected lines of {_MAX_LINE_BYTES}")
            return 0
        try:
            request = _Request.model_validate_json(line)
            command = self._commands.get(request.command)
            if command is None:
                expected = ", ".join(sorted(self._commands))
                raise ControlError(
                    f"unknown command '{request.command}': expected one of {expected}"
                )
        except ValidationError as error:
            detail = error.errors()[0]
            self._answer({"error": f"malformed request: {detail['msg']}"})
        except ControlError as error:
            self._answer({"error": str(error)})
        else:
            self._running = self._loop.create_task(command(request.arguments))
            self._running.add_done_callback(self._done)
        return len(line) + 1

    def direct_received(self) -> None:
        """Nothing is received directly."""

    def closed(self) -> None:
        """See ``stream.Session``."""

    def _done(self, task: asyncio.Task[object]) -> None:
        self._running = None
        error = task.exception()
        if error is None:
            self._answer({"result": task.result()})
        elif isinstance(error, ControlError):
            self._answer({"error": str(error)})
        else:
            _log.error("a command failed", exc_info=error)
            self._answer({"error": "internal error: see the daemon's log"})

    def _answer(self, answer: Mapping[str, object]) -> None:
        self._stream.put(json.dumps(answer).encode() + b"\n")
        self._stream.handle_again()


def ask(
    path: str,
    command: str,
    arguments: Mapping[str, object] | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> Any:
    """Have a daemon carry out a command; return its result. Raises ControlError."""
    line = json.dumps({"command": command, "arguments": dict(arguments or {})}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(path)
            sock.sendall(line)
            with sock.makefile("rb") as replies:
                reply = replies.readline()
    except TimeoutError as error:
        raise ControlError(f"{path}: no answer within {timeout_s:g} s") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ControlError(f"{path}: no daemon answers: {reason}") from error
    try:
        answer = json.loads(reply)
    except ValueError as error:
        raise ControlError(f"{path}: no daemon answers: expected a line of JSON") from error
    if not isinstance(answer, dict) or "result" not in answer:
        text = answer.get("error") if isinstance(answer, dict) else None
        text = str(text or "expected a result")
        # Several reasons have a line each.
        raise ControlError(f"{path}:\n{text}" if "\n" in text else f"{path}: {text}")
    return answer["result"]
