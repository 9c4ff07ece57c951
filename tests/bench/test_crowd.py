# SPDX-License-Identifier: GPL-2.0-or-later
"""crowd.py: sizes read from the kernel's text, limits, and connections that fail."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tests.bench.crowd import (
    LimitError,
    Memory,
    allow_connections,
    crowd,
    descriptors_of,
    memory_of,
    parse_memory,
)

# Cut from /proc/self/smaps_rollup of Linux 6.1.
ROLLUP = """\
55e4c2f3b000-7ffd1b5f9000 ---p 00000000 00:00 0                          [rollup]
Rss:                1688 kB
Pss:                 215 kB
Pss_Dirty:            96 kB
Shared_Clean:       1588 kB
"""


def test_sizes_are_read_in_bytes() -> None:
    assert parse_memory(ROLLUP) == Memory(1688 * 1024, 215 * 1024)


def test_memory_of_a_connection_is_the_growth_divided() -> None:
    grown = Memory(3_000_000, 2_500_000).per_connection(Memory(1_000_000, 500_000), 1000)
    assert grown == Memory(2000, 2000)


def test_own_memory_and_descriptors_are_found() -> None:
    own = memory_of(os.getpid())
    assert own.rss_bytes >= own.pss_bytes > 0
    before = descriptors_of(os.getpid())
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        assert descriptors_of(os.getpid()) == before + 1
    finally:
        os.close(descriptor)


def test_limit_is_left_alone_where_it_is_enough() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_connections(1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_limit_is_raised_where_it_is_too_low() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        allow_connections(soft - 200)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_limit_that_cannot_be_raised_is_an_error() -> None:
    # Not even root gets more than /proc/sys/fs/nr_open.
    with pytest.raises(LimitError, match="needs 1000000000200 descriptors"):
        allow_connections(10**12)


def test_every_connection_that_fails_is_noted(tmp_path: Path) -> None:
    with crowd(tmp_path / "none", "t", 3) as gathered:
        assert gathered.clients == []
        assert [error.partition(":")[0] for error in gathered.errors] == [
            "connecting 0",
            "connecting 1",
            "connecting 2",
        ]
        assert "No such file or directory" in gathered.errors[0]
