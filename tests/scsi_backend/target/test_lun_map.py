# SPDX-License-Identifier: GPL-2.0-or-later
"""LUN map entries."""

from __future__ import annotations

import dataclasses

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.target.lun_map import MAX_LUN, LunEntry
from tests.scsi_backend.fakes import FaultyVdisk


def test_luns_have_14_bits() -> None:
    assert MAX_LUN == 16383


def test_entry_may_be_written_unless_it_says_otherwise() -> None:
    unit = disk(FaultyVdisk())
    assert not LunEntry(unit).is_read_only
    assert LunEntry(unit, is_read_only=True).is_read_only


def test_entry_cannot_be_changed() -> None:
    entry = LunEntry(disk(FaultyVdisk()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.is_read_only = True  # type: ignore[misc]
