# SPDX-License-Identifier: GPL-2.0-or-later
"""EXTENDED COPY and RECEIVE COPY RESULTS as commands: CDBs, list identifiers, results."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.session import Session
from scsi_backend.target.target import Target
from tests.scsi_backend import cdbs
from tests.scsi_backend.copies import (
    cscd,
    extended_copy,
    log_in,
    named_disk,
    parameter_list,
    receive,
    segment,
)
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk
from tests.scsi_backend.initiator import (
    Initiator,
    Outcome,
    Pending,
    assert_check_condition,
    connect,
)

STATUS, DATA, PARAMETERS, DETAILS = 0x00, 0x01, 0x03, 0x04
OK = "00000008" + "01" + "0001" + "00" + "00000200"
FAILED = "00000008" + "02" + "0001" + "00" + "00000000"


@pytest.fixture
def vdisk() -> FaultyVdisk:
    return named_disk(0)


@pytest.fixture
def initiator(vdisk: FaultyVdisk) -> Initiator:
    return Initiator(log_in(vdisk))


def one_block(destination_lba: int = 1, *, list_identifier: int = 1, usage: int = 0) -> bytes:
    """A parameter list that copies block 0."""
    return parameter_list(
        [cscd(0)],
        [segment(0, 0, 1, 0, destination_lba)],
        list_identifier=list_identifier,
        usage=usage,
    )


def start(initiator: Initiator, data: bytes) -> Pending:
    """Send an EXTENDED COPY."""
    return initiator.start(extended_copy(len(data)), data)


def copy(initiator: Initiator, data: bytes) -> Outcome:
    """Send an EXTENDED COPY that must end at once."""
    return start(initiator, data).outcome


def ask(initiator: Initiator, action: int, list_identifier: int = 1, room: int = 512) -> str:
    """Ask for results that there must be."""
    return initiator.good(receive(action, list_identifier, room), None, room).hex()


def assert_unknown(initiator: Initiator, list_identifier: int = 1) -> None:
    outcome = initiator.send(receive(STATUS, list_identifier, 512), None, 512)
    assert_check_condition(outcome, "05/24/00", at=(2, 7))


def test_golden_command_copies_a_block(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.data[:512] = b"\xaa" * 512
    cdb = bytes.fromhex("8300" + "00" * 8 + "0000004c" + "0000")
    data = "01000020000000000000001c00000000"
    data += "e4000000010300085000000000000000" + "00" * 12 + "00000200"
    data += "020000180000000000000001" + "0000000000000000" + "000000000000003f"
    assert initiator.good(cdb, bytes.fromhex(data)) == b""
    assert vdisk.blocks(63, 1) == b"\xaa" * 512


def test_no_parameter_list_is_good(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    assert initiator.good(extended_copy(0)) == b""
    assert vdisk.log == []
    assert_unknown(initiator, 0)


@pytest.mark.parametrize("length", [1, 15, 16 + 16 * 60 + 1, 0xFFFFFFFF])
def test_length_outside_the_limits_is_refused_whatever_data_there_is(
    initiator: Initiator, length: int
) -> None:
    outcome = initiator.send(extended_copy(length), bytes(min(length, 4096)))
    assert_check_condition(outcome, "05/1A/00")


@pytest.mark.parametrize("data_out", [None, b"", one_block()[:-1]])
def test_less_data_than_the_cdb_says_ends_the_command(
    initiator: Initiator, data_out: bytes | None
) -> None:
    outcome = initiator.send(extended_copy(len(one_block())), data_out)
    assert_check_condition(outcome, "0B/4B/00")


def test_list_that_is_refused_leaves_no_results(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    outcome = copy(initiator, one_block(usage=1))
    assert_check_condition(outcome, "05/26/00", at=(1, 4), in_cdb=False)
    assert_unknown(initiator)
    assert vdisk.log == []


@pytest.mark.parametrize("action", [0x01, 0x10, 0x1C, 0x1F])
def test_other_service_actions_of_extended_copy_are_refused(
    initiator: Initiator, action: int
) -> None:
    cdb = bytearray(extended_copy(0))
    cdb[1] = action
    assert_check_condition(initiator.send(bytes(cdb)), "05/24/00", at=(1, 4))


@pytest.mark.parametrize("action", [DATA, 0x02, 0x05, 0x1F])
def test_other_service_actions_of_receive_copy_results_are_refused(
    initiator: Initiator, action: int
) -> None:
    outcome = initiator.send(receive(action, 1, 512), None, 512)
    assert_check_condition(outcome, "05/24/00", at=(1, 4))


@pytest.mark.parametrize("usage", [0, 2])
def test_status_of_a_copy_is_told_once(initiator: Initiator, usage: int) -> None:
    assert copy(initiator, one_block(usage=usage)).status == Status.GOOD
    assert_unknown(initiator, 2)
    assert ask(initiator, STATUS) == OK
    assert_unknown(initiator)
    assert ask(initiator, DETAILS) == "00000000"


def test_copy_without_list_identifier_leaves_no_results(initiator: Initiator) -> None:
    assert copy(initiator, one_block(list_identifier=0, usage=3)).status == Status.GOOD
    assert_unknown(initiator, 0)


def test_status_is_cut_to_the_allocation_length(initiator: Initiator) -> None:
    copy(initiator, one_block())
    assert ask(initiator, STATUS, room=5) == OK[:10]


def test_details_of_a_failed_copy_are_its_status_and_sense_data(initiator: Initiator) -> None:
    outcome = copy(initiator, one_block(64))
    assert outcome.sense is not None
    golden = "70000a" + "00000000" + "0a" + "00000000" + "0000" + "00" + "a00014"
    assert outcome.sense.encode().hex() == golden
    details = "0000004a" + "00" * 52 + "02" + "00" + "0012" + golden
    # Less than all of it leaves them.
    assert ask(initiator, DETAILS, room=77) == details[:154]
    assert ask(initiator, STATUS) == FAILED
    assert ask(initiator, DETAILS, room=78) == details
    assert ask(initiator, DETAILS) == "00000000"


def test_details_are_dropped_when_asked_for_with_no_room(initiator: Initiator) -> None:
    copy(initiator, one_block(64))
    assert ask(initiator, DETAILS, room=0) == ""
    assert ask(initiator, DETAILS) == "00000000"


def test_details_are_in_the_format_that_d_sense_selects(initiator: Initiator) -> None:
    unit = initiator.session.nexuses[0].unit
    unit.modes.put(replace(unit.control, d_sense=True))
    copy(initiator, one_block(64))
    golden = "720a0000000000" + "14" + "02060000a0001400" + "010a0000" + "0000000000000000"
    assert ask(initiator, DETAILS) == "00000054" + "00" * 52 + "02" + "00" + "001c" + golden


def test_list_identifier_used_again_forgets_the_failure(initiator: Initiator) -> None:
    copy(initiator, one_block(64))
    copy(initiator, one_block())
    assert ask(initiator, DETAILS) == "00000000"
    assert ask(initiator, STATUS) == OK


def test_operating_parameters_have_their_golden_bytes(initiator: Initiator) -> None:
    golden = "0000002a" + "01000000" + "0010" + "0010" + "000003c0" + "10000000"
    golden += "00" * 12 + "0000" + "0001" + "01" + "090000" + "000000" + "02" + "02e4"
    for list_identifier in (0, 77):
        assert ask(initiator, PARAMETERS, list_identifier) == golden
    assert ask(initiator, PARAMETERS, room=4) == golden[:8]


def test_copy_under_way_can_be_asked_about_and_its_identifier_not_be_used(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    moves = [segment(0, 0, 1, 0, 1), segment(0, 0, 1, 0, 2)]
    pending = start(initiator, parameter_list([cscd(0)], moves))
    for status in ("00" + "0001" + "00" + "00000000", "00" + "0002" + "00" + "00000200"):
        assert ask(initiator, STATUS) == "00000008" + status
        assert ask(initiator, DETAILS) == "00000000"
        assert_check_condition(copy(initiator, one_block()), "05/00/16")
        vdisk.release()
        vdisk.release()
    assert pending.outcome.status == Status.GOOD
    assert ask(initiator, STATUS) == "00000008" + "01" + "0002" + "00" + "00000400"


def test_copies_of_one_unit_are_done_one_after_another(
    vdisk: FaultyVdisk, initiator: Initiator
) -> None:
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    first = start(initiator, one_block(1))
    second = start(initiator, one_block(2, list_identifier=2))
    third = start(initiator, one_block(3, list_identifier=0, usage=3))
    assert ask(initiator, STATUS, 2) == "00000008" + "00" + "0000" + "00" + "00000000"
    for done, waiting in ((first, second), (second, third)):
        assert vdisk.names.count("read") == vdisk.names.count("write") + 1
        vdisk.release()
        vdisk.release()
        assert done.outcome.status == Status.GOOD
        assert not waiting.is_done
    vdisk.release_all()
    assert third.outcome.status == Status.GOOD


def test_copy_that_fails_lets_the_next_one_begin(vdisk: FaultyVdisk, initiator: Initiator) -> None:
    vdisk.immediate_bytes, vdisk.is_held = NOT_NOW, True
    vdisk.faults.errno_of["read"] = errno.EIO
    first, second = start(initiator, one_block()), start(initiator, one_block(list_identifier=2))
    vdisk.release()
    assert first.outcome.status == Status.CHECK_CONDITION
    vdisk.faults.errno_of.clear()
    vdisk.release_all()
    assert second.outcome.status == Status.GOOD


def test_results_belong_to_the_nexus_that_copied() -> None:
    unit = disk(named_disk(0))
    target = Target("scst_local", "target", 1)
    target.add_lun(0, LunEntry(unit))
    target.is_enabled = True

    def join() -> Session:
        session = target.open_session("initiator")
        Initiator(session).send(cdbs.TEST_UNIT_READY)
        return session

    one, other = Initiator(join()), Initiator(join())
    copy(one, one_block())
    assert_unknown(other)
    copy(other, one_block(64))
    assert ask(one, STATUS) == OK
    assert ask(other, STATUS) == FAILED


def test_defect_of_the_storage_ends_the_copy_and_frees_the_next_one(
    vdisk: FaultyVdisk, initiator: Initiator, caplog: pytest.LogCaptureFixture
) -> None:
    vdisk.faults.raised = RuntimeError("defect")
    outcome = copy(initiator, one_block())
    assert outcome.sense is not None
    assert outcome.sense.copy_failure is not None
    inner = outcome.sense.copy_failure.sense
    assert isinstance(inner, Sense)
    assert (outcome.sense.code, inner.code) == (0x0D01, 0x4400)
    assert "defect" in caplog.text
    vdisk.faults.raised = None
    assert copy(initiator, one_block()).status == Status.GOOD


def test_inquiry_says_that_there_is_third_party_copy() -> None:
    initiator = connect(named_disk(0))
    assert initiator.good(cdbs.raw("120000006000"), None, 96)[5] == 0x08
    page = initiator.good(cdbs.raw("12018f00ff00"), None, 255).hex()
    golden = "0001000c" + "08" + "830100" + "8403000304" + "000000"
    golden += "0004001c" + "00000000" + "0010" + "0010" + "000003c0" + "00000000" + "00" * 12
    golden += "00080004" + "0202e400" + "000c0004" + "00000000"
    golden += "80010020" + "00000001" + "00000001" + "10000000" + "0900" + "00" * 18
    assert page == "008f0064" + golden
