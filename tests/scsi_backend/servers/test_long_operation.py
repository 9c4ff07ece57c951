# SPDX-License-Identifier: GPL-2.0-or-later
"""What a logical unit answers while it is formatted or sanitized, and when that has failed."""

from __future__ import annotations

import errno

import pytest

from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.handlers.vdisk_nullio import VdiskNullio
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.servers.task_attribute import TaskAttribute
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import (
    Initiator,
    Outcome,
    Pending,
    assert_check_condition,
    connect_unit,
)
from tests.scsi_backend.locking import NEW, OLD, begin, join, nexus_of, read, write

# Four writes of the operation's.
MEDIUM_BLOCKS = 4 * (8 << 20) // 512
OVERWRITE_LIST = bytes.fromhex("01000001") + b"\x55"
# Short header, FOV=0, IMMED.
IMMED_LIST = bytes.fromhex("00020000")
IN_PROGRESS = {"format": "02/04/04", "sanitize": "02/04/1b"}
GOOD = Outcome(Status.GOOD, None, b"")


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return FaultyVdisk(MEDIUM_BLOCKS)


@pytest.fixture
def unit(vdisk: FaultyVdisk) -> LogicalUnit:
    return disk(vdisk)


@pytest.fixture
def one(unit: LogicalUnit) -> Initiator:
    return join(unit)


@pytest.fixture
def other(unit: LogicalUnit) -> Initiator:
    return join(unit)


def overwrite(initiator: Initiator, flags: int = 0) -> Pending:
    """Send a SANITIZE OVERWRITE."""
    return initiator.start(cdbs.sanitize(cdbs.OVERWRITE, 5, flags), OVERWRITE_LIST)


def start(kind: str, initiator: Initiator, *, is_immediate: bool = False) -> Pending:
    """Begin to write to all of the medium."""
    if kind == "sanitize":
        return overwrite(initiator, 0x80 if is_immediate else 0)
    # FOV and IP: a pattern, which is written like SANITIZE's.
    data = bytes((0, 0x88 | is_immediate << 1, 0, 0)) + bytes.fromhex("00010001") + b"\x55"
    return initiator.start(cdbs.format_unit(0x10), data)


KINDS = pytest.mark.parametrize("kind", IN_PROGRESS)


@KINDS
def test_commands_are_told_how_far_it_is(
    kind: str, vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    vdisk.is_held = True
    pending = start(kind, one)
    for done in range(4):
        for initiator in (one, other):
            outcome = initiator.send(cdbs.TEST_UNIT_READY)
            assert_check_condition(outcome, IN_PROGRESS[kind], progress=done * 0x4000)
        vdisk.release()
    # All is written, and the flush under way.
    outcome = other.send(cdbs.TEST_UNIT_READY)
    assert_check_condition(outcome, IN_PROGRESS[kind], progress=0xFFFF)
    assert not pending.is_done
    vdisk.release()
    assert pending.outcome == GOOD
    assert vdisk.names == ["write"] * 4 + ["sync"]
    other.good(cdbs.TEST_UNIT_READY)
    assert vdisk.data == b"\x55" * MEDIUM_BLOCKS * 512


@KINDS
@pytest.mark.parametrize("opcode", range(256))
def test_inquiry_report_luns_and_request_sense_are_served_meanwhile_and_nothing_else(
    kind: str, opcode: int
) -> None:
    vdisk = FaultyVdisk(64, is_thin=True)
    unit = disk(vdisk)
    one, other = join(unit), join(unit)
    vdisk.is_held = True
    start(kind, one)
    outcome = other.send(bytes((opcode, 0x02 if opcode == 0x48 else 0)).ljust(16, b"\0"), b"", 96)
    if opcode not in unit.rows:
        assert_check_condition(outcome, "05/20/00", at=(0, None))
    elif opcode in (0x03, 0x12):
        assert outcome.status == Status.GOOD
    elif opcode == 0xA0:
        assert_check_condition(outcome, "05/24/00", at=(6, 7))
    else:
        assert_check_condition(outcome, IN_PROGRESS[kind], progress=0)
    assert vdisk.names == ["write"]


def test_report_luns_and_inquiry_give_their_data_meanwhile(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    before = other.good(cdbs.raw("120000006000"), None, 96)
    vdisk.is_held = True
    start("sanitize", one)
    assert other.good(cdbs.raw("120000006000"), None, 96) == before
    assert other.good(cdbs.raw("a00000000000000000100000"), None, 16).hex() == "00000008" + "0" * 24


@pytest.mark.parametrize(
    ("kind", "flags", "golden"),
    [
        ("format", 0, "700002000000000a000000000404" + "00804000"),
        ("format", 1, "7202040400000008" + "0206000080400000"),
        ("sanitize", 0, "700002000000000a00000000041b" + "00804000"),
        ("sanitize", 1, "7202041b00000008" + "0206000080400000"),
    ],
)
def test_request_sense_tells_the_progress(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, kind: str, flags: int, golden: str
) -> None:
    cdb = cdbs.raw(f"03{flags:02x}0000fc00")
    before = other.good(cdb, None, 252)
    vdisk.is_held = True
    start(kind, one)
    vdisk.release()
    assert other.good(cdb, None, 252).hex() == golden
    vdisk.release_all()
    assert other.good(cdb, None, 252) == before


def test_unit_attention_is_told_before_the_progress(unit: LogicalUnit, vdisk: FaultyVdisk) -> None:
    one, newcomer = join(unit), connect_unit(unit)
    vdisk.is_held = True
    start("sanitize", one)
    assert_check_condition(newcomer.send(cdbs.TEST_UNIT_READY), "06/29/00")
    outcome = newcomer.send(cdbs.TEST_UNIT_READY)
    assert_check_condition(outcome, "02/04/1b", progress=0)


@KINDS
def test_immediate_command_ends_before_the_operation(
    kind: str, vdisk: FaultyVdisk, one: Initiator
) -> None:
    vdisk.is_held = True
    pending = start(kind, one, is_immediate=True)
    assert pending.outcome == GOOD
    assert_check_condition(one.send(cdbs.TEST_UNIT_READY), IN_PROGRESS[kind], progress=0)
    vdisk.release_all()
    one.good(cdbs.TEST_UNIT_READY)
    assert vdisk.data == b"\x55" * MEDIUM_BLOCKS * 512


@KINDS
@pytest.mark.parametrize("is_immediate", [False, True])
def test_operation_outlives_the_session_that_began_it(
    unit: LogicalUnit, vdisk: FaultyVdisk, kind: str, is_immediate: bool
) -> None:
    one, other = join(unit), join(unit)
    vdisk.is_held = True
    start(kind, one, is_immediate=is_immediate)
    one.session.close()
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), IN_PROGRESS[kind], progress=0)
    vdisk.release_all()
    other.good(cdbs.TEST_UNIT_READY)
    assert vdisk.data == b"\x55" * MEDIUM_BLOCKS * 512


@KINDS
@pytest.mark.parametrize("is_immediate", [False, True])
def test_commands_that_came_before_end_before_the_medium_is_touched(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, kind: str, is_immediate: bool
) -> None:
    vdisk.immediate_bytes, vdisk.is_held = -errno.EAGAIN, True
    vdisk.data[: 64 * 512] = OLD * 64
    first, second = write(other, 0, NEW), begin(one, 1)
    # These wait for the COMPARE AND WRITE.
    third, fourth = write(other, 1, OLD), read(one, 1)
    operation = start(kind, one, is_immediate=is_immediate)
    late = write(other, 5, NEW)
    assert_check_condition(late.outcome, IN_PROGRESS[kind], progress=0)
    began = vdisk.names.count
    while not (first.is_done and second.is_done and third.is_done and fourth.is_done):
        assert began("write") <= 3
        assert_check_condition(other.send(cdbs.TEST_UNIT_READY), IN_PROGRESS[kind], progress=0)
        vdisk.release()
    assert [each.outcome.status for each in (first, second, third, fourth)] == [Status.GOOD] * 4
    assert operation.is_done is is_immediate
    vdisk.release_all()
    assert operation.outcome == GOOD
    assert vdisk.data == b"\x55" * MEDIUM_BLOCKS * 512
    assert nexus_of(one).outstanding == nexus_of(other).outstanding == set()


def test_a_second_operation_does_not_begin_while_one_is_under_way(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    vdisk.is_held = True
    start("sanitize", one)
    for kind in ("sanitize", "format"):
        assert_check_condition(start(kind, other).outcome, "02/04/1b", progress=0)
    assert len(vdisk.held) == 1


@KINDS
def test_table_is_as_before_when_it_has_ended(
    unit: LogicalUnit, vdisk: FaultyVdisk, kind: str
) -> None:
    one = join(unit)
    vdisk.is_held = True
    start(kind, one)
    assert nexus_of(one).dispatch is not unit.dispatch
    vdisk.release_all()
    assert nexus_of(one).dispatch is unit.dispatch
    assert unit.operation is None


@KINDS
@pytest.mark.parametrize("operation", ["write", "sync"])
def test_failure_is_told_with_its_cause_in_the_log(
    vdisk: FaultyVdisk,
    one: Initiator,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    operation: str,
) -> None:
    vdisk.faults.errno_of[operation] = errno.EIO
    expected = {"format": "03/31/01", "sanitize": "03/31/03"}[kind]
    assert_check_condition(start(kind, one).outcome, expected)
    name = {"format": "FORMAT UNIT", "sanitize": "SANITIZE OVERWRITE"}[kind]
    [message] = caplog.messages
    assert message.startswith(f"faulty: {name} failed: MEDIUM ERROR 03/00")


def test_failed_format_leaves_the_medium_corrupted_until_one_succeeds(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    vdisk.faults.errno_of["write_zeros"] = errno.EIO
    assert_check_condition(one.send(cdbs.FORMAT_UNIT), "03/31/01")
    for cdb in (cdbs.TEST_UNIT_READY, cdbs.block(cdbs.PRE_FETCH, 16, 0, 1)):
        assert_check_condition(other.send(cdb), "03/31/00")
    assert_check_condition(read(other, 0).outcome, "03/31/00")
    assert_check_condition(write(other, 0, NEW).outcome, "03/31/00")
    assert_check_condition(begin(other, 0).outcome, "03/31/00")
    assert other.good(
        cdbs.raw("030000001200"), None, 18
    ).hex() == "700003000000000a000000003100" + ("00" * 4)
    # What does not need the medium's contents is served.
    other.good(cdbs.raw("1a003f00ff00"), None, 255)
    other.good(cdbs.raw("25000000000000000000"), None, 8)
    vdisk.faults.errno_of.clear()
    other.good(cdbs.FORMAT_UNIT)
    one.good(cdbs.TEST_UNIT_READY)


def test_sanitize_mends_a_failed_format(vdisk: FaultyVdisk, one: Initiator) -> None:
    vdisk.faults.errno_of["write_zeros"] = errno.EIO
    assert_check_condition(one.send(cdbs.FORMAT_UNIT), "03/31/01")
    assert overwrite(one).outcome == GOOD
    one.good(cdbs.TEST_UNIT_READY)


def test_failure_of_an_immediate_format_is_a_deferred_error(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    vdisk.faults.errno_of["write_zeros"] = errno.EIO
    assert one.start(cdbs.format_unit(0x10), IMMED_LIST).outcome == GOOD
    assert_check_condition(one.send(cdbs.TEST_UNIT_READY), "03/31/01", deferred=True)
    assert_check_condition(one.send(cdbs.TEST_UNIT_READY), "03/31/00")
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "03/31/00")


def test_failed_sanitize_lets_nothing_at_the_medium(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    vdisk.faults.errno_of["write"] = errno.EIO
    assert_check_condition(overwrite(one).outcome, "03/31/03")
    for cdb in (cdbs.TEST_UNIT_READY, cdbs.FORMAT_UNIT, cdbs.raw("1a003f00ff00")):
        assert_check_condition(other.send(cdb, None, 255), "03/31/03")
    assert_check_condition(read(other, 0).outcome, "03/31/03")
    assert other.good(cdbs.raw("030000001200"), None, 18)[:13].hex() == "700003000000000a0000000031"
    other.good(cdbs.raw("120000006000"), None, 96)
    vdisk.faults.errno_of.clear()
    assert overwrite(other).outcome == GOOD
    one.good(cdbs.TEST_UNIT_READY)


def test_error_in_the_steps_is_a_failure_like_any_other(
    vdisk: FaultyVdisk, one: Initiator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(vdisk, "write", broken)
    assert_check_condition(overwrite(one).outcome, "03/31/03")
    assert_check_condition(one.send(cdbs.TEST_UNIT_READY), "03/31/03")


@KINDS
def test_stopped_operation_ends_with_the_piece_under_way(
    unit: LogicalUnit, vdisk: FaultyVdisk, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = join(unit)
    vdisk.is_held = True
    pending = start(kind, one)
    vdisk.release()
    assert unit.operation is not None
    unit.operation.stop()
    vdisk.release()
    assert vdisk.names == ["write", "write"]
    expected = {"format": "03/31/01", "sanitize": "03/31/03"}[kind]
    assert_check_condition(pending.outcome, expected)
    name = {"format": "FORMAT UNIT", "sanitize": "SANITIZE OVERWRITE"}[kind]
    assert caplog.messages == [f"faulty: {name} stopped, and will not go on"]


@KINDS
def test_a_disk_without_storage_has_nothing_to_do(kind: str) -> None:
    unit = disk(VdiskNullio("null", NullioAttributes(size_mb=8 << 20)))
    initiator = join(unit)
    assert start(kind, initiator).outcome == GOOD
    initiator.good(cdbs.TEST_UNIT_READY)


@KINDS
def test_an_operation_whose_turn_comes_while_another_is_under_way_is_refused(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator, kind: str
) -> None:
    vdisk.is_held, vdisk.immediate_bytes = True, NOT_NOW
    earlier = write(one, 0, NEW)
    late = Pending(cdbs.format_unit(0), None, None)
    one.session.submit(0, late.command, TaskAttribute.ORDERED)
    first = start(kind, other)
    vdisk.release_all()
    assert earlier.outcome == first.outcome == GOOD
    assert_check_condition(late.outcome, IN_PROGRESS[kind], progress=0)
    assert vdisk.data == b"\x55" * MEDIUM_BLOCKS * 512
    other.good(cdbs.TEST_UNIT_READY)


def test_exit_failure_mode_does_not_end_an_operation_that_is_under_way(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    vdisk.is_held, vdisk.immediate_bytes = True, NOT_NOW
    write(one, 0, NEW)
    late = Pending(cdbs.sanitize(cdbs.EXIT_FAILURE_MODE), None, None)
    one.session.submit(0, late.command, TaskAttribute.ORDERED)
    overwrite(other, 0x20)
    vdisk.release()
    assert late.outcome == GOOD
    assert_check_condition(other.send(cdbs.TEST_UNIT_READY), "02/04/1b", progress=0)


def test_what_waited_for_the_same_command_begins_once_and_when_the_operation_has_ended(
    vdisk: FaultyVdisk, one: Initiator, other: Initiator
) -> None:
    vdisk.data[:512] = OLD
    vdisk.is_held, vdisk.immediate_bytes = True, NOT_NOW
    first = begin(one, 0)
    format_unit = Pending(cdbs.format_unit(0), None, None)
    one.session.submit(0, format_unit.command, TaskAttribute.ORDERED)
    late = read(other, 0)
    while not first.is_done:
        vdisk.release()
    assert (format_unit.is_done, late.is_done) == (False, False)
    assert vdisk.names.count("read_now") == 1
    vdisk.release_all()
    assert format_unit.outcome == GOOD
    assert late.outcome == Outcome(Status.GOOD, None, bytes(512))
