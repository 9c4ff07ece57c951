# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command, flag and option through libnbd, right and wrong; see libnbd_scenarios.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.interop.doors import NbdDoor, Tools

PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("libnbd_scenarios.py")


@pytest.fixture(scope="session", autouse=True)
def _has_libnbd() -> None:
    command = [PYTHON, "-c", "import nbd"]
    if subprocess.run(command, capture_output=True, timeout=30, check=False).returncode:
        pytest.skip("needs libnbd's Python module (Debian package python3-libnbd)")


@pytest.mark.parametrize(
    "scenario",
    [
        "every_command_and_flag",
        "fua_is_taken_on_every_command",
        "wrong_flags_are_einval",
        "fast_zero",
        "past_the_end",
        "unaligned",
        "payloads_over_the_maximum",
        "many_requests_in_flight",
        "disconnecting_with_requests_in_flight",
        "connections_share_one_cache",
        "aborting_the_handshake",
        "handshake_flags",
        "tls_is_not_there",
    ],
)
def test_libnbd_through_every_door(tools: Tools, door: NbdDoor, scenario: str) -> None:
    tools.run(PYTHON, str(SCRIPT), scenario, door.uri)


def test_libnbd_asks_for_nothing_at_all(tools: Tools, unix_door: NbdDoor) -> None:
    # The specification leaves the result open; nbdkit calls it an error.
    tools.run(PYTHON, str(SCRIPT), "nothing_at_all", unix_door.uri)


def test_libnbd_sends_options_one_by_one(tools: Tools, unix_door: NbdDoor) -> None:
    tools.run(PYTHON, str(SCRIPT), "options_one_by_one", unix_door.uri)


def test_libnbd_may_not_write_a_read_only_export(tools: Tools, unix_door: NbdDoor) -> None:
    uri = unix_door.uri.replace("/disk?", "/frozen?")
    tools.run(PYTHON, str(SCRIPT), "read_only", uri)
