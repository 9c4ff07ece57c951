# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command, flag and option through libnbd, right and wrong; see ``libnbd_*.py``."""

from __future__ import annotations

import subprocess

import pytest

from tests.interop.doors import PYTHON, NbdDoor, Tools


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
        "past_the_end",
        "payloads_over_the_maximum",
        "many_requests_in_flight",
        "disconnecting_with_requests_in_flight",
        "connections_share_one_cache",
    ],
)
def test_requests_through_every_door(tools: Tools, door: NbdDoor, scenario: str) -> None:
    tools.run_module("libnbd_scenarios", scenario, door.uri)


@pytest.mark.parametrize(
    "scenario",
    [
        "aborting_the_handshake",
        "handshake_flags",
        "simple_replies_for_who_asks_for_no_others",
        "meta_contexts_are_selected",
        "tls_is_not_there",
    ],
)
def test_negotiation_through_every_door(tools: Tools, door: NbdDoor, scenario: str) -> None:
    tools.run_module("libnbd_negotiation", scenario, door.uri)


@pytest.mark.parametrize(
    "scenario",
    [
        "extents_are_told",
        "wrong_questions_for_extents",
        "reads_in_chunks",
        "fast_zeros_of_a_thin_disk",
    ],
)
def test_holes_through_every_door(tools: Tools, door: NbdDoor, scenario: str) -> None:
    tools.run_module("libnbd_extents", scenario, door.uri)


@pytest.mark.parametrize(
    "scenario",
    [
        "options_one_by_one",
        "meta_contexts_are_listed",
        "block_sizes_are_told_to_who_does_not_ask",
    ],
)
def test_options_of_the_daemon(tools: Tools, daemon_door: NbdDoor, scenario: str) -> None:
    tools.run_module("libnbd_negotiation", scenario, daemon_door.uri)


@pytest.mark.parametrize(
    "scenario",
    [
        "parts_of_blocks_from_who_knows_better",
        "parts_of_blocks",
        "parts_of_one_block_by_many_at_once",
    ],
)
@pytest.mark.parametrize("export", ["disk", "disk/7"])
def test_parts_of_blocks(tools: Tools, daemon_door: NbdDoor, export: str, scenario: str) -> None:
    tools.run_module("libnbd_extents", scenario, daemon_door.export(export).uri)


@pytest.mark.parametrize(
    "scenario",
    [
        "blocks_of_512_bytes_on_one_of_4096",
        "extents_of_a_disk_that_is_not_thin",
        "fast_zeros_of_a_disk_that_is_not_thin",
    ],
)
def test_a_disk_with_long_blocks_that_is_not_thin(
    tools: Tools, daemon_door: NbdDoor, scenario: str
) -> None:
    tools.run_module("libnbd_extents", scenario, daemon_door.export("disk/7").uri)


def test_holes_are_read_as_holes(tools: Tools, daemon_door: NbdDoor) -> None:
    tools.run_module("libnbd_extents", "sparse_reads", daemon_door.export("sparse").uri)


def test_requests_for_nothing_at_all(tools: Tools, daemon_door: NbdDoor) -> None:
    # The specification leaves the result open; nbdkit calls it an error.
    tools.run_module("libnbd_scenarios", "nothing_at_all", daemon_door.uri)


def test_a_read_only_export_may_not_be_written(tools: Tools, daemon_door: NbdDoor) -> None:
    tools.run_module("libnbd_scenarios", "read_only", daemon_door.export("frozen").uri)
