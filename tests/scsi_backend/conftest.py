# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: backing files on disk and in RAM, and file-backed disks that are closed afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.handlers.vdisk_fileio import VdiskFileio
from scsi_backend.io.engine import Engine, SyncEngine

OpenFileio = Callable[..., VdiskFileio]


@pytest.fixture
def shm_path() -> Iterator[Path]:
    """A folder on tmpfs."""
    shm = Path("/dev/shm")
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    if ["tmpfs"] not in [mount[2:3] for mount in mounts if mount[1] == str(shm)]:
        pytest.skip("/dev/shm is not a tmpfs")
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        yield Path(folder)


@pytest.fixture
def nowait_path(tmp_path: Path) -> Path:
    """A folder on a file system with RWF_NOWAIT that is not RAM."""
    probe = tmp_path / "probe"
    probe.write_bytes(bytes(4096))
    with probe.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            pytest.skip(f"the file system of {tmp_path} has no RWF_NOWAIT: {error}")
    return tmp_path


@pytest.fixture
def open_fileio(tmp_path: Path) -> Iterator[OpenFileio]:
    """Open ``content`` (or that many zeros) as a vdisk_fileio; words are its attributes."""
    opened: list[VdiskFileio] = []

    def open_disk(
        content: bytes | int, engine: Engine | None = None, folder: Path = tmp_path, **words: str
    ) -> VdiskFileio:
        path = folder / f"disk{len(opened)}"
        if isinstance(content, int):
            path.touch()
            os.truncate(path, content)
        else:
            path.write_bytes(content)
        attributes = FileioAttributes.model_validate({"filename": str(path), **words})
        disk = VdiskFileio.open(path.name, attributes, engine or SyncEngine())
        opened.append(disk)
        return disk

    yield open_disk
    for disk in opened:
        disk.close()
