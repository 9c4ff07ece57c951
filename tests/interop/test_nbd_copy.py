# SPDX-License-Identifier: GPL-2.0-or-later
"""nbdcopy moves 64 MiB of random bytes through every door, in and out, and they stay the same."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest

from tests.interop.doors import DISK_BYTES, MIB, NbdDoor, Tools


def _is_same(one: Path, other: Path) -> bool:
    return filecmp.cmp(one, other, shallow=False)


def test_nbdcopy_in_and_out(tools: Tools, door: NbdDoor, random_file: Path) -> None:
    tools.run("nbdcopy", "--flush", str(random_file), door.uri)
    assert _is_same(random_file, door.image)
    tools.run("nbdcopy", door.uri, "out")
    assert _is_same(random_file, tools.path("out"))


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
    blocks4k = unix_door.uri.replace("/disk?", "/disk/7?")
    tools.run("nbdcopy", str(random_file), unix_door.uri)
    tools.run("nbdcopy", unix_door.uri, blocks4k)
    assert _is_same(random_file, unix_door.image.with_name("blocks4k.img"))


def test_nbdcopy_of_a_sparse_file_leaves_holes(tools: Tools, door: NbdDoor) -> None:
    sparse = tools.path("sparse")
    with sparse.open("wb") as file:
        file.truncate(DISK_BYTES)
        file.seek(10 * MIB)
        file.write(b"data" * 1024)
    tools.run("nbdcopy", str(sparse), door.uri)
    assert _is_same(sparse, door.image)
    # Less than a tenth of the disk is stored.
    assert door.image.stat().st_blocks * 512 < DISK_BYTES // 10


def test_nbdcopy_to_a_read_only_export_fails_and_changes_nothing(
    tools: Tools, unix_door: NbdDoor, random_file: Path
) -> None:
    frozen = unix_door.uri.replace("/disk?", "/frozen?")
    done = tools.try_run("nbdcopy", str(random_file), frozen)
    assert done.returncode != 0
    assert "read-only" in done.stderr
    image = unix_door.image.with_name("frozen.img")
    assert image.stat().st_blocks == 0
