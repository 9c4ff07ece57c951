# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's ``pr``, in front of a daemon of its own: outcomes, statuses, and help."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridges import cli
from tests.bridges.daemon_process import BLOCK_BYTES, LocalDoor, configure, daemon

ME = f"local:uid={os.getuid()}"
COMMANDS = {
    "read-keys": "READ KEYS",
    "read-reservation": "READ RESERVATION",
    "capabilities": "REPORT CAPABILITIES",
    "full-status": "READ FULL STATUS",
    "register": "REGISTER",
    "register-ignore": "REGISTER AND IGNORE EXISTING KEY",
    "reserve": "RESERVE",
    "release": "RELEASE",
    "clear": "CLEAR",
    "preempt": "PREEMPT",
    "preempt-abort": "PREEMPT AND ABORT",
    "register-move": "REGISTER AND MOVE",
}


def run(*words: str) -> Result:
    """Run a command in this process."""
    environment = {"TERM": "dumb", "NO_COLOR": "1"}
    return CliRunner().invoke(cli.app, ["pr", *words], env=environment)


def plain(text: str) -> str:
    """A text in one line, without frames."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", text)


class Disk:
    """The disk ``d`` behind a daemon's local socket."""

    def __init__(self, folder: Path) -> None:
        self.conf = configure(
            folder, LocalDoor().section(folder), attributes=f'pr_file_name "{folder}/pr"\n'
        )
        self._socket = ("--socket", str(LocalDoor().path(folder)))

    def run(self, words: str) -> Result:
        """Run a command line, in which ``d`` is the disk."""
        return run(*words.split(), *self._socket)

    def tell(self, words: str) -> list[str]:
        """The outcome of a command that ends with GOOD."""
        result = self.run(words)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout.splitlines()

    def refuse(self, words: str) -> list[str]:
        """The outcome of a command that ends with another status."""
        result = self.run(words)
        assert (result.exit_code, result.stderr) == (2, "")
        return result.stdout.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the daemon's files are."""
    folder = tmp_path_factory.mktemp("pr")
    (folder / "disk.img").write_bytes(bytes(64 * BLOCK_BYTES))
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Disk]:
    """The disk of a daemon that serves all tests of this file but those of restarts."""
    disk = Disk(folder)
    with daemon(disk.conf):
        yield disk


@pytest.fixture
def disk(served: Disk) -> Iterator[Disk]:
    """The disk, which nobody has registered at."""
    yield served
    served.run("register-ignore d --action-key 1")
    assert served.tell("clear d --key 1")[-1] == "CLEAR: GOOD"


def test_a_node_takes_the_disk_and_another_takes_it_over(disk: Disk) -> None:
    for words, outcome in (
        ("register d --initiator node1 --action-key 0xa", ["REGISTER: GOOD"]),
        ("register d --initiator node2 --action-key B", ["REGISTER: GOOD"]),
        ("reserve d --initiator node1 --key a --type write-exclusive-regonly", ["RESERVE: GOOD"]),
        ("preempt d --initiator node2 --key b --action-key a --type 5", ["PREEMPT: GOOD"]),
        (
            "register-ignore d --initiator node1 --action-key c",
            [
                "unit attention: REGISTRATIONS PREEMPTED (2Ah/05h)",
                "REGISTER AND IGNORE EXISTING KEY: GOOD",
            ],
        ),
        (
            "preempt-abort d --initiator node1 --key c --action-key b --type exclusive-access",
            ["PREEMPT AND ABORT: GOOD"],
        ),
        (
            "release d --initiator node1 --key c --type exclusive-access",
            ["RELEASE: GOOD"],
        ),
        (
            "clear d --initiator node1 --key c",
            ["CLEAR: GOOD"],
        ),
    ):
        assert disk.tell(words) == outcome


def test_what_is_reserved_is_shown(disk: Disk) -> None:
    disk.tell("register d 0 --initiator n --action-key beef --initiator-port x --initiator-port y")
    disk.tell("reserve d --initiator n --key beef --type exclusive-access")
    keys, reservation, full = (
        disk.tell(f"{command} d") for command in ("read-keys", "read-reservation", "full-status")
    )
    assert (keys[0], keys[2:]) == ("READ KEYS: GOOD", ["  keys: 0xbeef, 0xbeef, 0xbeef"])
    assert reservation[2:] == ["  reservation: exclusive-access (3), logical unit, key 0xbeef"]
    assert full[2:] == [
        "  registrants: 3",
        f"    {ME},n at target port 1: key 0xbeef, holds exclusive-access (3)",
        "    x at target port 1: key 0xbeef",
        "    y at target port 1: key 0xbeef",
    ]
    assert disk.tell("capabilities d")[4:6] == [
        "  persist through power loss: possible (PTPL_C): yes",
        "  persist through power loss: active (PTPL_A): no",
    ]


def test_a_reservation_is_handed_on(disk: Disk) -> None:
    disk.tell("register d --initiator a --action-key a")
    disk.tell("reserve d --initiator a --key a --type write-exclusive")
    disk.tell(
        "register-move d --initiator a --key a --action-key b"
        f" --initiator-port {ME},b --target-port 1 --unregister"
    )
    assert disk.tell("full-status d")[2:] == [
        "  registrants: 1",
        f"    {ME},b at target port 1: key 0xb, holds write-exclusive (1)",
    ]


def test_registrants_of_every_target_are_registered_at_once(disk: Disk) -> None:
    disk.tell("register d --initiator a --action-key a --all-target-ports")
    disk.tell("register-ignore d --initiator a --action-key b --all-target-ports")
    assert disk.tell("read-keys d")[-1] == "  keys: 0xb"


def test_other_outcomes_have_exit_status_2(disk: Disk) -> None:
    assert disk.refuse("register d --key 1 --action-key 2") == ["REGISTER: RESERVATION CONFLICT"]
    disk.tell("register d --action-key 1")
    assert disk.refuse("reserve d --key 1 --type 4") == [
        "RESERVE: CHECK CONDITION",
        "  sense key: ILLEGAL REQUEST (5h)",
        "  additional sense: INVALID FIELD IN CDB (24h/00h)",
        "  field in error: CDB byte 2, bit 3",
    ]
    assert disk.refuse("read-keys t 5")[-1] == (
        "  additional sense: LOGICAL UNIT NOT SUPPORTED (25h/00h)"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("register d --action-key xyz", "key 'xyz': expected 1 to 16 hex digits, as in 0xbeef"),
        ("clear d --key 0x", "key '0x': expected 1 to 16 hex digits, as in 0xbeef"),
        (
            "reserve d --key 1 --type shared",
            "type 'shared': expected write-exclusive, exclusive-access, write-exclusive-regonly,"
            " exclusive-access-regonly, write-exclusive-all-reg, exclusive-access-all-reg,"
            " or 0 to 15",
        ),
        (
            "register-move d --key 1 --action-key 1 --initiator-port x --target-port 65536",
            "target port 65536: expected 0 to 65535",
        ),
    ],
)
def test_what_cannot_be_asked_has_exit_status_1(words: str, message: str) -> None:
    result = run(*words.split(), "--socket", "/nowhere")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"{message}\n")


def test_who_cannot_be_asked_is_told_with_exit_status_1(served: Disk, tmp_path: Path) -> None:
    result = served.run("read-keys e")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("no target and no mapped device is named 'e'\n")
    result = run("read-keys", f"{tmp_path}/none")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{tmp_path}/none: cannot connect: No such file or directory\n"


def test_the_path_of_a_socket_stands_for_its_only_target(folder: Path, disk: Disk) -> None:
    result = run("read-keys", str(LocalDoor().path(folder)))
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "READ KEYS: GOOD")


def restarted(disk: Disk, aptpl: str) -> list[str]:
    """Register and reserve before a restart of the daemon; return the full status behind it."""
    with daemon(disk.conf) as first:
        disk.tell(f"register d --initiator node1 --action-key a {aptpl}")
        disk.tell("reserve d --initiator node1 --key a --type write-exclusive")
        assert first.stop(signal.SIGTERM) == 0
    with daemon(disk.conf):
        shown = disk.tell("full-status d")
        if aptpl:
            # The same name is the same initiator, another is kept out.
            disk.refuse("clear d --initiator node2 --key a")
            disk.tell("clear d --initiator node1 --key a")
        return shown


@pytest.fixture
def own_disk(tmp_path: Path) -> Disk:
    """A disk for daemons of its own."""
    (tmp_path / "disk.img").write_bytes(bytes(64 * BLOCK_BYTES))
    return Disk(tmp_path)


def test_with_aptpl_a_restart_changes_nothing_but_the_generation(own_disk: Disk) -> None:
    assert restarted(own_disk, "--aptpl") == [
        "READ FULL STATUS: GOOD",
        "  generation: 0",
        "  registrants: 1",
        f"    {ME},node1 at target port 1: key 0xa, holds write-exclusive (1)",
    ]


def test_without_aptpl_a_restart_ends_everything(own_disk: Disk) -> None:
    assert restarted(own_disk, "")[2:] == ["  registrants: none"]


def test_help_lists_the_commands_and_how_to_use_them() -> None:
    shown = plain(run("--help").stdout)
    for command, action in COMMANDS.items():
        assert f" {command} " in shown
        assert f"({action})" in shown
    for text in ("0 GOOD; 2 any other status; 1 ", "local:uid=N,NAME", "--initiator-port unix:uid"):
        assert text in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    for text in (f"({COMMANDS[command]})", "--initiator", "--socket", "local.sock"):
        assert text in plain(result.stdout)
