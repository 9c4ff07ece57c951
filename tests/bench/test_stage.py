# SPDX-License-Identifier: GPL-2.0-or-later
"""stage.py: the image is as large as asked for, and gone afterwards; what was asked for is run."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from tests.bench.stage import chosen, random_file


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


_KNOWN = {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("names", "things"),
    [(None, [1, 2, 3]), ([], [1, 2, 3]), (["c", "a"], [1, 3])],
    ids=["no list", "empty list", "two"],
)
def test_things_are_chosen_in_their_own_order(names: list[str] | None, things: list[int]) -> None:
    assert chosen("cell", names, _KNOWN) == things


def test_unknown_names_are_refused_together() -> None:
    with pytest.raises(typer.BadParameter, match="no such cell: x, y"):
        chosen("cell", ["y", "a", "x"], _KNOWN)
