# SPDX-License-Identifier: GPL-2.0-or-later
"""client.py: programs that end, that fail, that hang and that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.client import Finished, LoadError, run_to_end
from tests.bench.processes import poll


def test_status_and_both_streams_are_returned() -> None:
    assert run_to_end(["sh", "-c", "echo a; echo b >&2; exit 3"], 10.0) == Finished(3, "a\n", "b\n")


def test_missing_program_is_named() -> None:
    with pytest.raises(LoadError, match=r"^/no/such/client is not installed$"):
        run_to_end(["/no/such/client"], 10.0)


def test_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {pid_file}; wait"
    with pytest.raises(LoadError, match=r"^sh still ran after 0.5 s$"):
        run_to_end(["sh", "-c", script], 0.5)
    stat = Path("/proc", pid_file.read_text().strip(), "stat")

    def has_ended() -> bool:
        # An orphan that nobody reaps stays as a zombie.
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    assert poll(has_ended, 10.0)
