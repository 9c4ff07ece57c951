# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of memory in several places."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scsi_backend.io.engine import read_fully, write_fully
from scsi_backend.io.scatter import ScatterList, contiguous, segments_of

_CONTENTS = b"abcdefghij"


def scattered(*lengths: int) -> ScatterList:
    """Segments of these lengths over ``_CONTENTS``, each in memory of its own."""
    segments, position = [], 0
    for length in lengths:
        segments.append(memoryview(bytearray(_CONTENTS[position : position + length])))
        position += length
    return ScatterList(segments, position)


@pytest.mark.parametrize("start", range(11))
@pytest.mark.parametrize("stop", [*range(12), None])
def test_a_part_is_the_part_of_the_whole(start: int, stop: int | None) -> None:
    part = scattered(3, 0, 4, 2, 1)[start:stop]
    assert bytes(contiguous(part)) == _CONTENTS[start:stop]
    assert len(part) == len(_CONTENTS[start:stop])


def test_a_part_shares_its_memory_with_the_whole() -> None:
    whole = scattered(4, 6)
    whole[2:7][:] = b"CDEFG"
    assert bytes(contiguous(whole)) == b"abCDEFGhij"


def test_assignment_of_another_length_is_refused() -> None:
    whole = scattered(5, 5)
    with pytest.raises(ValueError, match="3 bytes: expected 4"):
        whole[0:4] = b"123"
    with pytest.raises(ValueError, match="without gaps"):
        whole[::2]
    assert bytes(contiguous(whole)) == _CONTENTS


def test_memory_in_one_place_is_its_own_segment_and_is_not_copied() -> None:
    view = memoryview(bytearray(4))
    assert segments_of(view) == (view,)
    assert contiguous(view) is view


def test_files_are_read_and_written_through_all_segments(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(16))
    fd = os.open(path, os.O_RDWR)
    try:
        assert write_fully(fd, scattered(3, 3, 4), 2) == 10
        assert path.read_bytes() == bytes(2) + _CONTENTS + bytes(4)
        target = ScatterList([memoryview(bytearray(size)) for size in (1, 8, 4)], 13)
        assert read_fully(fd, target, 2) == 13
        assert bytes(contiguous(target)) == _CONTENTS + bytes(3)
        # Beyond the end of the file there is nothing.
        assert read_fully(fd, target, 10) == 6
    finally:
        os.close(fd)
