# SPDX-License-Identifier: GPL-2.0-or-later
"""What frames have made of a target outlives the daemon, as aoecfg and a raw socket see it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridges.exchange import Request
from bridges.local.client import LocalClient
from scsi_backend.t10.status import Status
from tests.bridges.aoe.wired import Client
from tests.interop.netns import Network, veth_network, wait_until
from tests.scsi_backend import cdbs

_CONF = """\
HANDLER vdisk_nullio {{
    DEVICE disk0 {{
        size_mb 1
    }}
}}
TARGET_DRIVER scst_local {{
    socket {folder}/local.sock
    TARGET local {{
        LUN 0 disk0
        enabled 1
    }}
}}
TARGET_DRIVER aoe {{
    interface {interface}
    state_directory {state}
    TARGET e1.1 {{
        LUN 0 disk0
        enabled 1
        {extra}
    }}
}}
"""
_ABSENT = "0200000000aa"


@dataclass(frozen=True, slots=True)
class _Site:
    """Two hosts, and a folder for configuration, state and log."""

    network: Network
    folder: Path

    @property
    def state(self) -> Path:
        """The file of e1.1."""
        return self.folder / "state" / "e1.1.json"

    def start(self, extra: str = "") -> subprocess.Popen[bytes]:
        """Start a daemon; it has ended if it is not ready."""
        conf, log = self.folder / "scst.conf", self.folder / "log"
        interface, state = self.network.target.interface, self.state.parent
        conf.write_text(
            _CONF.format(folder=self.folder, interface=interface, state=state, extra=extra)
        )
        program = Path(sys.executable).with_name("scst-bridge")
        with log.open("wb") as stderr:
            command = self.network.target.command(str(program), "serve", str(conf))
            daemon = subprocess.Popen(command, stderr=stderr)
        wait_until(lambda: daemon.poll() is not None or "ready" in log.read_text(), 30)
        return daemon

    @contextmanager
    def running(self, *, is_killed: bool = False, extra: str = "") -> Iterator[None]:
        """A daemon that is ended, or killed without warning."""
        daemon = self.start(extra)
        try:
            assert daemon.poll() is None, (self.folder / "log").read_text()
            yield
        finally:
            if is_killed:
                # The whole of `ip netns exec` has become the daemon.
                daemon.kill()
            else:
                daemon.terminate()
            daemon.wait(30)

    def ask(self, argument: str, command: int) -> bytes:
        """Send a frame of another command than Issue ATA; return what follows the tag."""

        async def exchange(client: Client) -> bytes:
            mac, own = client.target_mac.hex(), client.mac.hex()
            head = f"{mac} {own} 88a2 10 00 0001 01 {command:02x} 12345678"
            await client.send(bytes.fromhex(f"{head} {argument}"))
            while True:
                reply = bytes(await client.receive())
                if reply[20:24] == bytes.fromhex("12345678"):
                    assert reply[14:16] == b"\x18\0"
                    return reply[24:]

        return self._run(exchange)

    def read_locally(self) -> int:
        """Read a block through the local door; return the SCSI status."""
        with LocalClient.connect(str(self.folder / "local.sock"), "local") as client:
            client.execute(Request(cdbs.TEST_UNIT_READY))
            data = memoryview(bytearray(512))
            return client.execute(Request(cdbs.block(cdbs.READ, 10, 0, 1), data_in=data)).status

    def _run(self, scenario: Callable[[Client], Coroutine[Any, Any, bytes]]) -> bytes:
        client = Client(self.network.client, self.network.target.mac)
        try:
            return asyncio.run(scenario(client))
        finally:
            client.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[_Site]:
    program = Path(sys.executable).with_name("scst-bridge")
    if not program.exists():
        pytest.skip(f"needs the installed program {program}")
    with veth_network() as network:
        yield _Site(network, tmp_path)


@pytest.mark.parametrize("is_killed", [False, True], ids=["ended", "killed"])
def test_all_three_lists_survive(site: _Site, is_killed: bool) -> None:
    own = site.network.client.mac.hex()
    with site.running(is_killed=is_killed):
        site.ask("0000 0000 00 04 0003 616263", 1)
        site.ask(f"00 01 00 02 00 01 {own} 00 01 {_ABSENT}", 2)
        site.ask(f"01 02 {own} {_ABSENT}", 3)
    stored = json.loads(site.state.read_text())
    assert (stored["config_string"], len(stored["mask_list"])) == ("616263", 2)
    with site.running():
        assert site.ask("0000 0000 00 00 0000", 1)[6:11] == bytes.fromhex("0003 616263")
        mask = bytes.fromhex(f"00 00 00 02 00 00 {own} 00 00 {_ABSENT}")
        assert site.ask("00 00 00 00", 2)[: len(mask)] == mask
        reserve = bytes.fromhex(f"00 02 {own} {_ABSENT}")
        assert site.ask("00 00", 3)[: len(reserve)] == reserve


def test_a_list_that_was_kept_holds_at_the_other_doors_from_the_start(site: _Site) -> None:
    own = site.network.client.mac.hex()
    with site.running():
        assert site.read_locally() == Status.GOOD
        site.ask(f"01 01 {own}", 3)
    for release in (False, True):
        with site.running():
            assert site.read_locally() == Status.RESERVATION_CONFLICT
            if release:
                site.ask("01 00", 3)
                assert site.read_locally() == Status.GOOD


def test_a_damaged_file_keeps_the_daemon_from_starting(site: _Site) -> None:
    with site.running():
        site.ask("0000 0000 00 04 0003 616263", 1)
    text = site.state.read_text()
    site.state.write_text(text[: len(text) // 2])
    daemon = site.start()
    try:
        assert daemon.wait(30) == 1
    finally:
        daemon.kill()
    assert f"target e1.1: {site.state}: " in (site.folder / "log").read_text()
    # Nor is it overwritten.
    assert site.state.read_text() == text[: len(text) // 2]
