# SPDX-License-Identifier: GPL-2.0-or-later
"""servers.py: command lines and configuration, in pairs of the same durability."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tests.bench.aoe.cells import CELLS
from tests.bench.aoe.servers import SERVERS, Place, scst_config

FAST = Place("t0", 1500, Path("/dev/shm/x.img"), Path("/tmp/b/scst.conf"), is_durable=False)
DURABLE = replace(FAST, is_durable=True)
BY_KEY = {server.key: server for server in SERVERS}


def test_vblade_has_room_for_the_window_and_syncs_where_durable() -> None:
    vblade = BY_KEY["vblade"]
    assert vblade.command(FAST) == ("vblade", "-b", "64", "1", "1", "t0", "/dev/shm/x.img")
    assert vblade.command(DURABLE) == (
        *("vblade", "-b", "64", "-s", "1", "1", "t0", "/dev/shm/x.img"),
    )
    assert max(cell.window for cell in CELLS) < 64


def test_ours_reads_its_configuration() -> None:
    command = BY_KEY["ours"].command(FAST)
    assert Path(command[0]).name == "scst-bridge"
    assert command[1:] == ("serve", "/tmp/b/scst.conf")


def test_configuration_turns_durability_off_or_leaves_the_default() -> None:
    assert scst_config(FAST).splitlines() == [
        "HANDLER vdisk_fileio {",
        "    DEVICE disk0 {",
        '        filename "/dev/shm/x.img"',
        "        blocksize 512",
        "    }",
        "}",
        "TARGET_DRIVER aoe {",
        "    interface t0",
        "    TARGET e1.1 {",
        "        LUN 0 disk0",
        "        durable 0",
        "        enabled 1",
        "    }",
        "}",
    ]
    off = [line for line in scst_config(FAST).splitlines() if "durable" not in line]
    assert scst_config(DURABLE).splitlines() == off


def test_reflector_is_told_the_mtu() -> None:
    command = BY_KEY["reflector"].command(replace(FAST, mtu=9000))
    assert command == (sys.executable, "-m", "tests.bench.aoe.reflector", "t0", "9000")


def test_server_without_a_disk_is_left_out_of_durable_cells() -> None:
    for cell in CELLS:
        keys = [server.key for server in SERVERS if server.takes(cell)]
        assert keys == (["ours", "vblade"] if cell.is_durable else list(BY_KEY))
