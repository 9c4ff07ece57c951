# SPDX-License-Identifier: GPL-2.0-or-later
"""The SGV cache: size classes, reuse and the limit of idle memory."""

from __future__ import annotations

import ctypes

import pytest

from scsi_backend.io.sgv import PAGE_BYTES, SgvCache

KIB = 1 << 10


@pytest.mark.parametrize(
    ("asked_bytes", "given_bytes"),
    [
        (1, 64 * KIB),
        (64 * KIB, 64 * KIB),
        (64 * KIB + 1, 128 * KIB),
        (1000 * KIB, 1024 * KIB),
        (1024 * KIB, 1024 * KIB),
    ],
)
def test_a_buffer_has_the_next_power_of_two(asked_bytes: int, given_bytes: int) -> None:
    buffer = SgvCache().get(asked_bytes)
    assert (buffer.size_bytes, len(buffer.view)) == (given_bytes, given_bytes)


def test_a_buffer_is_writable_and_page_aligned() -> None:
    view = SgvCache().get(4096).view
    view[:4] = b"spdx"
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    assert address % PAGE_BYTES == 0
    assert bytes(view[:5]) == b"spdx\0"


def test_the_buffer_put_back_last_is_given_first() -> None:
    cache = SgvCache()
    first, second = cache.get(1), cache.get(1)
    cache.put(first)
    cache.put(second)
    assert cache.idle_bytes == 128 * KIB
    assert cache.get(1) is second
    assert cache.get(1) is first
    assert cache.idle_bytes == 0


def test_a_buffer_of_another_class_is_not_given() -> None:
    cache = SgvCache()
    small = cache.get(1)
    cache.put(small)
    assert cache.get(100 * KIB).size_bytes == 128 * KIB
    assert cache.get(1) is small


def test_idle_memory_stays_within_the_limit() -> None:
    cache = SgvCache(limit_bytes=192 * KIB)
    buffers = [cache.get(1) for _ in range(4)]
    for buffer in buffers:
        cache.put(buffer)
    assert cache.idle_bytes == 192 * KIB
    assert [cache.get(1) for _ in range(3)] == buffers[2::-1]
    assert cache.get(1) not in buffers
