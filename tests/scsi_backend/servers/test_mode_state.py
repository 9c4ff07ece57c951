# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode parameters of a unit: reset, and what may come between a change and its end."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.t10.mode_values import ModeValues
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import assert_check_condition
from tests.scsi_backend.locking import join
from tests.scsi_backend.modes import (
    CACHING_OFF,
    GOOD,
    SWP,
    TAS,
    Shelf,
    select,
    start,
)

WRITE_BACK = ModeValues(wce=True)
WRITE_THROUGH = ModeValues(wce=False)
CACHING_ON = "0812" + "04" + "00" * 17


def test_without_a_store_a_reset_restores_what_was_configured() -> None:
    unit = disk(FaultyVdisk())
    assert not unit.modes.can_save
    assert select(join(unit), CACHING_OFF + TAS) == GOOD
    unit.reset()
    assert unit.control == unit.modes.default == unit.modes.saved == WRITE_BACK


@pytest.mark.parametrize("saved", [None, WRITE_BACK])
def test_a_write_through_device_has_no_write_cache_after_a_reset(saved: ModeValues | None) -> None:
    vdisk = FaultyVdisk(write_through=True)
    unit = disk(vdisk, Shelf(saved))
    assert unit.control == WRITE_THROUGH
    assert unit.is_write_through
    assert select(join(unit), CACHING_ON) == GOOD
    assert not unit.is_write_through
    unit.reset()
    assert unit.control == WRITE_THROUGH
    assert unit.is_write_through


def test_what_is_saved_is_what_a_reset_restores() -> None:
    shelf = Shelf()
    unit = disk(FaultyVdisk(write_through=True), shelf)
    pending = start(join(unit), CACHING_ON + TAS, 0x11)
    shelf.answer()
    assert pending.outcome == GOOD
    assert unit.control == ModeValues(wce=True, tas=True)
    assert shelf.saved == unit.modes.saved == ModeValues(wce=False, tas=True)


def test_a_reset_that_ends_the_write_cache_flushes_it() -> None:
    vdisk = FaultyVdisk(write_through=True)
    unit = disk(vdisk)
    assert select(join(unit), CACHING_ON) == GOOD
    assert vdisk.names == []
    unit.reset()
    assert vdisk.names == ["sync"]


def test_a_reset_that_keeps_the_write_cache_flushes_nothing() -> None:
    vdisk = FaultyVdisk()
    unit = disk(vdisk)
    assert select(join(unit), TAS) == GOOD
    unit.reset()
    assert vdisk.names == []


def test_a_flush_of_a_reset_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    vdisk = FaultyVdisk(write_through=True)
    unit = disk(vdisk)
    assert select(join(unit), CACHING_ON) == GOOD
    vdisk.faults.errno_of["sync"] = errno.EIO
    unit.reset()
    assert caplog.messages == ["faulty: the flush of a reset failed: Input/output error"]


def test_a_change_that_fails_after_a_reset_takes_nothing_back() -> None:
    vdisk = FaultyVdisk()
    unit = disk(vdisk)
    initiator = join(unit)
    assert select(initiator, TAS) == GOOD
    vdisk.is_held = True
    pending = start(initiator, TAS[:8] + "08" + TAS[10:])
    unit.reset()
    vdisk.faults.errno_of["sync"] = errno.EIO
    vdisk.release()
    assert_check_condition(pending.outcome, "03/03/00", information=0)
    assert unit.control == WRITE_BACK


def test_a_reset_ends_what_waits_to_change_or_save_something() -> None:
    vdisk, shelf = FaultyVdisk(), Shelf()
    unit = disk(vdisk, shelf)
    one, other = join(unit), join(unit)
    vdisk.is_held = True
    first, second = start(one, SWP, 0x11), start(other, TAS, 0x11)
    unit.reset()
    vdisk.release()
    assert first.is_done
    assert second.is_done
    assert unit.control == WRITE_BACK
    assert shelf.waiting == []


def test_a_change_begins_with_what_the_one_before_it_left() -> None:
    vdisk = FaultyVdisk()
    unit = disk(vdisk)
    one, other = join(unit), join(unit)
    vdisk.is_held = True
    first, second = start(one, SWP), start(other, CACHING_OFF)
    vdisk.release_all()
    assert first.outcome == second.outcome == GOOD
    assert unit.control == ModeValues(wce=False, swp=True)
