# SPDX-License-Identifier: GPL-2.0-or-later
"""The embedded default: one sparse disk, made at the first start and kept, behind every door."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import quote

from bridges.driver_attributes import NBD_PORT
from bridges.scst_conf import Location, Statement, Word, unparse

DISK_BYTES = 1 << 30
AOE_TARGET = "e0.0"

_HEADER = "# Written anew by each start of the demo; copy it to keep changes.\n"
_HERE = Location(__file__, 1)


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


def _statements(directory: Path, aoe_interface: str | None) -> list[Statement]:
    statements = [
        _section(
            "HANDLER vdisk_fileio",
            _section(
                "DEVICE disk0",
                _line("filename", str(directory / "disk0.img")),
                _line("thin_provisioned", "1"),
                _line("rotational", "0"),
            ),
        ),
        _driver(
            "nbd",
            "disk0",
            _line("listen", f"127.0.0.1:{NBD_PORT}"),
            _line("listen", f"unix:{directory / 'nbd.sock'}"),
        ),
        _driver("scst_local", "local", _line("socket", str(directory / "local.sock"))),
    ]
    if aoe_interface is not None:
        statements.append(_driver("aoe", AOE_TARGET, _line("interface", aoe_interface)))
    return statements


def _driver(name: str, target: str, *attributes: Statement) -> Statement:
    lun = _line("LUN", "0", "disk0")
    enabled = _line("enabled", "1")
    return _section(
        f"TARGET_DRIVER {name}", *attributes, _section(f"TARGET {target}", lun, enabled)
    )


def _line(*words: str) -> Statement:
    return Statement(tuple(Word(word, _HERE) for word in words), None, _HERE)


def _section(words: str, *block: Statement) -> Statement:
    return Statement(tuple(Word(word, _HERE) for word in words.split()), block, _HERE)


def instructions(directory: Path, aoe_interface: str | None) -> str:
    """What to type next."""
    nbd_socket = quote(str(directory.resolve() / "nbd.sock"))
    local_socket = shlex.quote(str(directory.resolve() / "local.sock"))
    lines = [
        "",
        f"Serving {directory / 'disk0.img'} (1 GiB, sparse, kept between runs). Try:",
        "",
        f"  nbdinfo nbd://127.0.0.1:{NBD_PORT}/disk0",
        f"  nbdinfo 'nbd+unix:///disk0?socket={nbd_socket}'",
        f"  qemu-img info nbd://127.0.0.1:{NBD_PORT}/disk0",
        "  nbd-client 127.0.0.1 -N disk0 /dev/nbd0 && mkfs.ext4 /dev/nbd0",
        f"  .venv/bin/scst-bridge cdb {local_socket} 0 12 00 00 00 60 00",
    ]
    if aoe_interface is not None:
        lines.append(
            f"  aoe-discover && aoe-stat     (on another host of {aoe_interface}'s network)"
        )
    return "\n".join([*lines, "", "Stop with Ctrl-C.", ""])
