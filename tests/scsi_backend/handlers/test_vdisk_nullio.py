# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk without storage."""

from __future__ import annotations

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk import Extent, Space
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.io.engine import SyncEngine
from scsi_backend.io.located import ZEROS


@pytest.fixture
def vdisk() -> VdiskNullio:
    return VdiskNullio.open("null", NullioAttributes(size_mb=1), SyncEngine())


@pytest.mark.parametrize("length_bytes", [0, 512, 64 << 10, (64 << 10) + 512, 1 << 20])
def test_reads_give_zeros_whatever_the_buffer_held(vdisk: VdiskNullio, length_bytes: int) -> None:
    buffer = bytearray(b"\xaa" * length_bytes)
    assert vdisk.read_now(memoryview(buffer), 0) == length_bytes
    assert buffer == bytes(length_bytes)
    buffer = bytearray(b"\xaa" * length_bytes)
    results: list[int] = []
    vdisk.read(memoryview(buffer), 512, results.append)
    assert (results, bytes(buffer)) == ([length_bytes], bytes(length_bytes))


def test_writes_vanish_at_once(vdisk: VdiskNullio) -> None:
    results: list[int] = []
    assert vdisk.write_now(memoryview(b"x" * 512), 0) == 512
    vdisk.write(memoryview(b"x" * 1024), 0, results.append)
    assert results == [1024]
    buffer = bytearray(512)
    vdisk.read_now(memoryview(buffer), 0)
    assert buffer == bytes(512)


def test_everything_else_succeeds_at_once(vdisk: VdiskNullio) -> None:
    results: list[int] = []
    vdisk.sync(results.append)
    vdisk.unmap(0, 512, results.append)
    vdisk.write_zeros(0, 512, results.append)
    vdisk.read_ahead(0, 512, results.append)
    assert results == [0, 0, 0, 0]


def test_all_of_it_counts_as_stored(vdisk: VdiskNullio) -> None:
    runs: list[Extent] = []
    results: list[int] = []
    vdisk.extents(4096, 10, runs, results.append)
    assert (runs, results) == ([Extent((1 << 20) - 4096, is_mapped=True)], [0])


def test_there_is_nothing_anywhere_to_send(vdisk: VdiskNullio) -> None:
    assert vdisk.locate_now(4096, 1 << 16) is ZEROS


def test_size_never_changes(vdisk: VdiskNullio) -> None:
    assert vdisk.block_count == 2048
    assert not vdisk.reread_size()


def test_there_is_no_cache_to_flush(vdisk: VdiskNullio) -> None:
    assert not vdisk.needs_sync
    assert not vdisk.has_volatile_cache
    vdisk.close()


def test_all_of_it_is_taken_and_nothing_left(vdisk: VdiskNullio) -> None:
    space = Space()
    results: list[int] = []
    vdisk.measure_space(space, results.append)
    assert (space, results) == (Space(used_bytes=1 << 20, available_bytes=0), [0])
    assert not vdisk.measures_space
