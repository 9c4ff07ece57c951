# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that has grown while nobody has it open is announced at SIGHUP, as Linux needs it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bridges.aoe.wired import Client
from tests.interop.netns import Network, veth_network, wait_until

_CONF = """\
HANDLER vdisk_fileio {{
    DEVICE disk0 {{
        filename {image}
    }}
}}
TARGET_DRIVER aoe {{
    interface {interface}
    TARGET e1.1 {{
        LUN 0 disk0
        enabled 1
    }}
}}
"""


@contextmanager
def _daemon(network: Network, image: Path) -> Iterator[subprocess.Popen[bytes]]:
    conf, log = image.with_name("scst.conf"), image.with_name("log")
    conf.write_text(_CONF.format(image=image, interface=network.target.interface))
    program = Path(sys.executable).with_name("scst-bridge")
    if not program.exists():
        pytest.skip(f"needs the installed program {program}")
    with log.open("wb") as stderr:
        command = network.target.command(str(program), "serve", str(conf))
        daemon = subprocess.Popen(command, stderr=stderr)
    try:
        wait_until(lambda: daemon.poll() is not None or "ready" in log.read_text(), 30)
        assert daemon.poll() is None, log.read_text()
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait(30)


def test_a_disk_that_has_grown_is_announced_without_any_command(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.touch()
    os.truncate(image, 1 << 20)

    async def scenario(daemon: subprocess.Popen[bytes], client: Client) -> tuple[bytes, bytes]:
        os.truncate(image, 2 << 20)
        # The whole of `ip netns exec` has become the daemon.
        daemon.send_signal(signal.SIGHUP)
        announcement = bytes(await client.receive())
        identified = bytes(await client.exchange(client.ata(0xEC)))
        return announcement, identified

    with veth_network() as network, _daemon(network, image) as daemon:
        client = Client(network.client, network.target.mac)
        try:
            announcement, identified = asyncio.run(scenario(daemon, client))
        finally:
            client.close()
    # To everybody, a reply without the tag of any request: Query Config.
    assert announcement[:6] == b"\xff" * 6
    assert (announcement[14], announcement[19], announcement[20:24]) == (0x18, 1, bytes(4))
    assert identified[36 + 200 : 36 + 208] == (4096).to_bytes(8, "little")
