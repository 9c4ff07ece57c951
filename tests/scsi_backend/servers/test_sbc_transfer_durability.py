# SPDX-License-Identifier: GPL-2.0-or-later
"""When a WRITE may say GOOD: FUA, write_through, nv_cache, failing storage and failing flushes."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.conftest import OpenFileio
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, ManualEngine
from tests.scsi_backend.initiator import Outcome, assert_check_condition, connect

WIDTHS = [6, 10, 12, 16, 32]
WIDE = [10, 12, 16, 32]
FUA = 0x08
DATA = b"\xaa" * 512
GOOD = Outcome(Status.GOOD, None, b"")


@pytest.mark.parametrize("immediate_bytes", [None, 100, NOT_NOW])
@pytest.mark.parametrize("width", WIDE)
def test_fua_waits_for_a_flush_that_begins_after_the_data_is_written(
    width: int, immediate_bytes: int | None
) -> None:
    vdisk = FaultyVdisk()
    vdisk.immediate_bytes = immediate_bytes
    initiator = connect(vdisk)
    vdisk.is_held = True
    pending = initiator.start(cdbs.block(cdbs.WRITE, width, 5, 1, FUA), DATA)
    if immediate_bytes is not None:
        assert vdisk.names == ["write_now", "write"]
        vdisk.release()
    assert (vdisk.names[-1], vdisk.names.count("sync"), pending.is_done) == ("sync", 1, False)
    assert vdisk.blocks(5, 1) == DATA
    vdisk.release()
    assert pending.outcome == GOOD
    assert initiator.session.nexuses[0].outstanding == set()


@pytest.mark.parametrize("width", WIDTHS)
def test_write_through_waits_for_a_flush_without_fua(width: int) -> None:
    vdisk = FaultyVdisk(write_through=True)
    initiator = connect(vdisk)
    vdisk.is_held = True
    pending = initiator.start(cdbs.block(cdbs.WRITE, width, 5, 1), DATA)
    assert (vdisk.names, pending.is_done) == (["write_now", "sync"], False)
    vdisk.release()
    assert pending.outcome == GOOD


@pytest.mark.parametrize("width", WIDTHS)
def test_write_without_fua_into_a_write_cache_waits_for_nothing(width: int) -> None:
    vdisk = FaultyVdisk()
    initiator = connect(vdisk)
    vdisk.is_held = True
    assert initiator.send(cdbs.block(cdbs.WRITE, width, 5, 1), DATA) == GOOD
    assert vdisk.names == ["write_now"]


def test_lba_bits_of_the_6_byte_form_are_not_taken_for_fua() -> None:
    vdisk = FaultyVdisk(blocks=0x80001)
    connect(vdisk).good(cdbs.raw("0a0800000100"), DATA)
    assert vdisk.log == [("write_now", 0x80000 * 512, 512)]


@pytest.mark.parametrize("flags", [0, FUA])
@pytest.mark.parametrize("write_through", [False, True])
def test_nv_cache_flushes_nothing(flags: int, write_through: bool) -> None:
    vdisk = FaultyVdisk(nv_cache=True, write_through=write_through)
    connect(vdisk).good(cdbs.block(cdbs.WRITE, 16, 5, 1, flags), DATA)
    assert vdisk.names == ["write_now"]


@pytest.mark.parametrize("flags", [0x10, 0x02, 0x01])
def test_other_bits_of_byte_1_ask_for_no_flush(flags: int) -> None:
    vdisk = FaultyVdisk()
    connect(vdisk).good(cdbs.block(cdbs.WRITE, 16, 5, 1, flags), DATA)
    assert vdisk.names == ["write_now"]


def test_failed_flush_of_a_write_is_a_medium_error() -> None:
    vdisk = FaultyVdisk()
    vdisk.faults.errno_of["sync"] = errno.EIO
    initiator = connect(vdisk)
    outcome = initiator.send(cdbs.block(cdbs.WRITE, 16, 5, 1, FUA), DATA)
    assert_check_condition(outcome, "03/03/00", information=5)
    initiator.good(cdbs.block(cdbs.WRITE, 16, 5, 1), DATA)


@pytest.mark.parametrize(
    ("code", "expected", "information"),
    [
        (errno.EIO, "03/03/00", 5),
        (errno.EINVAL, "03/03/00", 5),
        (errno.ENOSPC, "07/27/07", None),
        (errno.EDQUOT, "07/27/07", None),
        (errno.EFBIG, "07/27/07", None),
        (errno.EROFS, "07/27/00", None),
        (errno.EPERM, "07/27/00", None),
    ],
)
@pytest.mark.parametrize("flags", [0, FUA])
def test_failed_write_is_told_by_its_errno_and_not_flushed(
    code: int, expected: str, information: int | None, flags: int
) -> None:
    vdisk = FaultyVdisk()
    vdisk.immediate_bytes = NOT_NOW
    vdisk.faults.errno_of["write"] = code
    outcome = connect(vdisk).send(cdbs.block(cdbs.WRITE, 16, 5, 1, flags), DATA)
    assert_check_condition(outcome, expected, information=information)
    assert "sync" not in vdisk.names


@pytest.mark.parametrize("width", WIDTHS)
def test_read_only_lun_refuses_writes_and_serves_reads(width: int) -> None:
    vdisk = FaultyVdisk()
    content = vdisk.fill()
    initiator = connect(vdisk, is_read_only=True)
    outcome = initiator.send(cdbs.block(cdbs.WRITE, width, 5, 1), DATA)
    assert_check_condition(outcome, "07/27/00")
    assert vdisk.data == content
    assert initiator.good(cdbs.block(cdbs.READ, width, 5, 1), None, 512) == content[2560:3072]


def test_one_fdatasync_serves_all_fua_writes_of_a_batch(open_fileio: OpenFileio) -> None:
    engine = ManualEngine()
    initiator = connect(open_fileio(64 * 512, engine))
    pending = [initiator.start(cdbs.block(cdbs.WRITE, 16, lba, 1, FUA), DATA) for lba in range(16)]
    for _ in range(16):
        engine.start()
        engine.finish()
    assert (len(engine.queued), [one.is_done for one in pending]) == (1, [False] * 16)
    engine.start()
    engine.finish()
    assert [one.outcome for one in pending] == [GOOD] * 16
    assert not engine.queued
