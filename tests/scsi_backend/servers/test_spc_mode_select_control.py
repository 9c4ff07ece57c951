# SPDX-License-Identifier: GPL-2.0-or-later
"""MODE SELECT of the control mode page, and of values that are saved."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.mode_values import ModeValues
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import assert_check_condition, connect_unit
from tests.scsi_backend.locking import join
from tests.scsi_backend.modes import (
    CACHING_OFF,
    D_SENSE,
    GOOD,
    NOTHING,
    SWP,
    TAS,
    Shelf,
    control,
    select,
    shown,
    start,
)


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk()


@pytest.fixture
def unit(vdisk: FaultyVdisk) -> LogicalUnit:
    return disk(vdisk)


@pytest.mark.parametrize(
    ("page", "values"),
    [
        (D_SENSE, ModeValues(wce=True, d_sense=True)),
        (control(byte_3=0x00), ModeValues(wce=True, queue_algorithm_modifier=0)),
        (control(byte_3=0x12), ModeValues(wce=True, qerr=1)),
        (control(byte_3=0x16), ModeValues(wce=True, qerr=3)),
        (SWP, ModeValues(wce=True, swp=True)),
        (TAS, ModeValues(wce=True, tas=True)),
        (control(0x24, 0x06, 0x08, 0x40), ModeValues(True, True, True, 3, True, 0)),
    ],
)
def test_each_value_is_in_force_is_shown_is_told_and_goes_back(
    unit: LogicalUnit, page: str, values: ModeValues
) -> None:
    one, other = join(unit), join(unit)
    for sent, expected in ((page, values), (NOTHING, ModeValues(wce=True))):
        assert select(one, sent) == GOOD
        assert unit.control == expected
        assert shown(one, "0a") == sent
        assert shown(one, "8a") == NOTHING
        one.good(cdbs.TEST_UNIT_READY)
        outcome = other.send(cdbs.TEST_UNIT_READY)
        assert outcome.sense is not None
        assert (outcome.sense.key, outcome.sense.code) == (6, 0x2A01)
        other.good(cdbs.TEST_UNIT_READY)


@pytest.mark.parametrize(
    ("page", "at"),
    [
        # QERR 10b, and reserved queue algorithm modifiers.
        (control(byte_3=0x14), (27, 2)),
        (control(byte_3=0x20), (27, 7)),
        (control(byte_3=0xF0), (27, 7)),
        # TST, TMF_ONLY, DPICZ, GLTSD, RLEC.
        (control(0x00), (26, 5)),
        (control(0x30), (26, 4)),
        (control(0x28), (26, 3)),
        (control(0x22), (26, 1)),
        (control(0x21), (26, 0)),
        # UA_INTLCK_CTRL, ATO.
        (control(byte_4=0x10), (28, 4)),
        (control(byte_5=0x80), (29, 7)),
        # SWP is good, the busy timeout period is not.
        ("0a0a" + "201008000000" + "fffe0000", (33, 0)),
    ],
)
def test_a_value_that_cannot_be_is_pointed_at_and_nothing_takes_effect(
    unit: LogicalUnit, vdisk: FaultyVdisk, page: str, at: tuple[int, int]
) -> None:
    initiator = join(unit)
    outcome = select(initiator, CACHING_OFF + page)
    assert_check_condition(outcome, "05/26/00", at=at, in_cdb=False)
    assert unit.control == ModeValues(wce=True)
    assert (vdisk.names, vdisk.has_volatile_cache) == ([], True)


def test_the_last_page_of_a_kind_decides(unit: LogicalUnit) -> None:
    assert select(join(unit), TAS + D_SENSE) == GOOD
    assert unit.control == ModeValues(wce=True, d_sense=True)


def test_descriptor_sense_is_what_commands_end_with(unit: LogicalUnit) -> None:
    initiator = join(unit)
    failed = initiator.start(cdbs.raw("1a080000ff00"), None, 255)
    assert failed.command.encoded_sense().hex()[:2] == "70"
    assert select(initiator, D_SENSE) == GOOD
    failed = initiator.start(cdbs.raw("1a080000ff00"), None, 255)
    assert failed.command.encoded_sense().hex() == "7205240000000008" + "02060000cd000200"


def test_software_write_protection_holds_for_all_until_it_is_lifted(
    unit: LogicalUnit, vdisk: FaultyVdisk
) -> None:
    one, other = join(unit), join(unit)
    write = cdbs.block(cdbs.WRITE, 16, 7, 1)
    assert select(one, SWP) == GOOD
    assert vdisk.names == ["sync"]
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2a/01")
    for initiator in (one, other):
        assert_check_condition(initiator.send(write, bytes(512)), "07/27/02")
        assert len(initiator.good(cdbs.block(cdbs.READ, 16, 7, 1), None, 512)) == 512
        assert initiator.good(cdbs.raw("1a080a00ff00"), None, 255)[2] == 0x90
        assert shown(initiator, "4a") == "0a0a" + "04f60840" + "00" * 6
    assert "write_now" not in vdisk.names
    assert select(other, NOTHING) == GOOD
    assert_check_condition(one.send(cdbs.TEST_UNIT_READY), "06/2a/01")
    assert one.good(cdbs.raw("1a080a00ff00"), None, 255)[2] == 0x10
    one.good(write, bytes(512))


def test_what_was_written_is_stable_before_software_write_protection_is_told(
    unit: LogicalUnit, vdisk: FaultyVdisk
) -> None:
    initiator = join(unit)
    vdisk.is_held = True
    pending = start(initiator, SWP)
    assert not pending.is_done
    write = cdbs.block(cdbs.WRITE, 16, 7, 1)
    assert_check_condition(initiator.send(write, bytes(512)), "07/27/02")
    vdisk.faults.errno_of["sync"] = errno.EIO
    vdisk.release()
    assert_check_condition(pending.outcome, "03/03/00", information=0)
    assert not unit.control.swp
    initiator.good(write, bytes(512))


def marked(page: str) -> str:
    """The page with PS set."""
    return f"{int(page[:2], 16) | 0x80:02x}" + page[2:]


def test_saved_values_are_shown_once_they_are_stored(vdisk: FaultyVdisk) -> None:
    shelf = Shelf()
    unit = disk(vdisk, shelf)
    initiator = join(unit)
    assert [shown(initiator, code) for code in ("ca", "0a")] == [marked(NOTHING)] * 2
    assert shown(initiator, "c1") == "010a" + "00" * 10
    pending = start(initiator, TAS, 0x11)
    assert not pending.is_done
    assert shown(initiator, "ca") == marked(NOTHING)
    shelf.answer()
    assert pending.outcome == GOOD
    assert [shown(initiator, code) for code in ("ca", "0a")] == [marked(TAS)] * 2
    assert shown(initiator, "8a") == marked(NOTHING)
    assert shown(initiator, "4a") == marked("0a0a" + "04f60840" + "00" * 6)
    assert shelf.saved == ModeValues(wce=True, tas=True)


def test_all_values_in_force_are_saved_even_without_a_list(vdisk: FaultyVdisk) -> None:
    shelf = Shelf()
    unit = disk(vdisk, shelf)
    one, other = join(unit), join(unit)
    assert select(one, D_SENSE) == GOOD
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2a/01")
    assert shelf.waiting == []
    pending = one.start(cdbs.raw("1511" + "00" * 4))
    shelf.answer()
    assert pending.outcome == GOOD
    assert shelf.saved == ModeValues(wce=True, d_sense=True)
    other.good(cdbs.TEST_UNIT_READY)


def test_a_save_that_fails_changes_nothing(vdisk: FaultyVdisk) -> None:
    shelf = Shelf()
    shelf.error = errno.ENOSPC
    unit = disk(vdisk, shelf)
    initiator = join(unit)
    pending = start(initiator, CACHING_OFF + SWP, 0x11)
    shelf.answer()
    assert_check_condition(pending.outcome, "04/44/00")
    assert unit.control == ModeValues(wce=True)
    assert unit.modes.saved == ModeValues(wce=True)
    assert not unit.is_write_protected
    assert vdisk.has_volatile_cache


def test_a_list_that_cannot_be_is_not_saved(vdisk: FaultyVdisk) -> None:
    shelf = Shelf()
    initiator = join(disk(vdisk, shelf))
    outcome = select(initiator, control(byte_3=0x14), 0x11)
    assert_check_condition(outcome, "05/26/00", at=(7, 2), in_cdb=False)
    assert shelf.waiting == []


def test_whoever_may_not_write_saves_nothing(vdisk: FaultyVdisk) -> None:
    unit = disk(vdisk, Shelf())
    reader = connect_unit(unit, is_read_only=True)
    assert_check_condition(reader.send(cdbs.TEST_UNIT_READY), "06/29/00")
    assert_check_condition(select(reader, marked(NOTHING), 0x11), "05/24/00", at=(1, 0))


def test_a_unit_begins_with_its_saved_values(vdisk: FaultyVdisk) -> None:
    saved = ModeValues(wce=False, swp=True, qerr=1)
    unit = disk(vdisk, Shelf(saved))
    assert unit.control == saved
    assert (unit.is_write_through, vdisk.has_volatile_cache) == (True, False)
    initiator = join(unit)
    write = cdbs.block(cdbs.WRITE, 16, 7, 1)
    assert_check_condition(initiator.send(write, bytes(512)), "07/27/02")
    assert shown(initiator, "88") == marked("0812" + "04" + "00" * 17)


def test_a_reset_restores_what_was_saved(vdisk: FaultyVdisk) -> None:
    saved = ModeValues(wce=True, tas=True)
    unit = disk(vdisk, Shelf(saved))
    initiator = join(unit)
    assert select(initiator, CACHING_OFF + SWP) == GOOD
    unit.reset()
    assert unit.control == saved
    assert (unit.is_write_through, vdisk.has_volatile_cache) == (False, True)
    initiator.good(cdbs.block(cdbs.WRITE, 16, 7, 1), bytes(512))


def test_read_only_device_stays_so_whatever_was_saved() -> None:
    unit = disk(FaultyVdisk(read_only=True), Shelf(ModeValues(wce=True, swp=True)))
    initiator = join(unit)
    write = cdbs.block(cdbs.WRITE, 16, 7, 1)
    assert_check_condition(initiator.send(write, bytes(512)), "07/27/00")
    unit.modes.put(replace(unit.control, swp=False))
    assert_check_condition(initiator.send(write, bytes(512)), "07/27/00")
