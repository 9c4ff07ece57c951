# SPDX-License-Identifier: GPL-2.0-or-later
"""stage.py: the image is as large as asked for, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

from tests.bench.stage import random_file


def test_file_has_the_size_and_is_removed(tmp_path: Path) -> None:
    size_bytes = (4 << 20) + 512
    with random_file(tmp_path, size_bytes) as path:
        data = path.read_bytes()
        assert path.parent == tmp_path
    assert len(data) == size_bytes
    # Random: neither of the two chunks is all zeroes.
    assert any(data[:4096])
    assert any(data[-512:])
    assert not path.exists()
