# SPDX-License-Identifier: GPL-2.0-or-later
"""A file in memory that somebody has cut off: reads behind its end must fail as such."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.file import BackingFile
from scsi_backend.io.located import ZEROS, FileRange

MIB = 1 << 20


@pytest.fixture
def cut_off() -> Iterator[BackingFile]:
    """4 MiB when it was opened, 1 MiB now."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    path = folder / "file"
    path.touch()
    os.truncate(path, 4 * MIB)
    file = BackingFile.open(str(path), SyncEngine(), read_only=False)
    os.truncate(path, MIB)
    yield file
    file.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("is_sparse", [True, False])
@pytest.mark.parametrize("offset", [MIB - 4096, 2 * MIB])
def test_what_lies_behind_the_end_is_neither_sent_nor_a_hole(
    cut_off: BackingFile, offset: int, is_sparse: bool
) -> None:
    assert cut_off.locate_now(offset, 65536, is_sparse=is_sparse) is None


def test_what_is_left_is_located(cut_off: BackingFile) -> None:
    assert cut_off.locate_now(MIB - 4096, 4096, is_sparse=True) == ZEROS
    assert cut_off.locate_now(MIB - 4096, 4096, is_sparse=False) == FileRange(
        cut_off.fd, MIB - 4096
    )
