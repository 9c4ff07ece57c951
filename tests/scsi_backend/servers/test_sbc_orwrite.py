# SPDX-License-Identifier: GPL-2.0-or-later
"""ORWRITE(16): bits are set and none are cleared, and nothing comes between."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

FUA = 0x08


def orwrite(lba: int, blocks: int, flags: int = 0) -> bytes:
    """An ORWRITE(16)."""
    return cdbs.block(cdbs.ORWRITE, 16, lba, blocks, flags)


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


def test_bits_of_stored_and_sent_blocks_are_combined(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.data[3 * 512 : 5 * 512] = b"\x0f" * 512 + b"\x81" * 512
    before = bytes(vdisk.data)
    cdb = cdbs.raw("8b000000000000000003000000020000")
    assert initiator.good(cdb, b"\x31" * 512 + b"\x80" * 512) == b""
    stored = b"\x3f" * 512 + b"\x81" * 512
    assert vdisk.data == before[: 3 * 512] + stored + before[5 * 512 :]


def test_all_four_pairs_of_bits_combine(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.data[:512] = bytes((0b0011,)) + bytes(510) + bytes((0b0011,))
    initiator.good(orwrite(0, 1), bytes((0b0101,)) + bytes(510) + bytes((0b0101,)))
    assert vdisk.blocks(0, 1) == bytes((0b0111,)) + bytes(510) + bytes((0b0111,))


def test_long_range_is_combined_in_pieces() -> None:
    vdisk = FaultyVdisk(blocks=1200)
    content = vdisk.fill()
    connect(vdisk).good(orwrite(0, 1200), b"\x80" * (1200 * 512))
    assert vdisk.data == bytes(byte | 0x80 for byte in content)
    sizes = [256 << 10, 256 << 10, 176 * 512]
    assert [length for name, _, length in vdisk.log if name == "read"] == sizes
    assert [length for name, _, length in vdisk.log if name == "write"] == sizes


@pytest.mark.parametrize(
    ("flags", "write_through", "syncs"), [(0, False, 0), (FUA, False, 1), (0, True, 1)]
)
def test_fua_or_write_through_means_stable_storage(
    flags: int, write_through: bool, syncs: int
) -> None:
    vdisk = FaultyVdisk(write_through=write_through)
    connect(vdisk).good(orwrite(0, 1, flags), bytes(512))
    assert vdisk.names.count("sync") == syncs


def test_no_blocks_are_no_error(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    assert initiator.good(orwrite(1024, 0, FUA)) == b""
    assert vdisk.log == []


def test_range_past_the_end_is_refused(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    outcome = initiator.send(orwrite(1023, 2), bytes(1024))
    assert_check_condition(outcome, "05/21/00", at=(2, 7), information=1024)
    assert vdisk.log == []


def test_maximum_transfer_is_the_limit() -> None:
    initiator = connect(VdiskNullio("n", NullioAttributes(size_mb=64)))
    outcome = initiator.send(orwrite(0, 65537), bytes(512))
    assert_check_condition(outcome, "05/24/00", at=(10, 7))


@pytest.mark.parametrize("protect", range(1, 8))
def test_protection_information_is_refused(initiator: Initiator, protect: int) -> None:
    outcome = initiator.send(orwrite(0, 1, protect << 5), bytes(512))
    assert_check_condition(outcome, "05/24/00", at=(1, 7))


def test_too_little_data_changes_nothing(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    assert_check_condition(initiator.send(orwrite(0, 1), bytes(511)), "0B/4B/00")
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("read", "03/11/00"), ("write", "03/03/00"), ("sync", "03/03/00")],
)
def test_each_step_can_fail(
    vdisk: FaultyVdisk, initiator: Initiator, operation: str, expected: str
) -> None:
    vdisk.faults.errno_of[operation] = errno.EIO
    outcome = initiator.send(orwrite(5, 1, FUA), bytes(512))
    assert_check_condition(outcome, expected, information=5)
    assert vdisk.names[-1] == operation


def test_a_write_that_overlaps_waits_until_the_bits_are_set(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.immediate_bytes, vdisk.is_held = -errno.EAGAIN, True
    first = initiator.start(orwrite(4, 2), b"\xf0" * 1024)
    second = initiator.start(cdbs.block(cdbs.WRITE, 16, 5, 1), b"\x0f" * 512)
    third = initiator.start(orwrite(5, 1), b"\x80" * 512)
    vdisk.release_all()
    assert (first.is_done, second.is_done, third.is_done) == (True, True, True)
    assert vdisk.blocks(4, 2) == b"\xf0" * 512 + b"\x8f" * 512


def test_orwrite_on_a_real_file(open_fileio: OpenFileio) -> None:
    initiator = connect(open_fileio(b"\x01" * 4096))
    initiator.good(orwrite(7, 1), b"\x10" * 512)
    data = initiator.good(cdbs.block(cdbs.READ, 16, 6, 2), None, 1024)
    assert data == b"\x01" * 512 + b"\x11" * 512
