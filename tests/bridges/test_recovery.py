# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done about a command that did not succeed, row by row, and for how long.

The expectations are written from SAM-5, SPC-5 and what Linux's and QEMU's initiators do, not from
the table under test.
"""

from __future__ import annotations

import pytest

from bridges.recovery import (
    DEADLINE_S,
    Action,
    Reply,
    RetryBudget,
    ScsiError,
    decide,
    reply_of,
)
from scsi_backend.servers.command import Command
from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status
from tests.bridges.faulty_lun import sense

CHECK_CONDITION = 0x02

STATUSES = {
    0x00: Action.ACCEPT,  # GOOD
    0x04: Action.ACCEPT,  # CONDITION MET
    0x08: Action.RETRY_LATER,  # BUSY
    0x10: Action.FAIL,  # INTERMEDIATE, obsolete
    0x18: Action.FAIL,  # RESERVATION CONFLICT
    0x22: Action.FAIL,  # COMMAND TERMINATED, obsolete
    0x28: Action.RETRY_LATER,  # TASK SET FULL
    0x30: Action.RETRY_LATER,  # ACA ACTIVE
    0x40: Action.RETRY,  # TASK ABORTED
    0xFF: Action.FAIL,
}

SENSE = {
    "00/00/00": Action.ACCEPT,
    "01/17/01": Action.ACCEPT,  # recovered data with retries
    "01/5D/00": Action.ACCEPT,  # failure prediction threshold exceeded
    # NOT READY: in process of becoming ready, format, rebuild, recalculation, operation, long
    # write, self-test, ALUA transition, notify required, space, progress of various kinds.
    "02/04/01": Action.RETRY_LATER,
    "02/04/04": Action.RETRY_LATER,
    "02/04/05": Action.RETRY_LATER,
    "02/04/06": Action.RETRY_LATER,
    "02/04/07": Action.RETRY_LATER,
    "02/04/08": Action.RETRY_LATER,
    "02/04/09": Action.RETRY_LATER,
    "02/04/0A": Action.RETRY_LATER,
    "02/04/11": Action.RETRY_LATER,
    "02/04/14": Action.RETRY_LATER,
    "02/04/1A": Action.RETRY_LATER,
    "02/04/1B": Action.RETRY_LATER,
    "02/04/1D": Action.RETRY_LATER,
    "02/04/24": Action.RETRY_LATER,
    # Cause not reportable, start needed, manual intervention, standby, unavailable, offline.
    "02/04/00": Action.FAIL,
    "02/04/02": Action.FAIL,
    "02/04/03": Action.FAIL,
    "02/04/0B": Action.FAIL,
    "02/04/0C": Action.FAIL,
    "02/04/12": Action.FAIL,
    "02/3A/00": Action.FAIL,  # medium not present
    "02/05/01": Action.FAIL,
    "03/11/00": Action.FAIL,  # unrecovered read error
    "03/13/00": Action.FAIL,
    "03/14/00": Action.FAIL,
    "03/0C/00": Action.FAIL,  # write error
    "03/03/00": Action.FAIL,  # SCST's write error
    "03/31/00": Action.FAIL,  # medium format corrupted
    "03/31/01": Action.FAIL,
    "03/31/03": Action.FAIL,  # sanitize command failed
    "04/44/00": Action.FAIL,  # internal target failure
    "04/00/00": Action.FAIL,
    "05/20/00": Action.FAIL,  # opcode
    "05/20/02": Action.FAIL,
    "05/21/00": Action.FAIL,  # LBA out of range
    "05/24/00": Action.FAIL,  # field in CDB
    "05/25/00": Action.FAIL,  # LUN not supported
    "05/26/00": Action.FAIL,
    "05/27/00": Action.FAIL,
    "05/2C/00": Action.FAIL,
    "05/55/0E": Action.FAIL,
    # UNIT ATTENTION: the command was not executed.
    "06/28/00": Action.FAIL,  # another medium
    "06/29/00": Action.RETRY,  # power on, reset
    "06/29/01": Action.RETRY,
    "06/29/07": Action.RETRY,  # I_T nexus loss
    "06/2A/00": Action.RETRY,
    "06/2A/01": Action.REFRESH,  # mode parameters changed
    "06/2A/02": Action.RETRY,  # log parameters changed
    "06/2A/03": Action.RETRY,  # reservations preempted
    "06/2A/04": Action.RETRY,
    "06/2A/05": Action.RETRY,
    "06/2A/06": Action.REFRESH,  # ALUA state changed
    "06/2A/07": Action.RETRY,
    "06/2A/09": Action.REFRESH,  # capacity changed
    "06/2F/00": Action.RETRY,  # commands cleared
    "06/38/07": Action.RETRY,  # thin provisioning soft threshold
    "06/3F/03": Action.REFRESH,  # INQUIRY data changed
    "06/3F/01": Action.RETRY,
    "06/3F/0E": Action.RETRY,  # reported LUNs changed
    "07/27/00": Action.FAIL,
    "07/27/07": Action.FAIL,
    "07/00/00": Action.FAIL,  # SCST's read-only device
    "07/20/02": Action.FAIL,
    "07/74/71": Action.FAIL,
    "08/00/00": Action.FAIL,
    "09/80/00": Action.FAIL,
    "0A/0D/00": Action.FAIL,
    # ABORTED COMMAND: protection information and lack of time repeat themselves.
    "0B/00/00": Action.RETRY,
    "0B/08/03": Action.RETRY,
    "0B/44/00": Action.RETRY,
    "0B/47/03": Action.RETRY,
    "0B/4B/00": Action.RETRY,
    "0B/10/01": Action.FAIL,
    "0B/10/02": Action.FAIL,
    "0B/10/03": Action.FAIL,
    "0B/2E/01": Action.FAIL,
    "0C/00/00": Action.FAIL,
    "0D/00/00": Action.FAIL,
    "0E/1D/00": Action.FAIL,
    # COMPLETED: done, unless a duration limit ended it (data currently unavailable).
    "0F/00/00": Action.ACCEPT,
    "0F/55/0A": Action.FAIL,
}


@pytest.mark.parametrize(("status", "action"), STATUSES.items())
def test_status_decides(status: int, action: Action) -> None:
    assert decide(status, None) is action


@pytest.mark.parametrize(("text", "action"), SENSE.items())
def test_sense_decides(text: str, action: Action) -> None:
    assert decide(CHECK_CONDITION, sense(text)) is action


@pytest.mark.parametrize("text", SENSE)
def test_a_deferred_error_is_final_whatever_it_is(text: str) -> None:
    assert decide(CHECK_CONDITION, sense(text, deferred=True)) is Action.FAIL


def test_check_condition_without_sense_is_final() -> None:
    assert decide(CHECK_CONDITION, None) is Action.FAIL


def test_sense_counts_with_check_condition_only() -> None:
    assert decide(0x00, sense("03/11/00")) is Action.ACCEPT
    assert decide(0x18, sense("06/29/00")) is Action.FAIL


def test_every_status_and_sense_is_decided() -> None:
    for status in range(256):
        assert isinstance(decide(status, None), Action)
    for key in SenseKey:
        for code in range(0, 0x10000, 7):
            assert isinstance(decide(CHECK_CONDITION, Sense(key, code)), Action)


def test_success_is_what_the_initiator_may_use() -> None:
    successes = [
        Reply(Status.GOOD, None, 0),
        Reply(Status.CONDITION_MET, None, 0),
        Reply(CHECK_CONDITION, sense("00/00/00"), 0),
        Reply(CHECK_CONDITION, sense("01/17/01"), 512),
    ]
    assert [reply.is_success for reply in successes] == [True] * 4
    failures = [
        Reply(Status.BUSY, None, 0),
        Reply(Status.RESERVATION_CONFLICT, None, 0),
        Reply(CHECK_CONDITION, None, 0),
        Reply(CHECK_CONDITION, sense("06/29/00"), 0),
        Reply(CHECK_CONDITION, sense("01/17/01", deferred=True), 0),
        Reply(0xFF, None, 0),
    ]
    assert [reply.is_success for reply in failures] == [False] * 6


def test_an_error_tells_command_and_sense() -> None:
    reply = Reply(CHECK_CONDITION, sense("03/11/00"), 0)
    error = ScsiError(bytes.fromhex("88") + bytes(15), reply)
    assert str(error) == "READ(16): MEDIUM ERROR 11/00 UNRECOVERED READ ERROR"
    assert error.reply is reply
    assert error.cdb == bytes.fromhex("88") + bytes(15)


@pytest.mark.parametrize(
    ("status", "text"),
    [(0x18, "RESERVATION CONFLICT"), (0x08, "BUSY"), (0x02, "CHECK CONDITION"), (0x77, "77h")],
)
def test_a_reply_without_sense_tells_its_status(status: int, text: str) -> None:
    assert text in str(Reply(status, None, 0))


def test_the_reply_of_a_command_is_how_it_ended() -> None:
    command = Command(bytes(6), memoryview(bytearray(8)), None, lambda command: None)
    command.reply(b"12345", 8)
    assert reply_of(command) == Reply(Status.GOOD, None, 5)
    command.renew(lambda command: None)
    with pytest.raises(AssertionError, match="completed"):
        reply_of(command)


def test_delays_double_from_a_millisecond_to_a_second() -> None:
    budget = RetryBudget(now_s=100.0)
    delays_s = [budget.next_delay_s(Action.RETRY_LATER, 100.0) for _ in range(13)]
    expected = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 1.0, 1.0]
    assert delays_s == pytest.approx(expected)


@pytest.mark.parametrize("action", [Action.RETRY, Action.REFRESH, Action.RETRY_LATER])
def test_nothing_is_tried_again_after_the_deadline(action: Action) -> None:
    budget = RetryBudget(now_s=100.0)
    assert budget.next_delay_s(action, 100.0 + DEADLINE_S - 0.001) is not None
    assert budget.next_delay_s(action, 100.0 + DEADLINE_S) is None
    assert budget.next_delay_s(action, 100.0 + DEADLINE_S + 1) is None


def test_the_deadline_leaves_room_before_clients_give_up() -> None:
    # The longest delay may begin just before the deadline; Linux drops connections after 30 s.
    assert DEADLINE_S + 1.0 < 30.0


@pytest.mark.parametrize("action", [Action.RETRY, Action.REFRESH])
def test_retries_at_once_are_eight(action: Action) -> None:
    budget = RetryBudget(now_s=0.0)
    assert [budget.next_delay_s(action, 0.0) for _ in range(10)] == [0.0] * 8 + [None] * 2


def test_waiting_does_not_use_up_the_retries() -> None:
    budget = RetryBudget(now_s=0.0)
    for _ in range(100):
        assert budget.next_delay_s(Action.RETRY_LATER, 0.0) is not None
    assert [budget.next_delay_s(Action.RETRY, 0.0) for _ in range(9)] == [0.0] * 8 + [None]


def test_retries_and_refreshes_share_one_count() -> None:
    budget = RetryBudget(now_s=0.0)
    actions = [Action.RETRY, Action.REFRESH] * 5
    delays_s = [budget.next_delay_s(action, 0.0) for action in actions]
    assert delays_s == [0.0] * 8 + [None] * 2


@pytest.mark.parametrize(
    ("key", "code", "is_refusal"),
    [
        (SenseKey.ILLEGAL_REQUEST, 0x2000, True),
        (SenseKey.ILLEGAL_REQUEST, 0x2400, True),
        (SenseKey.ILLEGAL_REQUEST, 0x2600, True),
        (SenseKey.ILLEGAL_REQUEST, 0x2100, False),
        (SenseKey.MEDIUM_ERROR, 0x2400, False),
    ],
)
def test_refusals_are_what_the_device_does_not_do(
    key: SenseKey, code: int, is_refusal: bool
) -> None:
    reply = Reply(Status.CHECK_CONDITION, Sense(key, code), 0)
    assert ScsiError(bytes(16), reply).is_refusal is is_refusal


def test_a_status_without_sense_data_is_no_refusal() -> None:
    assert not ScsiError(bytes(16), Reply(Status.BUSY, None, 0)).is_refusal
