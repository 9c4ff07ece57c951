# SPDX-License-Identifier: GPL-2.0-or-later
"""I_T_L nexuses: unit attentions, write protection, and errors of the device server itself."""

from __future__ import annotations

import logging

import pytest

from scsi_backend.servers.command import Command
from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10 import sense
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.status import Status
from scsi_backend.target.nexus import ItlNexus
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import (
    Initiator,
    assert_check_condition,
    connect,
    connect_unit,
)

EXEMPT = {0x03, 0x12, 0xA0}
INQUIRY = cdbs.raw("120000002400")
REQUEST_SENSE = cdbs.raw("03000000fc00")
REPORT_LUNS = cdbs.raw("a00000000000000000ff0000")


@pytest.fixture
def unit() -> LogicalUnit:
    return disk(FaultyVdisk(is_thin=True))


@pytest.fixture
def fresh(unit: LogicalUnit) -> Initiator:
    """An initiator that has not sent anything yet."""
    return connect_unit(unit)


def nexus_of(initiator: Initiator) -> ItlNexus:
    """The nexus to LUN 0."""
    return initiator.session.nexuses[0]


def test_new_nexus_reports_power_on_once(fresh: Initiator) -> None:
    assert_check_condition(fresh.send(cdbs.TEST_UNIT_READY), "06/29/00")
    fresh.good(cdbs.TEST_UNIT_READY)


@pytest.mark.parametrize("opcode", sorted(set(range(256)) - EXEMPT))
def test_unit_attention_comes_before_any_other_answer(fresh: Initiator, opcode: int) -> None:
    outcome = fresh.send(bytes([opcode]).ljust(16, b"\0"), bytes(128 << 10), 128 << 10)
    assert_check_condition(outcome, "06/29/00")


def test_command_that_reports_a_unit_attention_is_not_executed(unit: LogicalUnit) -> None:
    vdisk = unit.vdisk
    assert isinstance(vdisk, FaultyVdisk)
    before = vdisk.fill()
    cdb = cdbs.block(cdbs.WRITE, 16, 0, 1)
    assert_check_condition(connect_unit(unit).send(cdb, b"\xaa" * 512), "06/29/00")
    assert vdisk.data == before
    assert vdisk.log == []


def test_inquiry_and_report_luns_neither_report_nor_clear_it(fresh: Initiator) -> None:
    assert len(fresh.good(INQUIRY, None, 36)) == 36
    assert len(fresh.good(REPORT_LUNS, None, 255)) == 16
    assert_check_condition(fresh.send(cdbs.TEST_UNIT_READY), "06/29/00")


def test_request_sense_returns_and_clears_it(fresh: Initiator) -> None:
    data = fresh.good(REQUEST_SENSE, None, 252)
    assert data.hex() == "700006000000000a00000000290000000000"
    assert fresh.good(REQUEST_SENSE, None, 252).hex() == "700000000000000a" + "00" * 10
    fresh.good(cdbs.TEST_UNIT_READY)


def test_request_sense_returns_it_in_descriptor_format(fresh: Initiator) -> None:
    data = fresh.good(cdbs.raw("03010000fc00"), None, 252)
    assert data.hex() == "7206290000000000"


def test_unit_attentions_are_reported_in_order_and_without_duplicates(fresh: Initiator) -> None:
    nexus = nexus_of(fresh)
    for each in (sense.CAPACITY_CHANGED, sense.REPORTED_LUNS_CHANGED, sense.CAPACITY_CHANGED):
        nexus.establish_unit_attention(each)
    for expected in ("06/29/00", "06/2A/09", "06/3F/0E"):
        assert_check_condition(fresh.send(cdbs.TEST_UNIT_READY), expected)
    fresh.good(cdbs.TEST_UNIT_READY)


def test_unit_attention_is_reported_again_when_it_happens_again(fresh: Initiator) -> None:
    fresh.send(cdbs.TEST_UNIT_READY)
    for _ in range(2):
        nexus_of(fresh).establish_unit_attention(sense.CAPACITY_CHANGED)
        assert_check_condition(fresh.send(cdbs.TEST_UNIT_READY), "06/2A/09")
        fresh.good(cdbs.TEST_UNIT_READY)


def test_every_nexus_hears_of_a_resize_and_reports_it_itself(unit: LogicalUnit) -> None:
    initiators = [connect_unit(unit) for _ in range(3)]
    for initiator in initiators:
        initiator.send(cdbs.TEST_UNIT_READY)
    vdisk = unit.vdisk
    assert isinstance(vdisk, FaultyVdisk)
    vdisk.new_block_count = 512
    assert unit.resync_size()
    assert not unit.resync_size()
    for initiator in initiators:
        assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "06/2A/09")
        initiator.good(cdbs.TEST_UNIT_READY)


def test_closed_nexus_hears_of_nothing(unit: LogicalUnit) -> None:
    staying, leaving = connect_unit(unit), connect_unit(unit)
    nexus = nexus_of(leaving)
    leaving.session.close()
    unit.raise_unit_attention(sense.CAPACITY_CHANGED)
    attentions = [nexus.take_unit_attention(), nexus.take_unit_attention()]
    assert attentions == [sense.RESET_OCCURRED, None]
    assert_check_condition(staying.send(cdbs.TEST_UNIT_READY), "06/29/00")
    assert_check_condition(staying.send(cdbs.TEST_UNIT_READY), "06/2A/09")


@pytest.mark.parametrize("way", ["take", "drop", "report", "request sense"])
def test_commands_work_again_once_the_last_attention_is_gone(unit: LogicalUnit, way: str) -> None:
    initiator = connect_unit(unit)
    nexus = nexus_of(initiator)
    if way == "take":
        assert nexus.take_unit_attention() == sense.RESET_OCCURRED
    elif way == "drop":
        nexus.drop_unit_attention(sense.CAPACITY_CHANGED)
        nexus.drop_unit_attention(sense.RESET_OCCURRED)
    elif way == "report":
        initiator.send(cdbs.TEST_UNIT_READY)
    else:
        initiator.good(REQUEST_SENSE, None, 18)
    initiator.good(cdbs.block(cdbs.WRITE, 16, 0, 1), b"\xaa" * 512)
    assert initiator.good(cdbs.block(cdbs.READ, 16, 0, 1), None, 512) == b"\xaa" * 512
    for opcode in sorted(set(range(256)) - set(Opcode)):
        outcome = initiator.send(bytes([opcode]).ljust(16, b"\0"))
        assert_check_condition(outcome, "05/20/00", at=(0, None))


def test_attention_of_a_read_only_lun_comes_before_its_write_protection(
    unit: LogicalUnit,
) -> None:
    initiator = connect_unit(unit, is_read_only=True)
    write = cdbs.block(cdbs.WRITE, 16, 0, 1)
    assert_check_condition(initiator.send(write, b"\xaa" * 512), "06/29/00")
    assert_check_condition(initiator.send(write, b"\xaa" * 512), "07/27/00")
    nexus_of(initiator).establish_unit_attention(sense.CAPACITY_CHANGED)
    assert_check_condition(initiator.send(write, b"\xaa" * 512), "06/2A/09")
    assert_check_condition(initiator.send(write, b"\xaa" * 512), "07/27/00")


@pytest.mark.parametrize("cdb", ["0a", "2a", "aa", "8a", "41", "93", "42", "89"])
def test_read_only_lun_refuses_every_writing_command(unit: LogicalUnit, cdb: str) -> None:
    initiator = connect_unit(unit, is_read_only=True)
    initiator.send(cdbs.TEST_UNIT_READY)
    outcome = initiator.send(cdbs.raw(cdb), bytes(128 << 10))
    assert_check_condition(outcome, "07/27/00")


def test_read_only_lun_does_not_protect_the_unit_from_other_nexuses(unit: LogicalUnit) -> None:
    reader, writer = connect_unit(unit, is_read_only=True), connect_unit(unit)
    for initiator in (reader, writer):
        initiator.send(cdbs.TEST_UNIT_READY)
    writer.good(cdbs.block(cdbs.WRITE, 16, 7, 1), b"\xaa" * 512)
    assert reader.good(cdbs.block(cdbs.READ, 16, 7, 1), None, 512) == b"\xaa" * 512
    assert nexus_of(reader).is_write_protected
    assert not nexus_of(writer).is_write_protected


def test_defect_of_a_device_server_ends_its_command_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vdisk = FaultyVdisk()
    initiator = connect(vdisk)
    vdisk.faults.raised = ZeroDivisionError("a defect")
    with caplog.at_level(logging.ERROR):
        outcome = initiator.send(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)
    assert_check_condition(outcome, "04/44/00")
    assert "faulty: READ(16) failed" in caplog.text
    assert "a defect" in caplog.text
    initiator.good(cdbs.TEST_UNIT_READY)
    vdisk.faults.raised = None
    initiator.good(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)


def test_cdb_without_bytes_is_an_internal_failure_and_not_an_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    initiator = connect(FaultyVdisk())
    assert_check_condition(initiator.send(cdbs.block(cdbs.READ, 16, 0, 1)[:9]), "04/44/00")
    assert "READ(16) failed" in caplog.text


@pytest.mark.parametrize(
    "cdb",
    [cdbs.TEST_UNIT_READY, cdbs.raw("c7"), cdbs.block(cdbs.READ, 16, 5000, 1)],
    ids=["good", "check condition", "check condition raised"],
)
def test_owner_that_raises_on_completion_gets_its_error_back_and_is_told_once(cdb: bytes) -> None:
    initiator = connect(FaultyVdisk())
    told: list[int | None] = []

    def raising(command: Command) -> None:
        told.append(command.status)
        raise RuntimeError("broken front-end")

    with pytest.raises(RuntimeError, match="broken front-end"):
        nexus_of(initiator).submit(Command(cdb, None, None, raising))
    assert len(told) == 1
    initiator.good(cdbs.TEST_UNIT_READY)


def test_outstanding_holds_exactly_what_has_not_ended() -> None:
    vdisk = FaultyVdisk()
    initiator = connect(vdisk)
    outstanding = nexus_of(initiator).outstanding
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    pending = [initiator.start(cdbs.block(cdbs.READ, 16, lba, 1), None, 512) for lba in range(3)]
    initiator.good(cdbs.TEST_UNIT_READY)
    assert outstanding == {one.command for one in pending}
    vdisk.release(1)
    assert outstanding == {pending[0].command, pending[2].command}
    vdisk.release_all()
    assert outstanding == set()
    assert [one.outcome.status for one in pending] == [Status.GOOD] * 3


def test_unit_attention_does_not_end_what_is_outstanding() -> None:
    vdisk = FaultyVdisk()
    initiator = connect(vdisk)
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    pending = initiator.start(cdbs.block(cdbs.READ, 16, 0, 1), None, 512)
    nexus_of(initiator).establish_unit_attention(sense.CAPACITY_CHANGED)
    vdisk.release()
    assert pending.outcome.status == Status.GOOD
    assert_check_condition(initiator.send(cdbs.TEST_UNIT_READY), "06/2A/09")


def test_command_that_goes_on_elsewhere_is_outstanding_only_there() -> None:
    here, vdisk = connect_unit(disk(FaultyVdisk())), FaultyVdisk()
    there = connect(vdisk)
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    ended: list[int | None] = []

    def send_there(command: Command) -> None:
        command.renew(lambda command: ended.append(command.status))
        nexus_of(there).submit(command)

    cdb = cdbs.block(cdbs.READ, 16, 0, 1)
    command = Command(cdb, memoryview(bytearray(512)), None, send_there)
    # Its unit attention ends the command at once.
    nexus_of(here).submit(command)
    assert nexus_of(there).outstanding == {command}
    assert nexus_of(here).outstanding == set()
    vdisk.release_all()
    assert ended == [Status.GOOD]
    assert nexus_of(there).outstanding == set()
