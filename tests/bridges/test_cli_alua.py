# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's ``alua``, in front of a control server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridges import cli
from bridges.control import ControlServer
from bridges.control_alua import alua_set_command
from bridges.control_status import status_of
from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.sgv import SgvCache
from scsi_backend.target.backend import Backend
from tests.scsi_backend.ports import TwoPorts


def run(*words: str) -> Result:
    """Run a command in this process."""
    environment = {"TERM": "dumb", "NO_COLOR": "1"}
    return CliRunner().invoke(cli.app, ["alua", *words], env=environment)


def plain(text: str) -> str:
    """A text in one line, without frames."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", text)


def rows(result: Result) -> list[str]:
    """The rows of a table, without its title and its columns' names."""
    return [" ".join(line.split()) for line in result.stdout.splitlines()[2:]]


def ask_a_daemon(folder: Path, backend: Backend, *commands: tuple[str, ...]) -> list[Result]:
    """Run commands one after the other against a control socket of this backend."""
    path = folder / "c"

    async def status(arguments: Mapping[str, Any]) -> object:
        return status_of(backend, {}, {}).model_dump(mode="json")

    async def serve() -> list[Result]:
        table = {"status": status, "alua_set": alua_set_command(backend)}
        server = ControlServer(asyncio.get_running_loop(), SgvCache(), str(path), table)
        server.start()
        words = ("--control", str(path))
        try:
            return [await asyncio.to_thread(run, *command, *words) for command in commands]
        finally:
            await server.stop()

    return asyncio.run(serve())


def test_help_lists_the_commands_and_the_exit_statuses() -> None:
    shown = plain(run("--help").stdout)
    for text in (" show ", " set ", "0 done; 1 not done", "alua set group1 controller_a state"):
        assert text in shown


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("show", ["--control", "/run/scst-bridge/control.sock"]),
        ("set", ["state or preferred", "nonoptimized", "The configuration file stays as it is"]),
    ],
)
def test_every_command_has_help(command: str, expected: list[str]) -> None:
    result = run(command, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    for text in expected:
        assert text in plain(result.stdout)


def test_states_are_set_and_shown(tmp_path: Path) -> None:
    backend = Backend(SyncEngine())
    TwoPorts(group=backend.add_device_group("g"))
    before, state, preferred, after = ask_a_daemon(
        tmp_path,
        backend,
        ("show",),
        ("set", "g", "two", "state", "standby"),
        ("set", "g", "two", "preferred", "1"),
        ("show",),
    )
    for done in (before, state, preferred, after):
        assert (done.exit_code, done.stderr) == (0, "")
    assert (state.stdout, preferred.stdout) == ("", "")
    one = "g faulty one 1 active yes target1"
    assert rows(before) == [one, "g faulty two 2 active no target2, elsewhere (remote 7)"]
    assert rows(after) == [one, "g faulty two 2 standby yes target2, elsewhere (remote 7)"]


def test_what_is_refused_is_told_with_exit_status_1(tmp_path: Path) -> None:
    backend = Backend(SyncEngine())
    TwoPorts(group=backend.add_device_group("g"))
    (result,) = ask_a_daemon(tmp_path, backend, ("set", "g", "three", "state", "standby"))
    assert (result.exit_code, result.stdout) == (1, "")
    expected = "unknown target group 'three': expected one, two"
    assert result.stderr == f"{tmp_path / 'c'}: {expected}\n"


def test_without_groups_show_says_so(tmp_path: Path) -> None:
    (result,) = ask_a_daemon(tmp_path, Backend(SyncEngine()), ("show",))
    assert (result.exit_code, result.stdout) == (0, "no device groups\n")


@pytest.mark.parametrize("command", [("show",), ("set", "g", "one", "state", "active")])
def test_no_daemon_is_told_with_exit_status_1(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "none"
    result = run(*command, "--control", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{path}: no daemon answers: No such file or directory\n"
