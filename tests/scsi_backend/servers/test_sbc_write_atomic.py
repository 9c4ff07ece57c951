# SPDX-License-Identifier: GPL-2.0-or-later
"""WRITE ATOMIC: limits, errors, and other commands that must not see half of it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition, connect

# Where 16 and 32 bytes have flags, LBA, boundary and length.
Build = Callable[..., bytes]
FORMS = [
    pytest.param(cdbs.write_atomic_16, (1, 2, 10, 12), id="16"),
    pytest.param(cdbs.write_atomic_32, (10, 12, 4, 28), id="32"),
]
At = tuple[int, int, int, int]
LIMIT_BLOCKS = 16
DPO, FUA = 0x10, 0x08


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk(max_atomic_bytes=LIMIT_BLOCKS * 512)


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return connect(vdisk)


@pytest.mark.parametrize(
    "cdb",
    [
        "9c000000000000000003 0000 0002 0000",
        "7f00000000000018 000f 0000 0000000000000003 0000000000000000 00000002",
    ],
)
@pytest.mark.parametrize("flags", [0, DPO, FUA])
def test_all_blocks_are_handed_to_the_device_in_one_write(
    vdisk: FaultyVdisk, initiator: Initiator, cdb: str, flags: int
) -> None:
    before, data = vdisk.fill(), b"\xaa" * 1024
    raw = bytearray(cdbs.raw(cdb))
    raw[1 if len(raw) == 16 else 10] = flags
    assert initiator.good(bytes(raw), data) == b""
    assert vdisk.log == [("write_atomic", 1536, 1024)]
    assert vdisk.data == before[:1536] + data + before[2560:]


@pytest.mark.parametrize(("build", "at"), FORMS)
def test_length_is_bounded(vdisk: FaultyVdisk, initiator: Initiator, build: Build, at: At) -> None:
    data = bytes((LIMIT_BLOCKS + 1) * 512)
    assert initiator.good(build(1, LIMIT_BLOCKS), data) == b""
    outcome = initiator.send(build(1, LIMIT_BLOCKS + 1), data)
    assert_check_condition(outcome, "05/24/00", at=(at[3], 7))
    assert len(vdisk.log) == 1


@pytest.mark.parametrize(("build", "at"), FORMS)
def test_boundary_is_refused(
    vdisk: FaultyVdisk, initiator: Initiator, build: Build, at: At
) -> None:
    outcome = initiator.send(build(0, 8, boundary=4), bytes(4096))
    assert_check_condition(outcome, "05/24/00", at=(at[2], 7))
    assert vdisk.log == []


@pytest.mark.parametrize(("build", "at"), FORMS)
@pytest.mark.parametrize("protect", range(1, 8))
def test_protection_information_is_refused(
    initiator: Initiator, build: Build, at: At, protect: int
) -> None:
    outcome = initiator.send(build(0, 1, protect << 5), bytes(512))
    assert_check_condition(outcome, "05/24/00", at=(at[0], 7))


@pytest.mark.parametrize(("build", "at"), FORMS)
def test_range_past_the_end_is_refused_whatever_its_length(
    initiator: Initiator, build: Build, at: At
) -> None:
    for lba, blocks in ((1023, 2), (1020, 2 * LIMIT_BLOCKS), (1025, 0)):
        outcome = initiator.send(build(lba, blocks), bytes(blocks * 512))
        first_bad = max(lba, 1024)
        assert_check_condition(outcome, "05/21/00", at=(at[1], 7), information=first_bad)


@pytest.mark.parametrize(("build", "at"), FORMS)
def test_no_blocks_are_no_error(
    vdisk: FaultyVdisk, initiator: Initiator, build: Build, at: At
) -> None:
    assert initiator.good(build(1024, 0)) == b""
    assert vdisk.log == []


def test_too_little_data_changes_nothing(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    outcome = initiator.send(cdbs.write_atomic_16(0, 2), bytes(1023))
    assert_check_condition(outcome, "0B/4B/00")
    assert vdisk.log == []


@pytest.mark.parametrize(
    ("code", "expected", "information"),
    [(errno.ENOSPC, "07/27/07", None), (errno.EIO, "03/03/00", 3)],
)
def test_failure_of_the_device_ends_the_command(
    vdisk: FaultyVdisk,
    initiator: Initiator,
    code: int,
    expected: str,
    information: int | None,
) -> None:
    vdisk.faults.errno_of["write_atomic"] = code
    outcome = initiator.send(cdbs.write_atomic_16(3, 1), bytes(512))
    assert_check_condition(outcome, expected, information=information)


@pytest.mark.parametrize(("build", "at"), FORMS)
def test_overlapping_commands_wait_and_others_do_not(
    vdisk: FaultyVdisk, initiator: Initiator, build: Build, at: At
) -> None:
    vdisk.immediate_bytes, vdisk.is_held = -errno.EAGAIN, True
    atomic = initiator.start(build(4, 4), b"\xaa" * 2048)
    waiting = [
        initiator.start(cdbs.block(cdbs.READ, width, 7, 2), None, 1024) for width in (16, 32)
    ]
    beside = initiator.start(cdbs.block(cdbs.READ, 32, 8, 1), None, 512)
    assert vdisk.names == ["write_atomic", "read_now", "read"]
    vdisk.release(1)
    assert (beside.is_done, atomic.is_done) == (True, False)
    vdisk.release_all()
    assert atomic.is_done
    for pending in waiting:
        assert pending.outcome.data == b"\xaa" * 512 + bytes(512)


def test_two_variable_length_forms_wait_for_each_other(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.immediate_bytes, vdisk.is_held = -errno.EAGAIN, True
    pending = [
        initiator.start(cdbs.block(cdbs.WRITE, 32, 4, 1), b"\x11" * 512),
        initiator.start(cdbs.write_atomic_32(4, 2), b"\x22" * 1024),
        initiator.start(cdbs.block(cdbs.WRITE, 32, 5, 1), b"\x33" * 512),
        initiator.start(cdbs.write_atomic_32(5, 1), b"\x44" * 512),
    ]
    for done in range(4):
        assert [each.is_done for each in pending] == [True] * done + [False] * (4 - done)
        vdisk.release()
    assert vdisk.blocks(4, 2) == b"\x22" * 512 + b"\x44" * 512
    assert vdisk.held == type(vdisk.held)()


def test_write_atomic_on_a_real_file(open_fileio: OpenFileio, tmp_path: Path) -> None:
    disk = open_fileio(b"\x01" * 4096, atomic_journal=str(tmp_path / "journal"))
    initiator = connect(disk)
    initiator.good(cdbs.write_atomic_16(6, 2), b"\xaa" * 1024)
    data = initiator.good(cdbs.block(cdbs.READ, 16, 5, 3), None, 1536)
    assert data == b"\x01" * 512 + b"\xaa" * 1024
