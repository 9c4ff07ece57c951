# SPDX-License-Identifier: GPL-2.0-or-later
"""MODE SELECT: some values can be changed, everything else only be sent back as it is.

What a change of the control mode page does is in test_spc_mode_select_control.py.
"""

from __future__ import annotations

import errno

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import (
    Initiator,
    Outcome,
    Pending,
    assert_check_condition,
    connect,
    connect_unit,
)

WRITE_BACK = "0812" + "04" + "00" * 17
WRITE_THROUGH = "0812" + "00" * 18
CONTROL = "0a0a" + "201000000000" + "ffff0000"
DISCONNECT = "020e" + "00" * 14
EXTENSION = "4a01001c" + "01" + "00" * 27
HEADER_6, HEADER_10 = "00000000", "0000000000000000"
SHORT = "00000400" + "00000200"
LONG = "0000000000000400" + "00000000" + "00000200"


def select(initiator: Initiator, form: int, data: str, flags: int = 0x10) -> Outcome:
    """MODE SELECT of a list in hex."""
    body = bytes.fromhex(data)
    if form == 6:
        cdb = cdbs.raw(f"15{flags:02x}0000{len(body):02x}00")
    else:
        cdb = cdbs.raw(f"55{flags:02x}0000000000{len(body):04x}00")
    return initiator.send(cdb, body)


def has_write_cache(initiator: Initiator) -> bool:
    """WCE, as MODE SENSE shows it."""
    return bool(initiator.good(cdbs.raw("1a080800ff00"), None, 255)[6] & 0x04)


GOOD = Outcome(Status.GOOD, None, b"")


@pytest.mark.parametrize(("form", "header"), [(6, HEADER_6), (10, HEADER_10)])
def test_wce_goes_off_and_on_again(form: int, header: str) -> None:
    vdisk = FaultyVdisk()
    initiator = connect(vdisk)
    assert select(initiator, form, header + WRITE_THROUGH) == GOOD
    assert not has_write_cache(initiator)
    assert vdisk.names == ["sync"]
    initiator.good(cdbs.block(cdbs.WRITE, 16, 7, 1), bytes(512))
    assert vdisk.names == ["sync", "write_now", "sync"]
    assert select(initiator, form, header + WRITE_BACK) == GOOD
    assert has_write_cache(initiator)
    initiator.good(cdbs.block(cdbs.WRITE, 16, 7, 1), bytes(512))
    assert vdisk.names == ["sync", "write_now", "sync", "write_now"]


def test_default_value_stays_what_was_configured() -> None:
    for vdisk, golden in (
        (FaultyVdisk(), WRITE_BACK),
        (FaultyVdisk(write_through=True), WRITE_THROUGH),
    ):
        initiator = connect(vdisk)
        other = WRITE_THROUGH if golden == WRITE_BACK else WRITE_BACK
        assert select(initiator, 6, HEADER_6 + other) == GOOD
        assert initiator.good(cdbs.raw("1a088800ff00"), None, 255).hex()[8:] == golden
        assert initiator.good(cdbs.raw("1a080800ff00"), None, 255).hex()[8:] == other


def test_the_other_nexuses_hear_of_a_change_and_only_of_a_change() -> None:
    unit = disk(FaultyVdisk())
    one, other = connect_unit(unit), connect_unit(unit)
    for initiator in (one, other):
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "06/29/00")
    assert select(one, 6, HEADER_6 + WRITE_BACK) == GOOD
    other.good(cdbs.TEST_UNIT_READY)
    assert select(one, 6, HEADER_6 + WRITE_THROUGH) == GOOD
    one.good(cdbs.TEST_UNIT_READY)
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2a/01")
    other.good(cdbs.TEST_UNIT_READY)


def test_a_flush_that_fails_leaves_the_cache_on() -> None:
    vdisk = FaultyVdisk()
    initiator = connect(vdisk)
    vdisk.faults.errno_of["sync"] = errno.EIO
    outcome = select(initiator, 6, HEADER_6 + WRITE_THROUGH)
    assert_check_condition(outcome, "03/03/00", information=0)
    assert has_write_cache(initiator)


def test_while_the_flush_runs_new_writes_are_stable_already() -> None:
    vdisk = FaultyVdisk()
    initiator = connect(vdisk)
    vdisk.is_held = True
    pending = initiator.start(cdbs.raw("151000001800"), bytes.fromhex(HEADER_6 + WRITE_THROUGH))
    assert not pending.is_done
    write = initiator.start(cdbs.block(cdbs.WRITE, 16, 7, 1), bytes(512))
    assert not write.is_done
    vdisk.release_all()
    assert pending.outcome == write.outcome == GOOD


def _start(initiator: Initiator, data: str) -> Pending:
    body = bytes.fromhex(data)
    return initiator.start(cdbs.raw(f"15100000{len(body):02x}00"), body)


def _two_initiators(vdisk: FaultyVdisk) -> tuple[Initiator, Initiator]:
    unit = disk(vdisk)
    both = connect_unit(unit), connect_unit(unit)
    for initiator in both:
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "06/29/00")
    return both


def test_a_second_change_waits_for_the_flush_of_the_first() -> None:
    vdisk = FaultyVdisk()
    one, other = _two_initiators(vdisk)
    vdisk.is_held = True
    first, second = _start(one, HEADER_6 + WRITE_THROUGH), _start(other, HEADER_6 + WRITE_THROUGH)
    assert not first.is_done
    assert not second.is_done
    vdisk.release()
    assert first.outcome == second.outcome == GOOD
    assert vdisk.names == ["sync"]


def test_a_second_change_is_told_that_the_cache_cannot_be_flushed() -> None:
    vdisk = FaultyVdisk()
    one, other = _two_initiators(vdisk)
    vdisk.is_held = True
    vdisk.faults.errno_of["sync"] = errno.EIO
    first, second = _start(one, HEADER_6 + WRITE_THROUGH), _start(other, HEADER_6 + WRITE_THROUGH)
    vdisk.release()
    assert_check_condition(first.outcome, "03/03/00", information=0)
    assert not second.is_done
    vdisk.release()
    assert_check_condition(second.outcome, "03/03/00", information=0)
    assert vdisk.has_volatile_cache


def test_who_has_seen_the_cache_off_hears_that_it_is_on_again() -> None:
    vdisk = FaultyVdisk()
    one, other = _two_initiators(vdisk)
    vdisk.is_held = True
    vdisk.faults.errno_of["sync"] = errno.EIO
    first = _start(one, HEADER_6 + WRITE_THROUGH)
    assert not has_write_cache(other)
    vdisk.release()
    assert_check_condition(first.outcome, "03/03/00", information=0)
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "06/2a/01")
    assert has_write_cache(other)
    one.good(cdbs.TEST_UNIT_READY)


def test_a_list_with_the_control_page_waits_too_and_has_nothing_to_flush() -> None:
    vdisk = FaultyVdisk()
    one, other = _two_initiators(vdisk)
    vdisk.is_held = True
    first, second = _start(one, HEADER_6 + WRITE_THROUGH), _start(other, HEADER_6 + CONTROL)
    assert not second.is_done
    vdisk.faults.errno_of["sync"] = errno.EIO
    vdisk.release()
    assert_check_condition(first.outcome, "03/03/00", information=0)
    assert second.outcome == GOOD
    assert vdisk.has_volatile_cache


def test_a_list_without_a_changeable_page_waits_for_nobody() -> None:
    vdisk = FaultyVdisk()
    one, other = _two_initiators(vdisk)
    vdisk.is_held = True
    first, second = _start(one, HEADER_6 + WRITE_THROUGH), _start(other, HEADER_6 + DISCONNECT)
    assert not first.is_done
    assert second.outcome == GOOD


@pytest.mark.parametrize(
    "vdisk", [FaultyVdisk(nv_cache=True), FaultyVdisk(read_only=True)], ids=["nv", "read-only"]
)
def test_without_anything_to_flush_wce_cannot_be_changed(vdisk: FaultyVdisk) -> None:
    initiator = connect(vdisk)
    assert select(initiator, 6, HEADER_6 + WRITE_THROUGH) == GOOD
    outcome = select(initiator, 6, HEADER_6 + WRITE_BACK)
    assert_check_condition(outcome, "05/26/00", at=(6, 2), in_cdb=False)
    assert initiator.good(cdbs.raw("1a084800ff00"), None, 255).hex()[8:] == WRITE_THROUGH


def test_through_a_read_only_lun_wce_cannot_be_changed() -> None:
    initiator = connect(FaultyVdisk(), is_read_only=True)
    outcome = select(initiator, 6, HEADER_6 + WRITE_THROUGH)
    assert_check_condition(outcome, "05/26/00", at=(6, 2), in_cdb=False)
    assert initiator.good(cdbs.raw("1a084800ff00"), None, 255).hex()[8:] == WRITE_THROUGH


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (6, HEADER_6),
        (6, "ff009000" + CONTROL),
        (6, "00000008" + SHORT),
        (6, "00000008" + SHORT + CONTROL + WRITE_BACK),
        (6, "00000008" + "00000000" + "00000200" + WRITE_BACK),
        (6, "00000008" + "ffffffff" + "00000200"),
        # PS, which MODE SENSE may have set, is reserved here.
        (6, HEADER_6 + "88" + WRITE_BACK[2:]),
        (10, HEADER_10 + CONTROL + WRITE_BACK),
        (6, HEADER_6 + DISCONNECT + CONTROL + EXTENSION + "1c0a08" + "00" * 9),
        (10, "ffff009000000008" + SHORT + WRITE_BACK),
        (10, "0000000001000010" + LONG + WRITE_BACK),
        (10, "0000000001000010" + "f" * 16 + LONG[16:]),
    ],
)
def test_what_is_sent_back_as_it_was_is_good(form: int, data: str) -> None:
    vdisk = FaultyVdisk()
    assert select(connect(vdisk), form, data) == GOOD
    assert vdisk.names == []


def test_a_list_of_no_bytes_changes_nothing() -> None:
    initiator = connect(FaultyVdisk())
    assert select(initiator, 6, "") == select(initiator, 10, "") == GOOD


@pytest.mark.parametrize(("flags", "at"), [(0x00, (1, 4)), (0x11, (1, 0)), (0x12, (1, 1))])
@pytest.mark.parametrize("form", [6, 10])
def test_pf_is_needed_and_nothing_is_saved_or_reverted(
    form: int, flags: int, at: tuple[int, int]
) -> None:
    outcome = select(connect(FaultyVdisk()), form, HEADER_10 + WRITE_THROUGH, flags)
    assert_check_condition(outcome, "05/24/00", at=at)


@pytest.mark.parametrize(
    ("form", "data", "at"),
    [
        (6, "00010000", (1, 7)),
        (10, "0000010000000000", (2, 7)),
        (6, "00000007" + SHORT, (3, 7)),
        (6, "00000010" + SHORT * 2, (3, 7)),
        (10, "0000000001000008" + SHORT, (6, 7)),
        (10, "0000000000000010" + LONG, (6, 7)),
        (6, "00000008" + "00000200" + "00000200", (4, 7)),
        (6, "00000008" + "00000400" + "00001000", (9, 7)),
        (10, "0000000001000010" + "0000000000000200" + LONG[16:], (8, 7)),
        (10, "0000000001000010" + LONG[:24] + "00001000", (20, 7)),
        # A subpage that there is none of, the form with subpage zero, a page that there is none of.
        (6, HEADER_6 + "48010010" + "00" * 16, (5, 7)),
        (6, HEADER_6 + "4a00000a" + "00" * 10, (5, 7)),
        (6, HEADER_6 + "45010010" + "00" * 16, (4, 5)),
        (6, HEADER_6 + "0012" + "00" * 18, (4, 5)),
        (6, HEADER_6 + EXTENSION[:4] + "001b" + EXTENSION[8:], (6, 7)),
        (6, HEADER_6 + EXTENSION[:8] + "03" + "00" * 27, (8, 1)),
        (6, HEADER_6 + WRITE_THROUGH + "020e01" + "00" * 13, (26, 0)),
        (6, HEADER_6 + "3f12" + "00" * 18, (4, 5)),
        (6, HEADER_6 + "0813" + "00" * 19, (5, 7)),
        (6, HEADER_6 + "0811", (5, 7)),
        (6, HEADER_6 + "0812" + "05" + "00" * 17, (6, 0)),
        (6, HEADER_6 + "0812" + "00" * 17 + "80", (23, 7)),
        (6, HEADER_6 + WRITE_THROUGH + "0a0a" + "001000000000" + "ffff0000", (26, 5)),
        (10, HEADER_10 + "0812" + "14" + "00" * 17, (10, 4)),
    ],
)
def test_what_cannot_be_changed_is_pointed_at_and_nothing_takes_effect(
    form: int, data: str, at: tuple[int, int]
) -> None:
    vdisk = FaultyVdisk()
    initiator = connect(vdisk)
    assert_check_condition(select(initiator, form, data), "05/26/00", at=at, in_cdb=False)
    assert has_write_cache(initiator)
    assert vdisk.names == []


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (6, "000000"),
        (10, "00000000000000"),
        (6, "00000008" + SHORT[:14]),
        (6, HEADER_6 + "08"),
        (6, HEADER_6 + "0812"),
        (6, HEADER_6 + WRITE_THROUGH + "4a"),
        (6, HEADER_6 + WRITE_THROUGH + EXTENSION[:4]),
        (6, HEADER_6 + WRITE_THROUGH + EXTENSION[:-2]),
        (6, HEADER_6 + WRITE_THROUGH[:-2]),
        (6, HEADER_6 + WRITE_THROUGH + CONTROL[:-2]),
    ],
)
def test_a_list_that_ends_too_early_is_a_length_error(form: int, data: str) -> None:
    initiator = connect(FaultyVdisk())
    assert_check_condition(select(initiator, form, data), "05/1a/00")
    assert has_write_cache(initiator)


def test_less_data_than_the_cdb_says_is_a_data_phase_error() -> None:
    outcome = connect(FaultyVdisk()).send(cdbs.raw("151000001800"), bytes(23))
    assert_check_condition(outcome, "0b/4b/00")
