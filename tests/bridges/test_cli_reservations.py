# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's ``reservations``, in front of a daemon of its own."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridges import cli
from tests.bridges.daemon_process import (
    BLOCK_BYTES,
    DaemonProcess,
    LocalDoor,
    NbdDoor,
    configure,
    daemon,
)

UID = os.getuid()
# The words of each line.
SHOWN = f"""\
Reservations
device generation APTPL reservation held by SPC-2 holder
d 2 no write-exclusive (1), logical unit local:uid={UID},a at scst_local/t
Registrants
device initiator target port key holder session
d local:uid={UID},a scst_local/t 2 0xa yes no
d local:uid={UID},a nbd/t 1 0xb no no
d unix:uid={UID} scst_local/t 2 0xb no no
d unix:uid={UID} nbd/t 1 0xb no yes
"""


def run(*words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli.app, list(words), env={"TERM": "dumb", "NO_COLOR": "1"})


def words(text: str) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in text.splitlines()]


def ask(served: DaemonProcess, *arguments: str) -> Result:
    """Run ``reservations``."""
    return run("reservations", "--control", str(served.control), *arguments)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A configuration with ``d`` at two doors."""
    (tmp_path / "disk.img").write_bytes(bytes(64 * BLOCK_BYTES))
    doors = (NbdDoor(), LocalDoor())
    return configure(tmp_path, *(door.section(tmp_path) for door in doors))


def reserve(folder: Path) -> None:
    """Register at both doors, and reserve."""
    socket = ("--socket", str(LocalDoor().path(folder)))
    both = ("--initiator-port", f"unix:uid={UID}", "--all-target-ports")
    for line in (
        ("pr", "register", "d", "--initiator", "a", "--action-key", "b", *both),
        ("pr", "register", "d", "--initiator", "a", "--key", "b", "--action-key", "a"),
        ("pr", "reserve", "d", "--initiator", "a", "--key", "a", "--type", "1"),
    ):
        assert run(*line, *socket).exit_code == 0


def test_registrants_are_shown_with_where_they_are(tmp_path: Path, conf: Path) -> None:
    with daemon(conf) as served:
        reserve(tmp_path)
        with closing(NbdDoor().open(tmp_path)):
            shown, of_disk, as_json = (
                ask(served, *arguments) for arguments in ((), ("d",), ("d", "--json"))
            )
    for result in (shown, of_disk, as_json):
        assert (result.exit_code, result.stderr) == (0, "")
    assert words(shown.stdout) == words(SHOWN)
    assert of_disk.stdout == shown.stdout
    (device,) = json.loads(as_json.stdout)["devices"]
    assert (device["device"], device["reservation"]["type"]) == ("d", 1)
    assert device["registrants"][3] == {
        "initiator": f"unix:uid={UID}",
        "rel_tgt_id": 1,
        "target": "nbd/t",
        "has_session": True,
        "key": "0xb",
        "is_holder": False,
    }


def test_nothing_reserved_is_shown_so(conf: Path) -> None:
    with daemon(conf) as served:
        result = ask(served)
    assert (result.exit_code, result.stderr) == (0, "")
    assert words(result.stdout)[2:] == [["d", "0", "no"], ["no", "registrants"]]


def test_unknown_device_is_told_with_those_that_there_are(conf: Path) -> None:
    with daemon(conf) as served:
        result = ask(served, "e")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{served.control}: unknown device 'e': expected d\n"


def test_no_daemon_is_told_with_exit_status_1(tmp_path: Path) -> None:
    result = run("reservations", "--control", str(tmp_path / "none"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{tmp_path / 'none'}: no daemon answers: No such file or directory\n"


def test_help_says_what_is_shown() -> None:
    result = run("reservations", "--help")
    assert result.exit_code == 0
    for text in ("scst-bridge reservations disk0", "--json", "--control", "scst-bridge pr"):
        assert text in result.stdout
