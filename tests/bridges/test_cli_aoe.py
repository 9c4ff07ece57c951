# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of the AoE clients: help, wrong words, and what it loads.

What they say of targets is tests/interop's business.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner, Result

from bridges import cli


def run(*words: str) -> Result:
    """Run a command in this process."""
    environment = {"TERM": "dumb", "NO_COLOR": "1"}
    return CliRunner().invoke(cli.app, ["aoe", *words], env=environment)


def plain(text: str) -> str:
    """A help text in one line, without frames."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", text)


def test_help_lists_every_command_and_the_exit_statuses() -> None:
    result = run("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    shown = plain(result.stdout)
    for command in ("discover", "identify", "config", "reserve", "mask"):
        assert f" {command} " in shown
    assert "need root" in shown
    assert "0 the target did it; 1 it could not be asked, or did not answer; 2 it refused" in shown


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("discover", ["aoe discover eth0 --timeout 5 --json", "[default: 1.0]", "--json"]),
        ("identify", ["aoe identify eth0 e1.1 --raw", "[default: 3.0]", "--json", "--raw"]),
        ("config", ["<get|test|prefix|set|force>", "[default: get]", "force ''", "1024 bytes"]),
        (
            "reserve",
            ["<get|set|force|release>", "[default: get]", '"self": that of IF', "force self"],
        ),
        ("mask", ["<get|add|delete>", "[default: get]", '"self": that of IF', "add self"]),
    ],
)
def test_every_command_has_help_with_examples(command: str, expected: list[str]) -> None:
    result = run(command, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    for text in ("Exit status: 0", f"Example: scst-bridge aoe {command}", "--timeout", *expected):
        assert text in plain(result.stdout)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("discover",),
        ("identify", "lo"),
        ("config", "lo", "e1.1", "change"),
        ("reserve", "lo", "e1.1", "take"),
        ("mask", "lo", "e1.1", "edit"),
        ("discover", "lo", "--timeout", "0"),
        ("discover", "lo", "--timeout", "soon"),
        *(
            (command, "lo", *target, "--timeout", seconds)
            for command, target in (("discover", ()), ("identify", ("e1.1",)))
            for seconds in ("inf", "nan", "1e300", "3600.5")
        ),
    ],
)
def test_wrong_usage_has_exit_status_2(words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("identify", "lo", "e1"), "'e1': expected eSHELF.SLOT"),
        (("config", "lo", "e1.255"), "'e1.255': expected eSHELF.SLOT"),
        (("config", "lo", "e1.1", "get", "x"), "config get: expected no STRING"),
        (("config", "lo", "e1.1", "set"), "config set: expected a STRING"),
        (("config", "lo", "e1.1", "force"), "config force: expected a STRING"),
        (("reserve", "lo", "e1.1", "set"), "reserve set: expected at least one MAC"),
        (("reserve", "lo", "e1.1", "force"), "reserve force: expected at least one MAC"),
        (("reserve", "lo", "e1.1", "release", "self"), "reserve release: expected no MAC"),
        (("mask", "lo", "e1.1", "get", "self"), "mask get: expected no MAC"),
        (("mask", "lo", "e1.1", "add"), "mask add: expected at least one MAC"),
        (("discover", "no-such-if"), "no-such-if: no such network interface"),
        (("mask", "lo", "e1.1"), "lo: not an Ethernet interface"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_status_1(
    words: tuple[str, ...], message: str
) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(message)


def test_scapy_is_not_loaded_before_it_is_needed() -> None:
    source = "import sys, bridges.cli, bridges.daemon; sys.exit('scapy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
