# SPDX-License-Identifier: GPL-2.0-or-later
"""The terms of ``listen`` lines as foreign clients meet them: who may connect, and how many."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bridges.daemon_process import (
    DaemonProcess,
    NbdDisk,
    configure,
    connect,
    daemon,
    nbd_section,
    until,
)
from tests.interop.doors import MIB, Tools

SIZE = 4 * MIB
ME = f"uid={os.getuid()}"
NOBODY = "uid=65534"
# Sockets by name, and their terms.
TERMS = {
    "mine": f"allow {ME}",
    "others": f"allow {NOBODY}",
    "forbidden": f"deny {ME}",
    "single": "max_connections 1",
    "small": "max_connections 4",
}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon with a socket for each of the terms; it must end well."""
    (tmp_path / "disk.img").write_bytes(bytes(SIZE))
    listens = (f"unix:{tmp_path / name} {{\n{terms}\n}}" for name, terms in TERMS.items())
    with daemon(configure(tmp_path, nbd_section(*listens))) as started:
        yield started
        assert started.stop(signal.SIGTERM) == 0, started.errors
        assert "Traceback" not in started.errors, started.errors


def _uri(tools: Tools, name: str) -> str:
    return f"nbd+unix:///t?socket={tools.path(name)}"


def test_who_is_allowed_is_served(tools: Tools, process: DaemonProcess) -> None:
    assert tools.run("nbdinfo", "--size", _uri(tools, "mine")) == f"{SIZE}\n"
    assert "refused" not in process.errors


@pytest.mark.parametrize("name", ["others", "forbidden"])
@pytest.mark.parametrize("words", [("nbdinfo", "--size"), ("qemu-img", "info")], ids=" ".join)
def test_who_is_not_allowed_is_refused(
    tools: Tools, process: DaemonProcess, name: str, words: tuple[str, ...]
) -> None:
    assert tools.try_run(*words, _uri(tools, name)).returncode == 1
    line = f"unix:{ME}: refused: not allowed at unix:{tools.path(name)}\n"
    until(lambda: line in process.errors, "the refusal is logged")
    assert tools.run("nbdinfo", "--size", _uri(tools, "mine")) == f"{SIZE}\n"


def test_one_connection_more_than_allowed_is_refused(tools: Tools, process: DaemonProcess) -> None:
    path = tools.path("single")
    first = NbdDisk(connect(str(path)), "t")
    assert tools.try_run("nbdinfo", "--size", _uri(tools, "single")).returncode == 1
    line = f"unix:{ME}: refused: 1 connections are open at unix:{path}\n"
    until(lambda: line in process.errors, "the refusal is logged")
    assert first.read(0, 8) == bytes(4096)
    first.close()

    def is_served() -> bool:
        done = tools.try_run("nbdinfo", "--size", _uri(tools, "single"))
        return done.returncode == 0

    until(is_served, "there is room again")


def test_as_many_connections_as_allowed_are_served(tools: Tools, process: DaemonProcess) -> None:
    tools.path("in").write_bytes(os.urandom(SIZE))
    tools.run("nbdcopy", "--connections=4", "in", _uri(tools, "small"))
    assert tools.path("disk.img").read_bytes() == tools.path("in").read_bytes()
    assert "refused" not in process.errors
