# SPDX-License-Identifier: GPL-2.0-or-later
"""A server of one connection that is only a function, so that it can misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bridges.local.site import DEADLINE_S

Script = Callable[[socket.socket], None]
ServeOne = Callable[[Script], tuple[str, threading.Thread]]


@pytest.fixture
def serve_one(tmp_path: Path) -> Iterator[ServeOne]:
    """Serve one connection with a function; the socket closes when it returns."""
    threads: list[threading.Thread] = []
    listeners: list[socket.socket] = []

    def serve(script: Script) -> tuple[str, threading.Thread]:
        path = str(tmp_path / "fake.sock")
        listener = socket.socket(socket.AF_UNIX)
        listeners.append(listener)
        listener.settimeout(DEADLINE_S)
        listener.bind(path)
        listener.listen()

        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(DEADLINE_S)
                script(sock)

        thread = threading.Thread(target=run, name="fake server")
        threads.append(thread)
        thread.start()
        return path, thread

    yield serve
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    for listener in listeners:
        listener.close()
