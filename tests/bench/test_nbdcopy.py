# SPDX-License-Identifier: GPL-2.0-or-later
"""nbdcopy.py: command lines, rates, and what a failed copy is reported as."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bench.cells import CELLS
from tests.bench.client import Load, LoadError, Measurement
from tests.bench.nbdcopy import command, measurement, run

BY_NAME = {cell.name: cell for cell in CELLS}
URI = "nbds+unix:///?socket=/s&tls-certificates=/c"
SHAPE = ["--connections=1", "--requests=8", "--request-size=1048576", "--no-extents", "--sparse=0"]


def test_read_goes_nowhere() -> None:
    line = command(BY_NAME["read-tls"], URI, Path("/source"))
    assert line == ["nbdcopy", *SHAPE, URI, "null:"]


def test_write_comes_from_the_source() -> None:
    line = command(BY_NAME["write-tls"], URI, Path("/source"))
    assert line == ["nbdcopy", *SHAPE, "/source", URI]


def test_rates_count_requests_of_one_mebibyte() -> None:
    found = measurement(BY_NAME["read-tls"], 256 << 20, 2.0)
    assert found == Measurement(256, 128.0, 134217728.0, None, None)


def test_copy_that_fails_says_why(tmp_path: Path) -> None:
    if shutil.which("nbdcopy") is None:
        pytest.skip("needs nbdcopy (Debian package libnbd-bin)")
    uri = f"nbd+unix:///?socket={tmp_path}/none"
    with pytest.raises(LoadError, match=r"^nbdcopy exit status 1: .*No such file or directory$"):
        run(BY_NAME["read-tls"], uri, Load(1 << 20, 0.1, tmp_path))
