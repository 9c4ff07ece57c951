# SPDX-License-Identifier: GPL-2.0-or-later
"""Filling a medium: in pieces, to wherever it ends, and with whatever the storage offers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from scsi_backend.handlers.vdisk import Extent
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Pending, assert_check_condition, connect
from tests.scsi_backend.locking import join

MIB = 1 << 20


def overwrite(initiator: Initiator, pattern: bytes) -> Pending:
    """Send a SANITIZE OVERWRITE of one pass."""
    data = bytes((1, 0)) + len(pattern).to_bytes(2, "big") + pattern
    return initiator.start(cdbs.sanitize(cdbs.OVERWRITE, len(data)), data)


@pytest.mark.parametrize(
    ("block_size_bytes", "pattern"),
    [
        (512, b"\x5a"),
        (512, bytes(range(4))),
        (512, bytes(range(1, 254))),
        (4096, bytes(range(256)) * 16),
        (4096, b"abc"),
    ],
)
def test_pattern_fills_each_block_anew(block_size_bytes: int, pattern: bytes) -> None:
    vdisk = FaultyVdisk(100, block_size_bytes)
    assert overwrite(connect(vdisk), pattern).outcome.status == Status.GOOD
    block = (pattern * block_size_bytes)[:block_size_bytes]
    assert vdisk.data == block * 100


def test_pieces_are_bounded_and_reach_to_the_last_block() -> None:
    vdisk = FaultyVdisk(20 * MIB // 512 + 1)
    overwrite(connect(vdisk), b"\x01")
    writes = [(offset, length) for name, offset, length in vdisk.log if name == "write"]
    assert writes == [(0, 8 * MIB), (8 * MIB, 8 * MIB), (16 * MIB, 4 * MIB + 512)]
    assert vdisk.data == b"\x01" * (20 * MIB + 512)


def test_tail_that_is_shorter_than_a_block_is_not_served() -> None:
    vdisk = FaultyVdisk(10, tail_bytes=100)
    overwrite(connect(vdisk), b"\x01")
    assert ("write", 0, 10 * 512) in vdisk.log


@pytest.mark.parametrize(
    ("is_thin", "names", "piece_bytes"),
    [(False, ["write_zeros"] * 3, 64 * MIB), (True, ["unmap"], 1024 * MIB)],
)
def test_zeros_are_made_in_pieces(is_thin: bool, names: list[str], piece_bytes: int) -> None:
    vdisk = FaultyVdisk(130 * MIB // 512, is_thin=is_thin)
    connect(vdisk).good(cdbs.FORMAT_UNIT)
    assert vdisk.names == [*names, "sync"]
    assert max(length for _, _, length in vdisk.log) == min(piece_bytes, 130 * MIB)
    assert sum(length for _, _, length in vdisk.log) == 130 * MIB


@pytest.mark.parametrize("is_thin", [False, True])
def test_zeros_are_written_where_the_storage_has_no_short_cut(is_thin: bool) -> None:
    vdisk = FaultyVdisk(12 * MIB // 512, is_thin=is_thin)
    vdisk.data[:] = b"\xaa" * 12 * MIB
    vdisk.faults.errno_of = {"write_zeros": errno.EOPNOTSUPP, "unmap": errno.EOPNOTSUPP}
    connect(vdisk).good(cdbs.FORMAT_UNIT)
    assert vdisk.names[1:] == ["write", "write", "sync"]
    assert not any(vdisk.data)


def resize(vdisk: FaultyVdisk, unit: LogicalUnit, block_count: int) -> None:
    """Let the backing store change while the unit looks."""
    vdisk.new_block_count = block_count
    assert unit.resync_size()


@pytest.mark.parametrize("blocks", [16384, 20000, 50000])
def test_medium_that_changes_its_size_meanwhile_is_written_to_its_end(blocks: int) -> None:
    vdisk = FaultyVdisk(50000)
    vdisk.block_count = 40000
    unit = disk(vdisk)
    vdisk.is_held = True
    pending = overwrite(join(unit), b"\x01")
    resize(vdisk, unit, blocks)
    vdisk.release_all()
    assert pending.outcome.status == Status.GOOD
    end = max(offset + length for name, offset, length in vdisk.log if name == "write")
    assert end == blocks * 512


def erase(vdisk: FaultyVdisk) -> list[tuple[str, int, int]]:
    """What SANITIZE BLOCK ERASE asks of the disk, but for the sizes of extents."""
    vdisk.log.clear()
    connect(vdisk).good(cdbs.sanitize(cdbs.BLOCK_ERASE))
    return [entry for entry in vdisk.log if entry[0] != "extents"]


def test_block_erase_writes_over_what_is_stored_and_then_deallocates() -> None:
    vdisk = FaultyVdisk(100, is_thin=True)
    vdisk.runs = [
        Extent(10 * 512, is_mapped=False),
        Extent(5 * 512 + 100, is_mapped=True),
        Extent(412 + 80 * 512, is_mapped=False),
        Extent(4 * 512, is_mapped=True),
    ]
    assert erase(vdisk) == [
        ("write", 10 * 512, 5 * 512 + 100),
        ("write", 96 * 512, 4 * 512),
        ("sync", 0, 0),
        ("unmap", 0, 100 * 512),
        ("sync", 0, 0),
    ]


def test_block_erase_of_a_run_beyond_the_end_stops_at_the_end() -> None:
    vdisk = FaultyVdisk(20, is_thin=True)
    vdisk.runs = [Extent(4096 * 512, is_mapped=True)]
    assert erase(vdisk)[0] == ("write", 0, 20 * 512)


@pytest.mark.parametrize("operation", ["extents", "write", "sync", "unmap"])
def test_block_erase_fails_with_any_of_its_steps(operation: str) -> None:
    vdisk = FaultyVdisk(20, is_thin=True)
    vdisk.runs = [Extent(20 * 512, is_mapped=True)]
    vdisk.faults.errno_of[operation] = errno.EIO
    initiator = connect(vdisk)
    outcome = initiator.send(cdbs.sanitize(cdbs.BLOCK_ERASE))
    assert_check_condition(outcome, "03/31/03")
    assert vdisk.names[-1] == operation


@pytest.mark.parametrize("nv_cache", ["0", "1"])
@pytest.mark.parametrize("place", ["disk", "memory"])
def test_file_holds_the_pattern_and_all_of_its_blocks(
    open_fileio: OpenFileio, tmp_path: Path, shm_path: Path, place: str, nv_cache: str
) -> None:
    folder = tmp_path if place == "disk" else shm_path
    vdisk = open_fileio(3 * MIB, folder=folder, nv_cache=nv_cache, thin_provisioned="1")
    path = next(folder.glob("disk*"))
    before = path.stat()
    overwrite(connect(vdisk), b"\x5a\xa5")
    after = path.stat()
    assert path.read_bytes() == b"\x5a\xa5" * (3 * MIB // 2)
    assert (after.st_ino, after.st_size) == (before.st_ino, 3 * MIB)
    assert after.st_blocks * 512 >= 3 * MIB > before.st_blocks * 512


def test_erased_file_reads_as_zeros_and_stores_nothing(
    open_fileio: OpenFileio, tmp_path: Path
) -> None:
    vdisk = open_fileio(b"\xaa" * MIB, thin_provisioned="1")
    if not vdisk.is_thin_provisioned:
        pytest.skip(f"the file system of {tmp_path} cannot punch holes")
    path = next(tmp_path.glob("disk*"))
    os.truncate(path, 2 * MIB)
    vdisk.reread_size()
    initiator = connect(vdisk)
    initiator.good(cdbs.sanitize(cdbs.BLOCK_ERASE))
    assert path.read_bytes() == bytes(2 * MIB)
    assert path.stat().st_blocks == 0
    status = initiator.good(cdbs.get_lba_status(0, 64), None, 64)
    assert status.hex() == "00000014" + "00000000" + "0" * 16 + "00001000" + "01" + "000000"


@pytest.mark.parametrize("thin_provisioned", ["0", "1"])
def test_formatted_file_reads_as_zeros(open_fileio: OpenFileio, thin_provisioned: str) -> None:
    vdisk = open_fileio(b"\xaa" * MIB, thin_provisioned=thin_provisioned)
    initiator = connect(vdisk)
    initiator.good(cdbs.FORMAT_UNIT)
    assert initiator.good(cdbs.block(cdbs.READ, 16, 0, 2048), None, MIB) == bytes(MIB)
