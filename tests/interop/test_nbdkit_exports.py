# SPDX-License-Identifier: GPL-2.0-or-later
"""Our plugin's exports as clients find them, and nbdkit itself as people start it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.bridges.daemon_process import daemon, until
from tests.bridges.nbd.client import Client
from tests.interop.doors import NbdkitProcess, Tools, program

MIB = 1 << 20
_CONF = """\
HANDLER vdisk_fileio {{
    DEVICE system {{
        filename "{folder}/system.img"
        usn 1111
    }}
    DEVICE scratch {{
        filename "{folder}/scratch.img"
        usn 2222
        blocksize 4096
        thin_provisioned 1
    }}
}}
TARGET_DRIVER scst_local {{
    socket "{folder}/local.sock"
    TARGET host {{
        LUN 0 system
        LUN 5 scratch
        enabled 1
    }}
}}
"""


@pytest.fixture
def local_socket(tmp_path: Path) -> Iterator[Path]:
    """The local socket of a daemon with one target of two disks."""
    (tmp_path / "system.img").write_bytes(b"system".ljust(MIB, b"\0"))
    (tmp_path / "scratch.img").write_bytes(b"scratch".ljust(2 * MIB, b"\0"))
    conf = tmp_path / "scst.conf"
    conf.write_text(_CONF.format(folder=tmp_path))
    with daemon(conf):
        yield tmp_path / "local.sock"


@pytest.fixture
def nbdkit(tmp_path: Path, local_socket: Path) -> Iterator[NbdkitProcess]:
    """nbdkit as a client of the daemon, without a device."""
    with NbdkitProcess(tmp_path / "p.sock", [f"socket={local_socket}"]) as process:
        yield process


def _exports(tools: Tools, uri: str) -> dict[str, tuple[str, int, int]]:
    """Description, size and block size of the exports in the list, by name."""
    listed = tools.run_json("nbdinfo", "--list", "--json", uri)["exports"]
    return {
        export["export-name"]: (
            export["description"],
            export["export-size"],
            export["block_size_minimum"],
        )
        for export in listed
    }


def _named(process: NbdkitProcess, name: str) -> str:
    return process.uri.replace("///", f"///{quote(name, safe='')}")


def test_the_luns_of_the_daemon_are_listed(tools: Tools, nbdkit: NbdkitProcess) -> None:
    assert _exports(tools, nbdkit.uri) == {
        "": ("SCST_FIO system 1111", MIB, 512),
        "/5": ("SCST_FIO scratch 2222", 2 * MIB, 4096),
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("", b"system"),
        ("host", b"system"),
        ("system", b"system"),
        ("/5", b"scratch"),
        ("host/5", b"scratch"),
        ("scratch", b"scratch"),
    ],
)
def test_the_name_of_the_export_chooses_the_disk(
    nbdkit: NbdkitProcess, name: str, content: bytes
) -> None:
    with Client(nbdkit.connect()) as client:
        assert client.begin(name).read(0, 4096).rstrip(b"\0") == content


@pytest.mark.parametrize("name", ["other", "/1", "host/1", "host/x"])
def test_names_of_nothing_are_refused(tools: Tools, nbdkit: NbdkitProcess, name: str) -> None:
    done = tools.try_run("nbdinfo", _named(nbdkit, name))
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert tools.run("nbdinfo", "--size", nbdkit.uri) == f"{MIB}\n"


def test_a_device_is_the_only_export(tools: Tools, local_socket: Path, tmp_path: Path) -> None:
    parameters = [f"socket={local_socket}", "device=scratch"]
    with NbdkitProcess(tmp_path / "p.sock", parameters) as nbdkit:
        expected = {"scratch": ("SCST_FIO scratch 2222", 2 * MIB, 4096)}
        assert _exports(tools, nbdkit.uri) == expected
        for name in ("", "scratch"):
            assert tools.run("nbdinfo", "--size", _named(nbdkit, name)) == f"{2 * MIB}\n"
        assert tools.try_run("nbdinfo", _named(nbdkit, "system")).returncode == 1


def test_a_file_is_the_only_export(tools: Tools, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(MIB))
    with NbdkitProcess(tmp_path / "p.sock", [str(image), "prod_id=rescue", "usn=3"]) as nbdkit:
        assert _exports(tools, nbdkit.uri) == {"disk0": ("SCST_FIO rescue 3", MIB, 512)}
        for name in ("", "disk0"):
            assert tools.run("nbdinfo", "--size", _named(nbdkit, name)) == f"{MIB}\n"
        assert tools.try_run("nbdinfo", _named(nbdkit, "disk1")).returncode == 1


@pytest.mark.parametrize("name", ["", "/5"])
def test_holes_are_mapped(tools: Tools, nbdkit: NbdkitProcess, tmp_path: Path, name: str) -> None:
    (tmp_path / "scratch.img").write_bytes(b"")
    with (tmp_path / "scratch.img").open("r+b") as file:
        file.truncate(2 * MIB)
        file.seek(MIB)
        file.write(b"x" * 65536)
    found = tools.run_json("nbdinfo", "--map", "--json", _named(nbdkit, name))
    shape = [(extent["offset"], extent["length"], extent["type"]) for extent in found]
    if name:
        assert shape == [(0, MIB, 3), (MIB, 65536, 0), (MIB + 65536, MIB - 65536, 3)]
    else:
        # A thick disk has no holes, whatever its file has.
        assert shape == [(0, MIB, 0)]
    mapped = tools.run_json("qemu-img", "map", "--output=json", "-f", "raw", _named(nbdkit, name))
    assert [(each["start"], each["length"]) for each in mapped if each["data"]] == [
        (start, length) for start, length, kind in shape if kind == 0
    ]


def test_nbdcopy_skips_holes_and_keeps_them(tools: Tools, tmp_path: Path) -> None:
    for name in ("from", "to"):
        with (tmp_path / f"{name}.img").open("wb") as file:
            file.truncate(64 * MIB)
            if name == "from":
                file.seek(32 * MIB)
                file.write(b"data" * 4096)
    parameters = ["thin_provisioned=1"]
    with (
        NbdkitProcess(tmp_path / "f.sock", [str(tmp_path / "from.img"), *parameters]) as source,
        NbdkitProcess(tmp_path / "t.sock", [str(tmp_path / "to.img"), *parameters]) as target,
    ):
        tools.run("nbdcopy", "--flush", source.uri, target.uri)
    assert (tmp_path / "to.img").read_bytes() == (tmp_path / "from.img").read_bytes()
    assert (tmp_path / "to.img").stat().st_blocks * 512 <= MIB


def _is_refused(path: Path) -> bool:
    """Whether nobody listens on a socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def test_nbdkit_in_the_background(tools: Tools) -> None:
    image, path = tools.path("disk.img"), tools.path("nbd.sock")
    image.write_bytes(b"first".ljust(MIB, b"\0"))
    options = ["-U", str(path), "-P", str(tools.path("pid")), "--filter=exitlast"]
    # A relative path, from a folder that nbdkit leaves.
    tools.run(program(), "nbdkit", *options, "--", "disk.img")
    number = int(tools.path("pid").read_text())
    try:
        uri = f"nbd+unix:///?socket={path}"
        tools.run("qemu-io", "-f", "raw", "-c", "write -P 0x61 0 512", "-c", "flush", uri)
        until(lambda: _is_refused(path), "nbdkit ends with its last client")
    finally:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    assert image.read_bytes() == (b"a" * 512).ljust(MIB, b"\0")


@pytest.mark.parametrize("parameter", ["missing.img", "."])
def test_what_cannot_be_opened_is_the_exit_status_of_who_started_it(
    tools: Tools, parameter: str
) -> None:
    done = tools.try_run(program(), "nbdkit", "-U", "nbd.sock", "--", parameter)
    assert done.returncode == 1
    assert f"'{tools.folder / parameter}'" in done.stderr
    assert len(done.stderr.splitlines()) <= 5


def test_the_plugin_says_what_it_is(tools: Tools) -> None:
    shown = tools.run(program(), "nbdkit", "--dump-plugin")
    facts = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    assert facts["scst_bridge_modes"] == "file socket"
    assert facts["scst_bridge_socket_parameters"] == "socket device"
    assert "thin_provisioned" in facts["scst_bridge_file_parameters"].split()


def test_help_is_ours_and_leads_to_nbdkit_s(tools: Tools) -> None:
    shown = tools.run(program(), "nbdkit", "--help")
    for words in ("file=DISK", "socket=PATH", "thin_provisioned=", "nbdkit --help"):
        assert words in shown
