# SPDX-License-Identifier: GPL-2.0-or-later
"""Atomic writes of a process that is killed at any moment."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from scsi_backend.io.atomic_journal import AtomicJournal, roll_back

LENGTH = 256 << 10
# Writes 1, 2, 3, ... over the whole range and tells of each that was reported.
WRITER = """
import sys
from scsi_backend.io.atomic_journal import AtomicJournal
from scsi_backend.io.atomic_write import AtomicWriter
from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.file import BackingFile

path, journal_path, first, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
engine = SyncEngine()
file = BackingFile.open(path, engine, read_only=False)
writer = AtomicWriter(file, AtomicJournal.open(journal_path, path), engine, file.sync)
for number in range(first, first + 1000):
    data = number.to_bytes(4, "big") * (length // 4)
    writer.write(memoryview(data), 512, lambda result: print(number, result, flush=True))
"""


def test_range_is_that_of_one_write_whenever_the_writer_is_killed(tmp_path: Path) -> None:
    path, journal_path = tmp_path / "disk", tmp_path / "journal"
    path.write_bytes(bytes(512 + LENGTH + 512))
    rng = random.Random(1)
    last = 0
    for _ in range(8):
        arguments = [str(path), str(journal_path), str(last + 1), str(LENGTH)]
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randint(1, 4)):
                last = int(writer.stdout.readline().split()[0])
            # Somewhere in the next write, which takes some milliseconds.
            for _ in range(rng.randrange(100_000)):
                pass
            writer.kill()
            for line in writer.stdout:
                last = int(line.split()[0])
        journal = AtomicJournal.open(str(journal_path), str(path))
        with path.open("r+b") as file:
            roll_back(journal, file.fileno(), path.stat().st_size)
        journal.close()
        content = path.read_bytes()
        number = int.from_bytes(content[512:516], "big")
        assert content == bytes(512) + number.to_bytes(4, "big") * (LENGTH // 4) + bytes(512)
        # The one after the last that was reported may have been finished.
        assert number in (last, last + 1)
        last = number
