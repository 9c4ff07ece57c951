# SPDX-License-Identifier: GPL-2.0-or-later
"""nbdcopy moves 64 MiB through every door, in and out; bytes stay the same, and holes are holes."""

from __future__ import annotations

import filecmp
import random
from pathlib import Path

import pytest

from tests.interop.doors import DISK_BYTES, MIB, NbdDoor, Tools

FOUR_CONNECTIONS = ["--connections=4", "--threads=4", "--requests=16"]
# Where a file has data, holes are no shorter than this.
UNIT = 64 << 10
# Two pieces of data, and what file systems need for themselves.
STORED_BYTES = 4 * UNIT


def _is_same(one: Path, other: Path) -> bool:
    return filecmp.cmp(one, other, shallow=False)


def test_nbdcopy_in_and_out(tools: Tools, door: NbdDoor, random_file: Path) -> None:
    tools.run("nbdcopy", "--flush", str(random_file), door.uri)
    assert _is_same(random_file, door.image)
    tools.run("nbdcopy", door.uri, "out")
    assert _is_same(random_file, tools.path("out"))


def _stored_bytes(path: Path) -> int:
    # stat(2): the unit is 512 bytes on any file system.
    return path.stat().st_blocks * 512


@pytest.mark.parametrize(
    "options",
    [
        ["--connections=1", "--requests=1", "--request-size=33554432"],
        ["--connections=4", "--threads=4", "--requests=64"],
        ["--connections=8", "--threads=2", "--requests=16", "--request-size=65536"],
        ["--synchronous"],
    ],
    ids=" ".join,
)
def test_nbdcopy_however_it_is_asked_to(
    tools: Tools, unix_door: NbdDoor, random_file: Path, options: list[str]
) -> None:
    tools.run("nbdcopy", "/dev/null", unix_door.uri)
    tools.run("nbdcopy", *options, str(random_file), unix_door.uri)
    assert _is_same(random_file, unix_door.image)
    tools.run("nbdcopy", *options, unix_door.uri, "out")
    assert _is_same(random_file, tools.path("out"))


def test_nbdcopy_from_one_export_to_another(
    tools: Tools, unix_door: NbdDoor, random_file: Path
) -> None:
    blocks4k = unix_door.export("disk/7")
    tools.run("nbdcopy", str(random_file), unix_door.uri)
    tools.run("nbdcopy", unix_door.uri, blocks4k.uri)
    assert _is_same(random_file, blocks4k.image)


@pytest.fixture
def sparse_file(tools: Tools) -> Path:
    """As long as a disk, with some data in two places."""
    path = tools.path("sparse")
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
        for offset in (10 * MIB, DISK_BYTES - UNIT):
            file.seek(offset)
            file.write(random.Random(offset).randbytes(UNIT))
    return path


@pytest.mark.parametrize("options", [[], FOUR_CONNECTIONS], ids=" ".join)
def test_nbdcopy_keeps_holes_both_ways(
    tools: Tools, door: NbdDoor, random_file: Path, sparse_file: Path, options: list[str]
) -> None:
    tools.run("nbdcopy", str(random_file), door.uri)
    tools.run("nbdcopy", *options, str(sparse_file), door.uri)
    assert _is_same(sparse_file, door.image)
    assert _stored_bytes(door.image) <= STORED_BYTES
    tools.run("nbdcopy", *options, door.uri, "out")
    assert _is_same(sparse_file, tools.path("out"))
    assert _stored_bytes(tools.path("out")) <= STORED_BYTES


@pytest.mark.parametrize("options", [[], FOUR_CONNECTIONS], ids=" ".join)
def test_nbdcopy_keeps_holes_from_one_export_to_another(
    tools: Tools, daemon_door: NbdDoor, random_file: Path, sparse_file: Path, options: list[str]
) -> None:
    source, target = daemon_door.export("sparse"), daemon_door
    tools.run("nbdcopy", str(random_file), target.uri)
    tools.run("nbdcopy", str(sparse_file), source.uri)
    assert _stored_bytes(source.image) <= STORED_BYTES
    tools.run("nbdcopy", *options, source.uri, target.uri)
    assert _is_same(sparse_file, target.image)
    assert _stored_bytes(target.image) <= STORED_BYTES


def test_nbdcopy_allocates_what_it_is_told_to(
    tools: Tools, door: NbdDoor, sparse_file: Path
) -> None:
    tools.run("nbdcopy", "--allocated", str(sparse_file), door.uri)
    assert _is_same(sparse_file, door.image)
    assert _stored_bytes(door.image) >= DISK_BYTES


def test_nbdcopy_to_a_read_only_export_fails_and_changes_nothing(
    tools: Tools, unix_door: NbdDoor, random_file: Path
) -> None:
    frozen = unix_door.export("frozen")
    done = tools.try_run("nbdcopy", str(random_file), frozen.uri)
    assert done.returncode != 0
    assert "read-only" in done.stderr
    assert _stored_bytes(frozen.image) == 0
