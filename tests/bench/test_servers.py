# SPDX-License-Identifier: GPL-2.0-or-later
"""servers.py: configuration texts and plans, without starting anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.servers import (
    PYTHON_PLUGIN,
    SERVERS,
    Server,
    Site,
    nbd_server_config,
    nbd_uri,
    scst_config,
)

SITE = Site(Path("/dev/shm/x.img"), Path("/tmp/b/one"), Path("/opt/bin/scst-bridge"))
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


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.key)
def test_clients_connect_to_the_program_started_last(server: Server) -> None:
    plan = server.plan(SITE)
    last = plan.launches[-1]
    assert last.speaks_nbd
    assert plan.uri.endswith(f"?socket={last.socket}")
    assert last.socket.parent == SITE.folder


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.key)
def test_the_image_is_named_on_a_command_line_or_in_the_configuration(server: Server) -> None:
    plan = server.plan(SITE)
    words = [word for launch in plan.launches for word in launch.command]
    assert str(SITE.image) in " ".join(words) + plan.config_text


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.key)
def test_configuration_is_written_exactly_for_programs_that_read_it(server: Server) -> None:
    plan = server.plan(SITE)
    words = [word for launch in plan.launches for word in launch.command]
    assert (str(plan.config) in words) == bool(plan.config_text)


def test_plugin_as_client_is_started_after_the_daemon_it_connects_to() -> None:
    daemon, plugin = BY_KEY["ours-nbdkit-daemon"].plan(SITE).launches
    assert daemon.command == ("/opt/bin/scst-bridge", "serve", "/tmp/b/one/server.conf")
    assert (daemon.socket, daemon.speaks_nbd) == (SITE.local_socket, False)
    assert plugin.command[-3:] == ("--", "device=local", "socket=/tmp/b/one/local.sock")
    # Both listen, so the sockets must differ from each other and from the daemon's NBD socket.
    assert len({daemon.socket, plugin.socket, SITE.nbd_socket}) == 3


def test_yardstick_plugin_lies_beside_the_benchmark() -> None:
    assert PYTHON_PLUGIN.is_file()
    assert str(PYTHON_PLUGIN) in BY_KEY["nbdkit-python"].plan(SITE).launches[0].command
