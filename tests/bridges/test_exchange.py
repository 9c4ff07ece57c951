# SPDX-License-Identifier: GPL-2.0-or-later
"""Exchanges run where blocking is fine: results, retries, failures that an exchange may catch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import pytest

from bridges.exchange import Exchange, Request, perform_blocking, run_blocking, succeed
from bridges.recovery import Reply, ScsiError
from scsi_backend.t10.status import Status
from tests.bridges.faulty_lun import BUSY, CAPACITY_CHANGED, RESET, Answer, check_condition

GOOD = Answer(Status.GOOD)
READ_ERROR = check_condition("03/11/00")
INVALID_OPCODE = check_condition("05/20/00")
RESERVATION_CONFLICT = Answer(Status.RESERVATION_CONFLICT)
TASK_ABORTED = Answer(Status.TASK_ABORTED)


class Device:
    """Answers as scripted, then GOOD; the data length of a reply is the command's number."""

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self._answers = iter(answers)
        self.requests: list[Request] = []

    def execute(self, request: Request) -> Reply:
        """See ``run_blocking``."""
        self.requests.append(request)
        answer = next(self._answers, GOOD)
        return Reply(answer.status, answer.sense, len(self.requests))


def numbered(*numbers: int) -> Exchange[list[int]]:
    lengths = []
    for number in numbers:
        reply = succeed((yield Request(bytes((number,)))))
        lengths.append(reply.data_in_length)
    return lengths


def with_fallback() -> Exchange[str]:
    outcome = yield Request(b"\x42")
    if isinstance(outcome, ScsiError):
        succeed((yield Request(b"\x8a")))
        return f"wrote instead: {outcome}"
    return "unmapped"


def nothing() -> Exchange[str]:
    return "done"
    yield Request(b"")


def test_an_exchange_without_requests_has_its_outcome() -> None:
    device = Device()
    assert run_blocking(nothing(), device.execute) == "done"
    assert device.requests == []


def test_each_request_gets_its_reply() -> None:
    device = Device()
    assert run_blocking(numbered(1, 2, 3), device.execute) == [1, 2, 3]
    assert [request.cdb for request in device.requests] == [b"\x01", b"\x02", b"\x03"]


def test_ten_thousand_requests_need_no_recursion() -> None:
    count = 10_000
    assert count > sys.getrecursionlimit()
    device = Device()
    outcome = run_blocking(numbered(*[0] * count), device.execute)
    assert outcome == list(range(1, count + 1))


def test_a_failure_ends_an_exchange_that_does_not_catch_it() -> None:
    device = Device([GOOD, READ_ERROR])
    with pytest.raises(ScsiError, match="MEDIUM ERROR 11/00") as caught:
        run_blocking(numbered(1, 0x88, 3), device.execute)
    assert caught.value.cdb == b"\x88"
    assert caught.value.reply == Reply(READ_ERROR.status, READ_ERROR.sense, 2)
    assert len(device.requests) == 2


def test_an_exchange_may_try_something_else() -> None:
    device = Device([INVALID_OPCODE])
    outcome = run_blocking(with_fallback(), device.execute)
    assert outcome.startswith("wrote instead: UNMAP: ILLEGAL REQUEST 20/00")
    assert [request.cdb for request in device.requests] == [b"\x42", b"\x8a"]
    assert run_blocking(with_fallback(), Device().execute) == "unmapped"


@pytest.mark.parametrize("answer", [RESET, CAPACITY_CHANGED, TASK_ABORTED])
def test_a_request_is_tried_again_eight_times(answer: Answer) -> None:
    device = Device([answer] * 8)
    assert run_blocking(numbered(7), device.execute) == [9]
    device = Device([answer] * 9)
    with pytest.raises(ScsiError):
        run_blocking(numbered(7), device.execute)
    assert len(device.requests) == 9


def test_the_last_reply_is_the_one_reported() -> None:
    device = Device([RESET, CAPACITY_CHANGED, READ_ERROR])
    outcome = perform_blocking(Request(b"\x88"), device.execute)
    assert isinstance(outcome, ScsiError)
    assert outcome.reply == Reply(READ_ERROR.status, READ_ERROR.sense, 3)


def test_the_retries_of_one_request_are_not_counted_for_the_next() -> None:
    device = Device([*[RESET] * 8, GOOD, *[RESET] * 8, GOOD])
    assert run_blocking(numbered(1, 2), device.execute) == [9, 18]


def test_a_busy_device_is_waited_for() -> None:
    device = Device([BUSY, BUSY, Answer(Status.TASK_SET_FULL), check_condition("02/04/01")])
    assert run_blocking(numbered(7), device.execute) == [5]


@pytest.mark.parametrize(
    "answer",
    [GOOD, Answer(Status.CONDITION_MET), check_condition("01/17/01"), check_condition("00/00/00")],
)
def test_success_is_not_tried_again(answer: Answer) -> None:
    device = Device([answer])
    assert perform_blocking(Request(b"\x88"), device.execute) == Reply(
        answer.status, answer.sense, 1
    )
    assert len(device.requests) == 1


@pytest.mark.parametrize(
    "answer", [RESERVATION_CONFLICT, READ_ERROR, INVALID_OPCODE, Answer(Status.CHECK_CONDITION)]
)
def test_a_final_failure_is_not_tried_again(answer: Answer) -> None:
    device = Device([answer])
    outcome = perform_blocking(Request(b"\x88"), device.execute)
    assert isinstance(outcome, ScsiError)
    assert outcome.reply == Reply(answer.status, answer.sense, 1)
    assert len(device.requests) == 1


def test_each_try_has_the_same_buffers() -> None:
    data_in, data_out = memoryview(bytearray(4)), memoryview(b"data")
    device = Device([RESET])
    perform_blocking(Request(b"\x88", data_in, data_out), device.execute)
    assert [request.data_in for request in device.requests] == [data_in, data_in]
    assert [request.data_out for request in device.requests] == [data_out, data_out]


def test_what_the_transport_raises_is_not_taken_for_a_failure_of_the_command() -> None:
    def broken(request: Request) -> Reply:
        raise ConnectionResetError("gone")

    execute: Callable[[Request], Reply] = broken
    with pytest.raises(ConnectionResetError, match="gone"):
        run_blocking(with_fallback(), execute)


def test_succeed_returns_a_reply_and_raises_an_error() -> None:
    reply = Reply(Status.GOOD, None, 3)
    assert succeed(reply) is reply
    error = ScsiError(b"\x88", Reply(Status.BUSY, None, 0))
    with pytest.raises(ScsiError) as caught:
        succeed(error)
    assert caught.value is error
