# SPDX-License-Identifier: GPL-2.0-or-later
"""WRITE SAME: patterns, zeros, holes, and the limits of VPD page B0h."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import FaultyVdisk, pattern
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

WIDTHS = [10, 16, 32]
UNMAP = 0x08
NDOB = 0x01
ZEROS = bytes(512)
PATTERN = bytes(range(256)) * 2
MIB = 1 << 20


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


@pytest.mark.parametrize(
    "cdb", ["410000000005000003 00", "93000000000000000005 00000003 0000"], ids=["10", "16"]
)
def test_pattern_is_written_to_each_block_and_nowhere_else(
    vdisk: FaultyVdisk, initiator: Initiator, cdb: str
) -> None:
    vdisk.fill()
    assert initiator.good(cdbs.raw(cdb), PATTERN) == b""
    assert vdisk.blocks(4, 5) == pattern(4, 512) + PATTERN * 3 + pattern(8, 512)
    assert vdisk.log == [("write", 5 * 512, 3 * 512)]


def test_long_range_is_written_in_pieces(initiator: Initiator) -> None:
    vdisk = FaultyVdisk(blocks=3 * 2048 + 100)
    connect(vdisk).good(cdbs.block(cdbs.WRITE_SAME, 16, 1, 3 * 2048 + 98), PATTERN)
    assert [length for _, _, length in vdisk.log] == [MIB, MIB, MIB, 98 * 512]
    assert vdisk.data == ZEROS + PATTERN * (3 * 2048 + 98) + ZEROS


@pytest.mark.parametrize("block_size_bytes", [512, 4096])
def test_block_sent_is_one_of_the_disks(block_size_bytes: int) -> None:
    vdisk = FaultyVdisk(16, block_size_bytes)
    block = pattern(7, block_size_bytes)
    initiator = connect(vdisk)
    cdb = cdbs.block(cdbs.WRITE_SAME, 10, 2, 3)
    initiator.good(cdb, block)
    assert vdisk.blocks(2, 3) == block * 3
    for sent in (block + block, block + b"\0", block[:-1], None):
        assert_check_condition(initiator.send(cdb, sent), "05/24/00", at=(7, 7))


@pytest.mark.parametrize("width", WIDTHS)
def test_zeros_keep_their_space(vdisk: FaultyVdisk, initiator: Initiator, width: int) -> None:
    vdisk.fill()
    initiator.good(cdbs.block(cdbs.WRITE_SAME, width, 5, 3), ZEROS)
    assert vdisk.blocks(5, 3) == ZEROS * 3
    assert vdisk.log == [("write_zeros", 5 * 512, 3 * 512)]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("flags", [0, UNMAP])
def test_zeros_are_written_where_the_storage_has_no_short_cut(width: int, flags: int) -> None:
    vdisk = FaultyVdisk(is_thin=True)
    vdisk.fill()
    vdisk.faults.errno_of = {"write_zeros": errno.EOPNOTSUPP, "unmap": errno.EOPNOTSUPP}
    connect(vdisk).good(cdbs.block(cdbs.WRITE_SAME, width, 5, 3, flags), ZEROS)
    assert vdisk.blocks(4, 5) == pattern(4, 512) + ZEROS * 3 + pattern(8, 512)
    assert vdisk.names[-1] == "write"


@pytest.mark.parametrize("width", WIDTHS)
def test_unmap_turns_zeros_into_a_hole(width: int) -> None:
    vdisk = FaultyVdisk(is_thin=True)
    vdisk.fill()
    connect(vdisk).good(cdbs.block(cdbs.WRITE_SAME, width, 5, 3, UNMAP), ZEROS)
    assert vdisk.log == [("unmap", 5 * 512, 3 * 512)]
    assert vdisk.blocks(4, 5) == pattern(4, 512) + ZEROS * 3 + pattern(8, 512)


@pytest.mark.parametrize("width", WIDTHS)
def test_unmap_of_anything_else_writes_it(width: int) -> None:
    vdisk = FaultyVdisk(is_thin=True)
    connect(vdisk).good(cdbs.block(cdbs.WRITE_SAME, width, 5, 3, UNMAP), PATTERN)
    assert vdisk.names == ["write"]
    assert vdisk.blocks(5, 3) == PATTERN * 3


@pytest.mark.parametrize("width", WIDTHS)
def test_unmap_on_a_fully_provisioned_unit_is_refused(
    vdisk: FaultyVdisk, initiator: Initiator, width: int
) -> None:
    outcome = initiator.send(cdbs.block(cdbs.WRITE_SAME, width, 5, 3, UNMAP), ZEROS)
    assert_check_condition(outcome, "05/24/00", at=(cdbs.FLAGS_AT[width], 3))
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("flags", "is_thin", "name"),
    [(NDOB, False, "write_zeros"), (NDOB, True, "write_zeros"), (NDOB | UNMAP, True, "unmap")],
)
def test_no_data_out_buffer_means_zeros(flags: int, is_thin: bool, name: str) -> None:
    vdisk = FaultyVdisk(is_thin=is_thin)
    vdisk.fill()
    connect(vdisk).good(cdbs.block(cdbs.WRITE_SAME, 16, 5, 3, flags))
    assert vdisk.log == [(name, 5 * 512, 3 * 512)]
    assert vdisk.blocks(5, 3) == ZEROS * 3


def test_no_data_out_buffer_is_reserved_in_the_10_byte_form(initiator: Initiator) -> None:
    outcome = initiator.send(cdbs.block(cdbs.WRITE_SAME, 10, 5, 3, NDOB), ZEROS)
    assert_check_condition(outcome, "05/24/00", at=(1, 0))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("flags", "bit"),
    [
        (0x10, 4),
        (0x04, 2),
        (0x02, 2),
        *[(protect << 5, 7) for protect in range(1, 8)],
    ],
)
def test_anchor_protection_and_obsolete_bits_are_refused(width: int, flags: int, bit: int) -> None:
    vdisk = FaultyVdisk(is_thin=True)
    outcome = connect(vdisk).send(cdbs.block(cdbs.WRITE_SAME, width, 5, 3, flags), ZEROS)
    assert_check_condition(outcome, "05/24/00", at=(cdbs.FLAGS_AT[width], bit))
    assert vdisk.log == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("flags", [0, UNMAP])
def test_length_zero_is_refused(width: int, flags: int) -> None:
    vdisk = FaultyVdisk(is_thin=True)
    outcome = connect(vdisk).send(cdbs.block(cdbs.WRITE_SAME, width, 5, 0, flags), ZEROS)
    assert_check_condition(outcome, "05/24/00", at=cdbs.LENGTH_AT[width])
    assert vdisk.log == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("lba", "blocks", "information"), [(1023, 2, 1024), (5000, 1, 5000), (1025, 0, 1025)]
)
def test_range_past_the_end_is_refused(
    vdisk: FaultyVdisk, initiator: Initiator, width: int, lba: int, blocks: int, information: int
) -> None:
    outcome = initiator.send(cdbs.block(cdbs.WRITE_SAME, width, lba, blocks), PATTERN)
    assert_check_condition(outcome, "05/21/00", at=cdbs.LBA_AT[width], information=information)
    assert vdisk.log == []


def test_range_beyond_the_maximum_is_an_invalid_length() -> None:
    initiator = connect(VdiskNullio("n", NullioAttributes(size_mb=512)))
    most = 256 * MIB // 512
    initiator.good(cdbs.block(cdbs.WRITE_SAME, 16, 0, most), PATTERN)
    outcome = initiator.send(cdbs.block(cdbs.WRITE_SAME, 16, 0, most + 1), PATTERN)
    assert_check_condition(outcome, "05/24/00", at=(10, 7))


@pytest.mark.parametrize(
    ("data", "name"), [(ZEROS, "write_zeros"), (PATTERN, "write")], ids=["zeros", "pattern"]
)
def test_write_through_flushes_once_at_the_end(data: bytes, name: str) -> None:
    vdisk = FaultyVdisk(blocks=5000, write_through=True)
    connect(vdisk).good(cdbs.block(cdbs.WRITE_SAME, 16, 0, 5000), data)
    assert vdisk.names.count("sync") == 1
    assert (vdisk.names[0], vdisk.names[-1]) == (name, "sync")


@pytest.mark.parametrize(
    ("operation", "code", "expected", "information"),
    [
        ("write", errno.EIO, "03/03/00", 5),
        ("write", errno.ENOSPC, "07/27/07", None),
        ("write_zeros", errno.EIO, "03/03/00", 5),
        ("sync", errno.EIO, "03/03/00", 5),
    ],
)
def test_failed_storage_ends_the_command(
    operation: str, code: int, expected: str, information: int | None
) -> None:
    vdisk = FaultyVdisk(blocks=5000, write_through=True)
    vdisk.faults.errno_of[operation] = code
    data = ZEROS if operation == "write_zeros" else PATTERN
    outcome = connect(vdisk).send(cdbs.block(cdbs.WRITE_SAME, 16, 5, 4000), data)
    assert_check_condition(outcome, expected, information=information)
    assert vdisk.names[-1] == operation
    assert vdisk.names.count(operation) == 1


def test_command_waits_for_its_last_piece(vdisk: FaultyVdisk) -> None:
    vdisk = FaultyVdisk(blocks=5000)
    initiator = connect(vdisk)
    vdisk.is_held = True
    pending = initiator.start(cdbs.block(cdbs.WRITE_SAME, 16, 0, 5000), PATTERN)
    for _ in range(3):
        assert not pending.is_done
        vdisk.release()
    assert pending.outcome.status == Status.GOOD


@pytest.mark.parametrize("place", ["disk", "memory"])
@pytest.mark.parametrize(("flags", "data"), [(0, PATTERN), (0, ZEROS), (NDOB | UNMAP, None)])
def test_blocks_of_a_file_hold_what_was_written(
    open_fileio: OpenFileio,
    tmp_path: Path,
    shm_path: Path,
    place: str,
    flags: int,
    data: bytes | None,
) -> None:
    folder = tmp_path if place == "disk" else shm_path
    disk = open_fileio(b"\xaa" * 64 * 512, folder=folder, thin_provisioned="1")
    if not disk.is_thin_provisioned:
        pytest.skip(f"the file system of {folder} cannot punch holes")
    initiator = connect(disk)
    initiator.good(cdbs.block(cdbs.WRITE_SAME, 16, 3, 50, flags), data)
    found = initiator.good(cdbs.block(cdbs.READ, 16, 0, 64), None, 64 * 512)
    assert found == b"\xaa" * 3 * 512 + (data or ZEROS) * 50 + b"\xaa" * 11 * 512
