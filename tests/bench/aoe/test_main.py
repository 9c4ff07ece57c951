# SPDX-License-Identifier: GPL-2.0-or-later
"""__main__.py: its options; stations.py's tests start servers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.bench.aoe.__main__ import app
from tests.bench.environment import file_system

RUNNER = CliRunner()


@pytest.mark.parametrize("option", ["--cell", "--server"])
def test_unknown_name_is_refused(option: str) -> None:
    done = RUNNER.invoke(app, [option, "no-such"])
    assert done.exit_code == 2
    assert "no-such" in done.output


def test_durable_cells_are_refused_where_there_is_no_disk() -> None:
    memory = Path("/dev/shm")
    if file_system(memory) != "tmpfs":
        pytest.skip("needs a tmpfs at /dev/shm")
    durable = "write-2s-w1-page-durable"
    done = RUNNER.invoke(app, ["--cell", durable, "--disk-directory", str(memory)])
    assert done.exit_code == 2
    assert "tmpfs" in done.output


def test_root_is_asked_for_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = RUNNER.invoke(app, ["--cell", "read-2s-w1-seq"])
    assert done.exit_code == 1
    assert "needs root" in done.output
