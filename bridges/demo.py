# SPDX-License-Identifier: GPL-2.0-or-later
"""The embedded default: one sparse disk, made at the first start and kept, behind every door."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from bridges.driver_attributes import NBD_PORT
from bridges.nbd.uri import tcp_uri, unix_uri
from bridges.scst_conf import Location, Statement, unparse
from bridges.statements import Builder

DISK_BYTES = 1 << 30
AOE_TARGET = "e0.0"

_HEADER = "# Written anew by each start of the demo; copy it to keep changes.\n"
_build = Builder(Location(__file__, 1))


def prepare(directory: Path, aoe_interface: str | None) -> Path:
    """Make the folder, the disk unless it exists, and the configuration; return the latter."""
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    image = directory / "disk0.img"
    if not image.exists():
        # Complete or not there at all: a half-made disk would be taken for a kept one.
        fresh = image.with_suffix(".new")
        with fresh.open("wb") as file:
            file.truncate(DISK_BYTES)
            os.fsync(file.fileno())
        fresh.rename(image)
        _sync_folder(directory)
    conf = directory / "scst.conf"
    conf.write_text(_HEADER + unparse(tuple(_statements(directory, aoe_interface))))
    return conf


def _sync_folder(directory: Path) -> None:
    """Make a rename in a folder survive a power failure."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def control_path(directory: Path) -> Path:
    """Where the demo's control socket is."""
    return directory.resolve() / "control.sock"


def _statements(directory: Path, aoe_interface: str | None) -> list[Statement]:
    device = _build.section(
        ("DEVICE", "disk0"),
        _build.line("filename", str(directory / "disk0.img")),
        _build.line("thin_provisioned", "1"),
        _build.line("rotational", "0"),
    )
    local_socket = _build.line("socket", str(directory / "local.sock"))
    statements = [
        _build.section(("HANDLER", "vdisk_fileio"), device),
        _build.driver(
            "nbd",
            "disk0",
            "disk0",
            _build.line("listen", f"127.0.0.1:{NBD_PORT}"),
            _build.line("listen", f"unix:{directory / 'nbd.sock'}"),
        ),
        _build.driver("scst_local", "local", "disk0", local_socket),
    ]
    if aoe_interface is not None:
        interface = _build.line("interface", aoe_interface)
        state = _build.line("state_directory", str(directory / "aoe"))
        statements.append(_build.driver("aoe", AOE_TARGET, "disk0", interface, state))
    return statements


def instructions(directory: Path, aoe_interface: str | None) -> str:
    """What to type next."""
    nbd = tcp_uri("127.0.0.1", NBD_PORT, "disk0")
    nbd_unix = unix_uri(str(directory.resolve() / "nbd.sock"), "disk0")
    local_socket = shlex.quote(str(directory.resolve() / "local.sock"))
    lines = [
        "",
        f"Serving {directory / 'disk0.img'} (1 GiB, sparse, kept between runs). Try:",
        "",
        f"  nbdinfo {nbd}",
        f"  nbdinfo '{nbd_unix}'",
        f"  qemu-img info {nbd}",
        "  nbd-client 127.0.0.1 -N disk0 /dev/nbd0 && mkfs.ext4 /dev/nbd0",
        f"  .venv/bin/scst-bridge cdb {local_socket} 0 12 00 00 00 60 00",
        f"  .venv/bin/scst-bridge status --control {shlex.quote(str(control_path(directory)))}",
    ]
    if aoe_interface is not None:
        lines.append(
            f"  aoe-discover && aoe-stat     (on another host of {aoe_interface}'s network)"
        )
    return "\n".join([*lines, "", "Stop with Ctrl-C.", ""])
