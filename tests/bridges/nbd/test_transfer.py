# SPDX-License-Identifier: GPL-2.0-or-later
"""Which requests are one CDB and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridges.lun import LunInfo
from bridges.nbd.transfer import PlainLimits
from tests.bridges.nbd.test_translate import BIG_BLOCKS, DISK, NO_LIMITS

MIB = 1 << 20
FUA, PAYLOAD_LEN = 1, 32


@pytest.mark.parametrize(
    ("info", "is_extended", "reads", "writes"),
    [
        (DISK, False, {0, FUA}, {0, FUA}),
        (DISK, True, {0, FUA}, {0, FUA, PAYLOAD_LEN, FUA | PAYLOAD_LEN}),
        # With a cache that forgets, and no bit to write through it, FUA takes a second command.
        (replace(DISK, has_fua=False), False, {0, FUA}, {0}),
        (replace(DISK, has_fua=False), True, {0, FUA}, {0, PAYLOAD_LEN}),
        # Without such a cache each write is durable anyway.
        (replace(DISK, has_fua=False, has_volatile_cache=False), False, {0, FUA}, {0, FUA}),
        (replace(DISK, has_volatile_cache=False), False, {0, FUA}, {0, FUA}),
        (replace(DISK, is_read_only=True), False, {0, FUA}, set()),
        (replace(DISK, is_read_only=True), True, {0, FUA}, set()),
    ],
)
def test_flags(info: LunInfo, is_extended: bool, reads: set[int], writes: set[int]) -> None:
    for_reads, for_writes = PlainLimits.of(info, is_extended=is_extended).flags
    assert (set(for_reads), set(for_writes)) == (reads, writes)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (replace(DISK, limits=NO_LIMITS), 32 * MIB),
        (DISK, 32 * MIB),
        (replace(DISK, limits=replace(NO_LIMITS, max_transfer=8)), 4096),
        (replace(BIG_BLOCKS, limits=replace(NO_LIMITS, max_transfer=8)), 32768),
        # No device makes the protocol's own limit higher.
        (replace(DISK, limits=replace(NO_LIMITS, max_transfer=0xFFFFFFFF)), 32 * MIB),
    ],
)
def test_longest_transfer(info: LunInfo, expected: int) -> None:
    assert PlainLimits.of(info, is_extended=False).max_bytes == expected


def test_limits_remember_what_they_were_made_of() -> None:
    limits = PlainLimits.of(DISK, is_extended=False)
    assert limits.info is DISK
    assert limits.size_bytes == 512 << 40
