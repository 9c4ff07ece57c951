# SPDX-License-Identifier: GPL-2.0-or-later
"""The soft threshold: whom it is told to, how often, and what a full file system answers."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.handlers.vdisk import Space
from scsi_backend.handlers.vdisk_fileio import VdiskFileio
from scsi_backend.io.engine import SyncEngine
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.thin_threshold import ThinThreshold
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import assert_check_condition
from tests.scsi_backend.locking import join

MIB = 1 << 20
SOFT_THRESHOLD_REACHED = "06/38/07"


@pytest.fixture
def vdisk() -> FaultyVdisk:
    """A thin disk with a threshold of 10 MiB, and 11 left."""
    vdisk = FaultyVdisk(is_thin=True)
    vdisk.soft_threshold_bytes = 10 * MIB
    vdisk.space = Space(0, 11 * MIB)
    return vdisk


@pytest.fixture
def unit(vdisk: FaultyVdisk) -> LogicalUnit:
    return disk(vdisk)


@pytest.fixture
def threshold(unit: LogicalUnit) -> ThinThreshold:
    return ThinThreshold(unit)


def test_every_nexus_is_told_once(
    vdisk: FaultyVdisk, unit: LogicalUnit, threshold: ThinThreshold
) -> None:
    initiators = [join(unit), join(unit)]
    vdisk.space.available_bytes = 10 * MIB
    for _ in range(3):
        threshold.check()
    for initiator in initiators:
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), SOFT_THRESHOLD_REACHED)
        initiator.good(cdbs.TEST_UNIT_READY)
    threshold.check()
    for initiator in initiators:
        initiator.good(cdbs.TEST_UNIT_READY)


def test_nobody_is_told_above_the_threshold(unit: LogicalUnit, threshold: ThinThreshold) -> None:
    initiator = join(unit)
    threshold.check()
    initiator.good(cdbs.TEST_UNIT_READY)


def test_threshold_that_was_left_is_told_again_when_it_is_reached(
    vdisk: FaultyVdisk, unit: LogicalUnit, threshold: ThinThreshold
) -> None:
    initiator = join(unit)
    for _ in range(2):
        vdisk.space.available_bytes = 0
        threshold.check()
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), SOFT_THRESHOLD_REACHED)
        vdisk.space.available_bytes = 10 * MIB + 1
        threshold.check()
        initiator.good(cdbs.TEST_UNIT_READY)


def test_a_disk_without_threshold_is_not_measured() -> None:
    vdisk = FaultyVdisk(is_thin=True)
    ThinThreshold(disk(vdisk)).check()
    assert vdisk.log == []


def test_checks_do_not_overlap(vdisk: FaultyVdisk, threshold: ThinThreshold) -> None:
    vdisk.is_held = True
    for _ in range(3):
        threshold.check()
    assert vdisk.names == ["measure_space"]
    vdisk.release()
    threshold.check()
    assert vdisk.names == ["measure_space"] * 2


def test_space_that_cannot_be_measured_is_logged_and_tells_nothing(
    vdisk: FaultyVdisk,
    unit: LogicalUnit,
    threshold: ThinThreshold,
    caplog: pytest.LogCaptureFixture,
) -> None:
    initiator = join(unit)
    vdisk.space.available_bytes = 0
    vdisk.faults.errno_of["measure_space"] = errno.EIO
    with caplog.at_level(logging.ERROR):
        threshold.check()
    assert "faulty: free space: Input/output error" in caplog.text
    initiator.good(cdbs.TEST_UNIT_READY)
    vdisk.faults.errno_of.clear()
    threshold.check()
    assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), SOFT_THRESHOLD_REACHED)


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a tmpfs: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_file_system_that_fills_up_warns_and_then_refuses(small_tmpfs: Path) -> None:
    path = small_tmpfs / "disk"
    path.touch()
    os.truncate(path, 64 * MIB)
    words = {"filename": str(path), "thin_provisioned": "1", "tp_soft_threshold_mb": "4"}
    vdisk = VdiskFileio.open("thin", FileioAttributes.model_validate(words), SyncEngine())
    try:
        unit = disk(vdisk)
        initiator, threshold = join(unit), ThinThreshold(unit)
        for megabyte in range(4):
            threshold.check()
            initiator.good(cdbs.block(cdbs.WRITE, 16, megabyte * 2048, 2048), b"\xaa" * MIB)
        threshold.check()
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), SOFT_THRESHOLD_REACHED)
        for megabyte in range(4, 8):
            initiator.good(cdbs.block(cdbs.WRITE, 16, megabyte * 2048, 2048), b"\xaa" * MIB)
        full = initiator.send(cdbs.block(cdbs.WRITE, 16, 8 * 2048, 2048), b"\xaa" * MIB)
        assert_check_condition(full, "07/27/07")
        # What is stored can be written over, and what is given back can be used.
        initiator.good(cdbs.block(cdbs.WRITE, 16, 0, 2048), b"\xbb" * MIB)
        data = cdbs.unmap_list((2048, 2048))
        initiator.good(cdbs.unmap(len(data)), data)
        initiator.good(cdbs.block(cdbs.WRITE, 16, 8 * 2048, 2048), b"\xcc" * MIB)
        assert initiator.good(cdbs.block(cdbs.READ, 16, 2048, 1), None, 512) == bytes(512)
    finally:
        vdisk.close()
