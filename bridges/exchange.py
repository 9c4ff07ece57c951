# SPDX-License-Identifier: GPL-2.0-or-later
"""Sequences of SCSI commands written as generators, and a way to run them where blocking is fine.

An exchange yields requests, is resumed with the replies of those that succeeded (after whatever
retries ``recovery`` allows), and returns its outcome. One that failed for good is thrown into it
as ``ScsiError``, so an exchange may try something else. The daemon runs exchanges through
``LunClient``; the nbdkit plugin runs the same ones blocking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from bridges.recovery import Action, Reply, RetryBudget, ScsiError, decide

OutcomeT = TypeVar("OutcomeT")


@dataclass(frozen=True, slots=True)
class Request:
    """A CDB with its buffers, which belong to whoever made the request."""

    cdb: bytes
    data_in: memoryview | None = None
    data_out: memoryview | None = None


Exchange = Generator[Request, "Reply | ScsiError", OutcomeT]


def succeed(reply: Reply | ScsiError) -> Reply:
    """Return the reply of a request that succeeded; raises the ScsiError of one that did not."""
    if isinstance(reply, ScsiError):
        raise reply
    return reply


def run_blocking(exchange: Exchange[OutcomeT], execute: Callable[[Request], Reply]) -> OutcomeT:
    """Run an exchange to its end on the caller's thread; raises ScsiError."""
    outcome: Reply | ScsiError | None = None
    try:
        while True:
            request = next(exchange) if outcome is None else exchange.send(outcome)
            outcome = perform_blocking(request, execute)
    except StopIteration as end:
        result: OutcomeT = end.value
        return result


def perform_blocking(request: Request, execute: Callable[[Request], Reply]) -> Reply | ScsiError:
    """Execute one request, with the retries that ``recovery`` allows."""
    budget = RetryBudget(time.monotonic())
    while True:
        reply = execute(request)
        if reply.is_success:
            return reply
        action = decide(reply.status, reply.sense)
        delay_s = None
        if action is not Action.FAIL:
            delay_s = budget.next_delay_s(action, time.monotonic())
        if delay_s is None:
            return ScsiError(request.cdb, reply)
        if delay_s:
            time.sleep(delay_s)
