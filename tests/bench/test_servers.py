# SPDX-License-Identifier: GPL-2.0-or-later
"""servers.py: configuration texts and plans, without starting anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.cells import CELLS
from tests.bench.servers import (
    EXTRA_SERVERS,
    FILE_PEERS,
    PYTHON_PLUGIN,
    SERVERS,
    Plan,
    Site,
    nbd_server_config,
    nbd_uri,
    nbds_uri,
    scst_config,
    scst_tls_config,
    turns_of,
)

SITE = Site(
    Path("/dev/shm/x.img"),
    64 << 20,
    Path("/tmp/b/one"),
    Path("/opt/bin/scst-bridge"),
    Path("/tmp/b/pki"),
)
PLANS = {server.key: server.plan(SITE) for server in (*SERVERS, *EXTRA_SERVERS)}
TLS_PLANS = {server.key: server.tls_plan(SITE) for server in SERVERS if server.tls_plan is not None}
ALL_PLANS = [
    *(pytest.param(plan, id=key) for key, plan in PLANS.items()),
    *(pytest.param(plan, id=f"{key}-tls") for key, plan in TLS_PLANS.items()),
]
BY_KEY = {server.key: server for server in SERVERS}


def test_nbd_server_config_has_a_unix_socket_and_the_image() -> None:
    assert nbd_server_config(SITE) == (
        "[generic]\n    unixsock = /tmp/b/one/nbd.sock\n[disk0]\n    exportname = /dev/shm/x.img\n"
    )


def test_scst_config_offers_the_image_through_both_drivers() -> None:
    assert scst_config(SITE).splitlines() == [
        "HANDLER vdisk_fileio {",
        "    DEVICE disk0 {",
        '        filename "/dev/shm/x.img"',
        "    }",
        "}",
        "TARGET_DRIVER nbd {",
        "    listen unix:/tmp/b/one/nbd.sock",
        "    TARGET disk0 {",
        "        LUN 0 disk0",
        "        enabled 1",
        "    }",
        "}",
        "TARGET_DRIVER scst_local {",
        "    socket /tmp/b/one/local.sock",
        "    TARGET local {",
        "        LUN 0 disk0",
        "        enabled 1",
        "    }",
        "}",
    ]


def test_uri_escapes_what_would_end_the_socket_path() -> None:
    assert nbd_uri(Path("/a b&c/s"), "disk0") == "nbd+unix:///disk0?socket=/a%20b%26c/s"
    assert nbd_uri(Path("/s")) == "nbd+unix:///?socket=/s"


def test_keys_and_names_are_unique() -> None:
    assert len(BY_KEY) == len(SERVERS)
    assert len({server.name for server in SERVERS}) == len(SERVERS)


def words_of(plan: Plan) -> list[str]:
    """Everything that a plan has on its command lines."""
    return [*(word for launch in plan.launches for word in launch.command), *plan.fill]


@pytest.mark.parametrize("plan", ALL_PLANS)
def test_clients_connect_to_the_program_started_last(plan: Plan) -> None:
    last = plan.launches[-1]
    assert last.speaks_nbd
    assert f"?socket={last.socket}" in plan.uri
    assert last.socket.parent == SITE.folder


@pytest.mark.parametrize("plan", ALL_PLANS)
def test_the_image_is_named_on_a_command_line_or_in_the_configuration(plan: Plan) -> None:
    assert str(SITE.image) in " ".join(words_of(plan)) + plan.config_text


@pytest.mark.parametrize("plan", ALL_PLANS)
def test_configuration_is_written_exactly_for_programs_that_read_it(plan: Plan) -> None:
    assert (str(plan.config) in words_of(plan)) == bool(plan.config_text)


def test_memory_is_as_large_as_the_image_and_filled_with_it() -> None:
    plan = PLANS["nbdkit-memory"]
    assert plan.launches[0].command[-2:] == ("memory", "67108864")
    assert plan.fill[0] == "nbdcopy"
    assert plan.fill[-2:] == ("/dev/shm/x.img", plan.uri)
    assert [key for key, plan in PLANS.items() if plan.fill] == ["nbdkit-memory", "ours-reserved"]


def test_reservation_is_taken_for_the_clients_that_measure() -> None:
    plan = PLANS["ours-reserved"]
    assert plan.fill[:2] == ("sh", "-c")
    register, reserve = plan.fill[2].split(" && ")
    ask, at = "/opt/bin/scst-bridge pr", "local --socket /tmp/b/one/local.sock"
    named = f"--initiator-port unix:uid={os.getuid()} --all-target-ports"
    assert register == f"{ask} register {at} --action-key 0xb {named}"
    assert reserve == f"{ask} reserve {at} --key 0xb --type write-exclusive-all-reg"
    assert (plan.uri, plan.config_text) == (PLANS["ours"].uri, PLANS["ours"].config_text)


def test_three_servers_have_tls_and_want_it_of_every_client() -> None:
    assert set(TLS_PLANS) == {"ours", "nbdkit-file", "qemu-nbd"}
    for plan in TLS_PLANS.values():
        assert plan.uri.startswith("nbds+unix:///")
        assert plan.uri.endswith("&tls-certificates=/tmp/b/pki")
        assert "/tmp/b/pki" in " ".join(words_of(plan)) + plan.config_text
    assert "--tls=require" in words_of(TLS_PLANS["nbdkit-file"])
    assert "--tls-creds=tls" in words_of(TLS_PLANS["qemu-nbd"])


def test_scst_config_with_tls_refuses_clients_without() -> None:
    assert scst_tls_config(SITE).splitlines() == [
        "HANDLER vdisk_fileio {",
        "    DEVICE disk0 {",
        '        filename "/dev/shm/x.img"',
        "    }",
        "}",
        "TARGET_DRIVER nbd {",
        "    tls_certificates /tmp/b/pki",
        "    listen unix:/tmp/b/one/nbd.sock {",
        "        tls require",
        "    }",
        "    TARGET disk0 {",
        "        LUN 0 disk0",
        "        enabled 1",
        "    }",
        "}",
    ]


def test_tls_uri_names_socket_and_certificates() -> None:
    site = Site(Path("/i"), 1, Path("/a b"), Path("/p"), Path("/c&d"))
    expected = "nbds+unix:///disk0?socket=/a%20b/nbd.sock&tls-certificates=/c%26d"
    assert nbds_uri(site, "disk0") == expected


def keys_by_cell(*, is_quick: bool) -> dict[str, set[str]]:
    turns = turns_of(SERVERS, CELLS, is_quick=is_quick)
    return {cell.name: {server.key for server in servers} for cell, servers in turns}


def test_quick_run_has_every_cell_and_the_main_servers_in_each() -> None:
    turns = keys_by_cell(is_quick=True)
    assert list(turns) == [cell.name for cell in CELLS]
    assert turns["randread-qd32"] == set(BY_KEY)
    assert turns["randread-x4"] == {"ours", "nbdkit-file", "qemu-nbd", "nbd-server"}


def test_whole_run_has_every_server_in_every_cell() -> None:
    turns = keys_by_cell(is_quick=False)
    assert turns["randread-x4"] == set(BY_KEY)


@pytest.mark.parametrize("is_quick", [True, False])
def test_cells_with_tls_have_the_servers_with_tls(is_quick: bool) -> None:
    turns = keys_by_cell(is_quick=is_quick)
    assert turns["read-tls"] == turns["write-tls"] == set(TLS_PLANS)


def test_quick_run_ends_within_ten_minutes() -> None:
    runs = 3 * sum(map(len, keys_by_cell(is_quick=True).values()))
    # Two seconds of load, and half a second for a client to start and to report.
    assert runs * 2.5 < 600


def test_best_peers_are_main_servers_of_others() -> None:
    assert {key for key in BY_KEY if BY_KEY[key].is_main} == {"ours", *FILE_PEERS}


def test_plugin_as_client_is_started_after_the_daemon_it_connects_to() -> None:
    daemon, plugin = PLANS["ours-nbdkit-daemon"].launches
    assert daemon.command == ("/opt/bin/scst-bridge", "serve", "/tmp/b/one/server.conf")
    assert (daemon.socket, daemon.speaks_nbd) == (SITE.local_socket, False)
    assert plugin.command[-3:] == ("--", "device=local", "socket=/tmp/b/one/local.sock")
    # Both listen, so the sockets must differ from each other and from the daemon's NBD socket.
    assert len({daemon.socket, plugin.socket, SITE.nbd_socket}) == 3


def test_yardstick_plugin_lies_beside_the_benchmark() -> None:
    assert PYTHON_PLUGIN.is_file()
    assert str(PYTHON_PLUGIN) in PLANS["nbdkit-python"].launches[0].command
