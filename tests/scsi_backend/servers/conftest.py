# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for tests of the range lock: a disk that obeys the test, and two initiators.

It does nothing at once and performs its operations when the test releases them, so its log tells
which commands have begun.
"""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import Initiator
from tests.scsi_backend.locking import OLD, join


@pytest.fixture
def vdisk() -> FaultyVdisk:
    """A disk of 64 blocks that waits for ``release``."""
    vdisk = FaultyVdisk(64, is_thin=True)
    vdisk.data[:] = OLD * 64
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    return vdisk


@pytest.fixture
def unit(vdisk: FaultyVdisk) -> LogicalUnit:
    return disk(vdisk)


@pytest.fixture
def one(unit: LogicalUnit) -> Initiator:
    return join(unit)


@pytest.fixture
def other(unit: LogicalUnit) -> Initiator:
    return join(unit)
