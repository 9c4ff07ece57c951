# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared memory: both sides see the same bytes, and neither can take them from the other."""

from __future__ import annotations

import fcntl
import gc
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridges.local.area import create_area, map_area

LENGTH = 1 << 20


@pytest.fixture
def descriptor() -> Iterator[int]:
    """A sealed memfd of LENGTH bytes."""
    memory, descriptor = create_area(LENGTH)
    memory.close()
    yield descriptor
    os.close(descriptor)


def test_both_sides_see_the_same_bytes() -> None:
    ours, descriptor = create_area(LENGTH)
    with closing(ours), closing(map_area(descriptor, LENGTH)) as theirs:
        os.close(descriptor)
        assert ours[:] == bytes(LENGTH)
        ours[LENGTH - 1] = 7
        theirs[0] = 9
        assert (theirs[LENGTH - 1], ours[0]) == (7, 9)


@pytest.mark.parametrize("length", [0, LENGTH - 1, LENGTH + 1])
def test_size_cannot_be_changed(descriptor: int, length: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, length)


def test_seals_cannot_be_added_to(descriptor: int) -> None:
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_descriptor_is_not_inherited(descriptor: int) -> None:
    assert not os.get_inheritable(descriptor)


@pytest.mark.parametrize("length", [LENGTH - 4096, LENGTH + 4096, 0])
def test_memory_of_another_size_is_refused(descriptor: int, length: int) -> None:
    with pytest.raises(ValueError, match=f"no file of {length} bytes"):
        map_area(descriptor, length)


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW])
def test_memory_that_may_change_its_size_is_refused(seals: int) -> None:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, LENGTH)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        with pytest.raises(ValueError, match="may change its size"):
            map_area(descriptor, LENGTH)
    finally:
        os.close(descriptor)


def test_file_that_cannot_be_sealed_is_refused(tmp_path: Path) -> None:
    # /dev/shm and /tmp may be file systems that know seals.
    with Path("/proc/self/exe").open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        with pytest.raises(ValueError, match=r"without seals|may change its size"):
            map_area(file.fileno(), size)


def test_socket_is_no_memory() -> None:
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ValueError, match="no file"):
        map_area(sock.fileno(), 0)


def test_memory_that_cannot_be_had_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"Cannot allocate memory|File too large"):
        create_area(1 << 62)
    assert len(os.listdir("/proc/self/fd")) == before


def test_mapping_goes_with_its_last_view() -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    memory, descriptor = create_area(LENGTH)
    os.close(descriptor)
    view = memoryview(memory)[:10]
    del memory
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del view
    assert len(os.listdir("/proc/self/fd")) == before
