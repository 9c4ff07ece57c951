# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: help, exit statuses, and where messages go."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridges import cli

VALID = "HANDLER vdisk_nullio {\n    DEVICE n0\n    DEVICE n1\n}\n"
VALID += "TARGET_DRIVER nbd {\n    listen h\n    TARGET t {\n    }\n}\n"
INVALID = "HANDLER vdisk_nullio {\n    DEVICE n0 {\n        blocksize 7\n    }\n}\n"
COMMANDS = (
    *("serve", "nbd", "status", "check", "demo", "cdb", "nbdkit", "alua", "pr", "reservations"),
)


def run(*words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli.app, list(words), env={"TERM": "dumb", "NO_COLOR": "1"})


def console_script() -> str:
    """The installed program."""
    path = Path(sys.executable).with_name("scst-bridge")
    if not path.exists():
        pytest.skip(f"{path} is not installed")
    return str(path)


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    path = tmp_path / "scst.conf"
    path.write_text(VALID)
    return path


def plain(text: str) -> str:
    """A help text in one line, without frames."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", text)


def test_the_console_script_is_the_command_line() -> None:
    (script,) = entry_points(group="console_scripts", name="scst-bridge")
    assert script.load() is cli.main


def test_help_lists_every_command() -> None:
    result = run("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    for command in COMMANDS:
        assert f" {command} " in plain(result.stdout)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "serve",
            [
                "until SIGTERM or SIGINT",
                "SIGHUP",
                '"listen systemd"',
                "--stdio",
                "--control",
                "/run/scst-bridge/control.sock; none with --stdio",
                "--verbose",
            ],
        ),
        (
            "nbd",
            [
                "[ATTRIBUTE=VALUE]",
                "nbdinfo -- [ scst-bridge nbd disk.img ]",
                "HOST:PORT, [IPv6]:PORT, unix:/PATH or vsock:PORT",
                "127.0.0.1:10809",
                "--export",
                "--read-only",
                "--stdio",
                "--tls-certificates",
                "<off|on|require>",
                "--tls-verify-peer",
                "--control",
            ],
        ),
        ("status", ["NBD URIs", "--json", "/run/scst-bridge/control.sock", "exit status is 1"]),
        ("check", ["without starting anything", "scst.conf"]),
        ("demo", ["1 GiB sparse disk", "--directory", "--aoe-interface"]),
        ("cdb", ["Send one CDB", "--socket", "--data-out", "--length", "--initiator"]),
        ("nbdkit", ["file=DISK", "socket=PATH", "scst-bridge nbdkit -f"]),
    ],
)
def test_every_command_has_help(command: str, expected: list[str]) -> None:
    result = run(command, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    for text in expected:
        assert text in plain(result.stdout)


@pytest.mark.parametrize("words", [(), ("nonsense",), ("check",), ("check", "a", "b"), ("demo",)])
def test_wrong_usage_has_exit_status_2(words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == 2


def test_check_counts_what_a_valid_file_holds(valid: Path) -> None:
    result = run("check", str(valid))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{valid}: ok: 2 devices, 1 targets\n"


def test_check_warns_of_a_target_that_nobody_can_log_in_to(valid: Path) -> None:
    with valid.open("a") as file:
        file.write("TARGET_DRIVER scst_local {\nTARGET lonely {\nenabled 1\n}\n}\n")
    line = len(valid.read_text().splitlines()) - 3
    result = run("check", str(valid))
    warned = "target lonely is enabled without a LUN: nobody can log in"
    assert (result.exit_code, result.stderr) == (0, f"warning: {valid}:{line}: {warned}\n")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_wrong_file_is_refused_with_one_line(tmp_path: Path, command: str) -> None:
    path = tmp_path / "scst.conf"
    path.write_text(INVALID)
    result = run(command, str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{path}:3: device n0: blocksize '7': expected 512 or 4096\n"


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_file_that_cannot_be_read_is_refused_with_one_line(tmp_path: Path, command: str) -> None:
    missing = tmp_path / "none.conf"
    result = run(command, str(missing))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{missing}: No such file or directory\n"
    result = run(command, str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{tmp_path}: Is a directory\n"


def test_the_installed_program_checks_files(valid: Path) -> None:
    done = subprocess.run(
        [console_script(), "check", str(valid)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{valid}: ok: 2 devices, 1 targets\n"
    valid.write_text(INVALID)
    done = subprocess.run(
        [console_script(), "check", str(valid)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{valid}:3: device n0: blocksize '7': expected 512 or 4096\n"


def test_demo_says_when_the_path_is_too_long_for_sockets(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    result = run("demo", "--directory", str(folder))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{folder / 'scst.conf'}:")
    assert line.endswith("expected unix: and an absolute path of at most 107 bytes")


def test_demo_says_when_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run("demo", "--directory", str(tmp_path / "file" / "var"))
    assert result.exit_code == 1
    assert result.stderr == f"{tmp_path / 'file' / 'var'}: Not a directory\n"


def test_demo_says_when_the_path_cannot_be_written_down(tmp_path: Path) -> None:
    result = run("demo", "--directory", str(tmp_path / "two\nlines"))
    assert result.exit_code == 1
    assert "character U+000A: expected text without control characters" in result.stderr


def test_demo_says_when_its_port_is_in_use_and_leaves_only_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "with blank"
    with socket.socket() as other:
        # If that fails somebody else has the port, which does as well.
        with suppress(OSError):
            other.bind(("127.0.0.1", 10809))
            other.listen()
        result = subprocess.run(
            [console_script(), "demo", "--directory", str(folder)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (result.returncode, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    assert last == "cannot listen on 127.0.0.1:10809: Address already in use"
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["disk0.img", "scst.conf"]


def test_status_says_when_no_daemon_answers(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    result = run("status", "--control", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{path}: no daemon answers: No such file or directory\n"


def test_status_says_when_the_daemon_is_somebody_else_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "theirs.sock"
    path.touch()
    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    result = run("status", "--control", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{path}: no daemon answers: ")


def test_stdio_says_when_standard_input_is_no_socket(tmp_path: Path, valid: Path) -> None:
    for words in (["serve", str(valid)], ["nbd", str(tmp_path / "disk.img")]):
        done = subprocess.run(
            [console_script(), *words, "--stdio"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("standard input: expected a socket, as inetd")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["colour"], "'colour': expected ATTRIBUTE=VALUE"),
        (["blocksize=7"], "device disk0: blocksize '7': expected 512 or 4096"),
        (["--tls", "on"], "tls on: expected tls_certificates in the driver's section"),
        (["--tls-verify-peer"], "tls_verify_peer '1': expected tls_certificates as well"),
        (["--listen", "h:x"], "listen 'h:x': expected HOST:PORT"),
        ([], "No such file or directory"),
    ],
)
def test_nbd_says_what_is_wrong_without_a_line_of_a_file(
    tmp_path: Path, words: list[str], message: str
) -> None:
    done = subprocess.run(
        [console_script(), "nbd", str(tmp_path / "none.img"), *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert message in last
    assert "command line" not in last


def test_cdb_says_when_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    result = run("cdb", str(path), "0", "12 00 00 00 60 00")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{path}: cannot connect: No such file or directory\n"


def test_cdb_says_when_its_words_are_no_bytes(tmp_path: Path) -> None:
    result = run("cdb", str(tmp_path / "none.sock"), "0", "zz")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "CDB: 'zz' is not hex: expected digits like 12 or 0x12\n"


def test_cdb_says_when_the_data_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "data"
    result = run("cdb", "--data-out", str(path), str(tmp_path / "s"), "0", "2a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{path}: No such file or directory\n"


def test_nbdkit_gets_its_options(tmp_path: Path) -> None:
    if shutil.which("nbdkit") is None:
        pytest.skip("nbdkit is not installed")
    done = subprocess.run(
        [console_script(), "nbdkit", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"nbdkit \d", done.stdout)


def test_a_missing_nbdkit_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [console_script(), "nbdkit", "--", "file=/x"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("nbdkit is not installed: apt-get install nbdkit")
