# SPDX-License-Identifier: GPL-2.0-or-later
"""``scst-bridge aoe`` on one host, asking the daemon and vblade on another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop.netns import Network, veth_network, wait_until

OURS: Final = "e1.1"
FIXED: Final = "e1.2"
VBLADE: Final = "e7.1"
OTHER: Final = "02:00:00:00:00:07"
_IMAGE_BYTES: Final = 3 << 20
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
    TARGET e1.2 {{
        LUN 0 disk0
        in_band_editing 0
        enabled 1
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Two servers on one host, and the clients' host."""

    network: Network

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a client: its name, and what follows the interface."""
        name, *rest = words
        return self.run_on(self.network.client.interface, name, *rest)

    def run_on(self, interface: str, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a client on any interface of the clients' host."""
        command = self.network.client.command(_program(), "aoe", name, interface, *words)
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def tell(self, *words: str) -> str:
        """What a client says that succeeds."""
        done = self.run(*words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.rstrip("\n")

    def refuse(self, *words: str) -> str:
        """What a client says that is refused."""
        done = self.run(*words)
        assert (done.returncode, done.stdout) == (2, "")
        return done.stderr.rstrip("\n")

    @property
    def own_mac(self) -> str:
        """The clients' MAC address."""
        return self.network.client.mac.hex(":")


def _program() -> str:
    program = Path(sys.executable).with_name("scst-bridge")
    if not program.exists():
        pytest.skip(f"needs the installed program {program}")
    return str(program)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if shutil.which("vblade") is None:
        pytest.skip("needs vblade (Debian package vblade)")
    folder = tmp_path_factory.mktemp("aoe-clients")
    with ExitStack() as stack:
        network = stack.enter_context(veth_network())
        host = network.target
        for name in ("ours", "vblade"):
            with (folder / f"{name}.img").open("wb") as image:
                image.truncate(_IMAGE_BYTES)
        conf = folder / "scst.conf"
        conf.write_text(_CONF.format(image=folder / "ours.img", interface=host.interface))
        for words in (
            (_program(), "serve", str(conf), "--control", str(folder / "control.sock")),
            ("vblade", "7", "1", host.interface, str(folder / "vblade.img")),
        ):
            log = stack.enter_context((folder / Path(words[0]).name).open("w"))
            server = subprocess.Popen(host.command(*words), stdout=log, stderr=log)
            stack.enter_context(server)
            stack.callback(server.terminate)
        made = Site(network)
        wait_until(lambda: len(_found(made)) == 3, 60)
        yield made


def _found(site: Site) -> list[dict[str, Any]]:
    """What discover finds, in its own words for programs."""
    shown: list[dict[str, Any]] = json.loads(site.run("discover", "--json").stdout)
    return shown


def test_discover_lists_every_target(site: Site) -> None:
    mac = site.network.target.mac.hex(":")
    lines = [line.split() for line in site.tell("discover").splitlines()]
    assert lines[0] == ["target", "MAC", "buffers", "sectors", "firmware", "config", "string"]
    assert [(line[0], line[1], line[3]) for line in lines[1:]] == [
        (OURS, mac, "2"),
        (FIXED, mac, "2"),
        (VBLADE, mac, "2"),
    ]
    vblade = _found(site)[2]
    assert vblade == {
        "target": VBLADE,
        "mac": mac,
        "shelf": 7,
        "slot": 1,
        "buffer_count": 16,
        "sector_count": 2,
        "firmware_version": 0x4019,
        "config_string": "",
        "config_string_hex": "",
    }


def test_identify_shows_both_disks(site: Site) -> None:
    ours = json.loads(site.tell("identify", OURS, "--json"))
    assert (ours["model"], ours["serial_number"]) == ("SCST_FIO disk0", "serial-0001")
    assert ours["has_valid_checksum"] is True
    vblade = json.loads(site.tell("identify", VBLADE, "--json"))
    assert vblade["model"] == "Coraid EtherDrive vblade"
    assert ours["size_bytes"] == vblade["size_bytes"] == _IMAGE_BYTES
    shown = site.tell("identify", OURS).splitlines()
    assert shown[0] == f"{OURS} at {site.network.target.mac.hex(':')}"
    assert "  capacity:         6144 sectors of 512 bytes, 3.0 MiB" in shown


def test_identify_dumps_the_data(site: Site) -> None:
    lines = site.tell("identify", OURS, "--raw").splitlines()
    assert len(lines) == 32
    assert lines[0].startswith("00000000  40 00 ")
    assert lines[-1].startswith("000001f0  ")


@pytest.mark.parametrize("target", [OURS, VBLADE])
def test_config_reads_tests_and_changes_the_string(site: Site, target: str) -> None:
    assert site.tell("config", target) == ""
    assert site.tell("config", target, "set", "hello") == "hello"
    assert site.tell("config", target, "set", "hello") == "hello"
    assert site.tell("config", target, "get") == "hello"
    assert site.refuse("config", target, "set", "other") == (
        f"{target}: config string present (AoE error 4): 'hello'"
    )
    assert site.tell("config", target, "test", "hello") == "hello"
    assert site.refuse("config", target, "test", "hell", "--timeout", "0.5") == (
        f"{target}: the config string is 'hello': it is not 'hell'"
    )
    assert site.tell("config", target, "prefix", "hell") == "hello"
    assert "does not begin with 'help'" in (
        site.refuse("config", target, "prefix", "help", "--timeout", "0.5")
    )
    assert json.loads(site.tell("config", target, "force", "größe", "--json")) == {
        "target": target,
        "mac": site.network.target.mac.hex(":"),
        "config_string": "größe",
        "config_string_hex": "größe".encode().hex(),
    }
    assert site.tell("config", target, "force", "") == ""


@pytest.mark.parametrize("target", [OURS, VBLADE])
def test_reserve_takes_gives_away_and_takes_back(site: Site, target: str) -> None:
    own = site.own_mac
    assert site.tell("reserve", target) == f"{target} is not reserved"
    assert site.tell("reserve", target, "set", "self", OTHER) == f"{own}\n{OTHER}"
    assert site.tell("reserve", target, "set", OTHER) == OTHER
    for words in (("set", "self"), ("release",)):
        assert site.refuse("reserve", target, *words) == (
            f"{target}: target is reserved (AoE error 6): by {OTHER}"
        )
    # AoEr11 lets everybody identify a reserved target.
    assert site.tell("identify", target).startswith(f"{target} at ")
    assert site.tell("reserve", target, "force", "self") == own
    assert json.loads(site.tell("reserve", target, "--json"))["reserved_by"] == [own]
    assert site.tell("reserve", target, "release") == f"{target} is not reserved"


def test_mask_shuts_out_who_is_not_in_it(site: Site) -> None:
    own = site.own_mac
    assert site.tell("mask", OURS) == f"{OURS} answers every host"
    assert site.tell("mask", OURS, "add", "self", OTHER) == f"{own}\n{OTHER}"
    assert site.tell("mask", OURS, "delete", OTHER) == own
    assert json.loads(site.tell("mask", OURS, "--json"))["mask"] == [own]
    assert site.tell("mask", OURS, "delete", "self") == f"{OURS} answers every host"
    done = site.run("mask", OURS, "add", OTHER)
    assert (done.returncode, done.stdout) == (0, f"{OTHER}\n")
    assert done.stderr == f"from now on {OURS} does not answer this host\n"
    hidden = site.run("mask", OURS, "--timeout", "0.5")
    assert (hidden.returncode, hidden.stdout) == (1, "")
    assert f"its MAC mask list lacks {own}" in hidden.stderr
    assert [found["target"] for found in _found(site)] == [FIXED, VBLADE]
    # The host comes back under the name that it gave away.
    with_mac(site, OTHER)
    try:
        assert site.tell("mask", OURS, "delete", "self") == f"{OURS} answers every host"
    finally:
        with_mac(site, own)


def with_mac(site: Site, mac: str) -> None:
    """Give the clients' host another address."""
    site.network.client.set_link("address", mac)
    wait_until(lambda: site.network.client.is_running)


def test_mask_edits_vblade_s_list(site: Site) -> None:
    own = site.own_mac
    assert site.tell("mask", VBLADE) == f"{VBLADE} answers every host"
    assert site.tell("mask", VBLADE, "add", "self", OTHER) == f"{own}\n{OTHER}"
    # It would end at a delete.
    assert site.tell("mask", VBLADE) == f"{own}\n{OTHER}"


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("config", FIXED, "force", "x"), "Query Config Information"),
        (("reserve", FIXED, "set", "self"), "Reserve/Release"),
        (("mask", FIXED, "add", "self"), "MAC Mask List"),
    ],
)
def test_a_target_may_refuse_every_change(site: Site, words: tuple[str, ...], command: str) -> None:
    assert site.refuse(*words) == f"{FIXED}: {command}: bad argument parameter (AoE error 2)"
    assert site.run(words[0], FIXED, "get").returncode == 0


def test_silence_is_exit_status_1(site: Site) -> None:
    done = site.run("identify", "e9.9", "--timeout", "0.5")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no answer from e9.9 within 0.5 s: ")


def test_an_empty_network_is_exit_status_1() -> None:
    with veth_network() as network:
        done = Site(network).run("discover", "--timeout", "0.2", "--json")
        assert (done.returncode, done.stdout) == (1, "[]\n")
        assert done.stderr == "c0: no target answered within 0.2 s\n"


def test_who_may_not_send_frames_is_told(site: Site) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (Debian package util-linux)")
    client = ("setpriv", "--bounding-set=-net_raw", _program(), "aoe", "discover", "c0")
    done = subprocess.run(
        site.network.client.command(*client), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "c0: needs root (CAP_NET_RAW) to send Ethernet frames\n"
