# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's AoE target, seen by aoetools' own clients and by scapy on another host.

aoe-discover and aoe-stat need the kernel's driver, which tests/kernel has.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests.bridges.aoe.wired import Client
from tests.interop.netns import Network, veth_network, wait_until

_IMAGE_BYTES = 1 << 20
_CONF = """\
HANDLER vdisk_fileio {{
    DEVICE disk0 {{
        filename {image}
        usn serial-0001
        blocksize 512
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


@dataclass(frozen=True, slots=True)
class Site:
    """A daemon on one host, and the other host."""

    network: Network
    image: Path
    contents: bytes

    def tool(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of aoetools on the client's host; those wait for ever if not told otherwise."""
        if shutil.which(words[0]) is None:
            pytest.skip(f"needs {words[0]} (Debian package aoetools)")
        command = self.network.client.command("timeout", "20", *words)
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    def aoecfg(self, *options: str) -> str:
        """Run aoecfg on e1.1 and return what it shows."""
        done = self.tool("aoecfg", "-t", "1", *options, "1", "1", self.network.client.interface)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def run(self, scenario: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        """Run a scenario with a raw socket on the client's host."""
        client = Client(self.network.client, self.network.target.mac)
        try:
            asyncio.run(scenario(client))
        finally:
            client.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    program = Path(sys.executable).with_name("scst-bridge")
    if not program.exists():
        pytest.skip(f"needs the installed program {program}")
    folder = tmp_path_factory.mktemp("aoe")
    image, conf = folder / "disk0.img", folder / "scst.conf"
    contents = hashlib.shake_128(b"disk0").digest(_IMAGE_BYTES)
    image.write_bytes(contents)
    with veth_network() as network, (folder / "log").open("w+") as log:
        conf.write_text(_CONF.format(image=image, interface=network.target.interface))
        command = network.target.command(str(program), "serve", str(conf))
        with subprocess.Popen(command, stderr=log) as daemon:
            try:
                wait_until(lambda: daemon.poll() is not None or "ready" in _text(log), 30)
                assert daemon.poll() is None, _text(log)
                yield Site(network, image, contents)
            finally:
                daemon.terminate()
        assert daemon.returncode == 0, _text(log)


def _text(log: TextIO) -> str:
    return Path(log.name).read_text()


def test_aoeping_finds_the_target(site: Site) -> None:
    done = site.tool("aoeping", "-v", "-s", "5", "1", "1", site.network.client.interface)
    assert done.returncode == 0
    assert f"found e1.1 with mac {site.network.target.mac.hex()}" in done.stdout


def test_aoeping_finds_no_other_target(site: Site) -> None:
    done = site.tool("aoeping", "-s", "1", "1", "2", site.network.client.interface)
    assert done.returncode != 0


def test_aoeping_identifies_the_disk(site: Site) -> None:
    done = site.tool("aoeping", "-I", "-s", "5", "1", "1", site.network.client.interface)
    fields = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert {name: text.rstrip() for name, text in fields.items()} == {
        "vendor_specific_0": "0x0",
        "vendor_specific_1": "0x0",
        "vendor_specific_2": "0x0",
        "serial_number": "serial-0001",
        "firmware_rev": "0100",
        "model": "SCST_FIO disk0",
    }


def test_aoeping_reads_identify_data_whose_bytes_add_up_to_zero(site: Site) -> None:
    done = site.tool("aoeping", "-i", "-s", "5", "1", "1", site.network.client.interface)
    title, _, dump = done.stdout.partition("\n")
    data = bytes.fromhex(dump)
    assert title == "device identify response:"
    assert len(data) == 512
    assert sum(data) % 256 == 0
    assert int.from_bytes(data[200:208], "little") * 512 == _IMAGE_BYTES


def test_aoeping_reads_smart_data_whose_bytes_add_up_to_zero(site: Site) -> None:
    done = site.tool(
        *("aoeping", "-s", "5", "-S", "read_data", "1", "1", site.network.client.interface)
    )
    registers, _, dump = done.stdout.partition("SMART data:\n")
    fields = dict(line.split(":", 1) for line in registers.splitlines()[1:])
    assert (done.returncode, done.stderr) == (0, "")
    assert {name.strip(): int(text, 16) for name, text in fields.items()} == {
        "Features": 0,
        "Sector Count": 0,
        "LBA Low": 0,
        "LBA Mid": 0x4F,
        "LBA High": 0xC2,
        "Status": 0x40,
    }
    data = bytes.fromhex(dump)
    assert len(data) == 512
    assert sum(data) % 256 == 0


@pytest.mark.parametrize("command", ["return_status", "enable", "disable"])
def test_aoeping_is_content_with_smart_commands_without_data(site: Site, command: str) -> None:
    done = site.tool("aoeping", "-s", "5", "-S", command, "1", "1", site.network.client.interface)
    assert (done.returncode, done.stderr) == (0, "")


def test_aoecfg_reads_tests_and_changes_the_config_string(site: Site) -> None:
    assert site.aoecfg("-c", "fset", "-s", "") == "\n"
    assert site.aoecfg("-c", "set", "-s", "hello") == "hello\n"
    assert site.aoecfg("-c", "set", "-s", "world") == "*badcfg*\n"
    assert site.aoecfg("-c", "test", "-s", "hello") == "hello\n"
    assert site.aoecfg("-c", "test", "-s", "hell") == ""
    assert site.aoecfg("-c", "prefix", "-s", "hell") == "hello\n"
    assert site.aoecfg("-c", "prefix", "-s", "help") == ""
    assert site.aoecfg("-c", "fset", "-s", "other name") == "other name\n"
    assert site.aoecfg("-c", "read") == "other name\n"
    assert site.aoecfg("-c", "fset", "-s", "") == "\n"


def test_aoecfg_finds_the_target_without_its_address(site: Site) -> None:
    done = site.tool("aoecfg", "-t", "1", site.network.client.interface)
    assert done.returncode == 0
    assert done.stdout.startswith("1.1\t")


def sancheck(site: Site) -> list[str]:
    """The line of aoe-sancheck about e1.1: address, paths, bytes of data in a frame, interface."""
    done = site.tool("aoe-sancheck", site.network.client.interface)
    assert done.returncode == 0
    return done.stdout.splitlines()[-1].split()


def test_aoe_sancheck_reaches_the_target_with_full_frames(site: Site) -> None:
    assert sancheck(site) == ["e1.1", "1", "1024", "c0"]


def test_aoe_sancheck_reaches_the_target_with_jumbo_frames(site: Site) -> None:
    site.network.set_mtu(9000)
    try:
        wait_until(lambda: sancheck(site) == ["e1.1", "1", "8192", "c0"], 30)
    finally:
        site.network.set_mtu(1500)
        wait_until(lambda: sancheck(site) == ["e1.1", "1", "1024", "c0"], 30)


def test_data_read_are_the_image(site: Site) -> None:
    async def scenario(client: Client) -> None:
        read = bytearray()
        for lba in range(0, _IMAGE_BYTES // 512, 2):
            reply = await client.exchange(client.ata(0x24, lba, 2, tag=lba))
            assert reply["AOE"].tag == lba
            assert bytes(reply)[24:28] == bytes.fromhex("40 00 00 40")
            read += bytes(reply)[36:]
        assert read == site.image.read_bytes()

    site.run(scenario)


def test_written_data_are_in_the_file_when_the_reply_comes(site: Site) -> None:
    async def scenario(client: Client) -> None:
        for opcode, lba, mark in ((0x34, 100, b"e"), (0x30, 104, b"s"), (0x3D, 108, b"f")):
            reply = await client.exchange(client.ata(opcode, lba, 2, mark * 1024))
            assert bytes(reply)[24:28] == bytes.fromhex("41 00 00 40")
            stored = site.image.read_bytes()[(lba - 1) * 512 : (lba + 3) * 512]
            assert stored[512:1536] == mark * 1024
            assert stored[:512] + stored[1536:] == (
                site.contents[(lba - 1) * 512 : lba * 512]
                + site.contents[(lba + 2) * 512 : (lba + 3) * 512]
            )

    site.run(scenario)


def test_flush_succeeds(site: Site) -> None:
    async def scenario(client: Client) -> None:
        for opcode in (0xE7, 0xEA):
            reply = await client.exchange(client.ata(opcode, count=0))
            assert bytes(reply)[24:28] == bytes.fromhex("40 00 00 40")

    site.run(scenario)


def test_past_the_end_there_is_no_sector(site: Site) -> None:
    async def scenario(client: Client) -> None:
        end = _IMAGE_BYTES // 512
        for request in (
            client.ata(0x24, end - 1, 2),
            client.ata(0x24, end, 1),
            client.ata(0x34, end - 1, 2, b"x" * 1024),
        ):
            reply = await client.exchange(request)
            # ERR and IDNF; no data, and no AoE error, which would only make Linux try again.
            assert bytes(reply)[14:16] == bytes.fromhex("18 00")
            assert (bytes(reply)[25], bytes(reply)[27]) == (0x10, 0x41)
            assert len(bytes(reply)) == 60
        assert site.image.stat().st_size == _IMAGE_BYTES
        assert site.image.read_bytes()[-512:] == site.contents[-512:]

    site.run(scenario)
