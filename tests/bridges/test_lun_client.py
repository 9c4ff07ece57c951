# SPDX-License-Identifier: GPL-2.0-or-later
"""A front-end's hold on a LUN: retries against a clock, changes of the LUN, exchanges."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import cycle, repeat

import pytest

from bridges.exchange import Exchange, Request, succeed
from bridges.lun_client import LunClient
from bridges.recovery import DEADLINE_S, Reply, ScsiError, reply_of
from scsi_backend.servers.command import Command
from scsi_backend.t10.alua import AccessState
from scsi_backend.t10.status import Status
from tests.bridges.faulty_lun import (
    BUSY,
    CAPACITY_CHANGED,
    RESET,
    Answer,
    FaultyLun,
    ManualClock,
    check_condition,
    sense,
)
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.ports import TwoPorts

TEST_UNIT_READY, MODE_SENSE_10, READ_CAPACITY_16, READ_16 = 0x00, 0x5A, 0x9E, 0x88
READ_ERROR = check_condition("03/11/00")
NO_MEDIUM = check_condition("02/3A/00")
BECOMING_READY = check_condition("02/04/01")


class Setup:
    """A client of a LUN that is LUN 0 of a session, with all that happens to it."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.vdisk = FaultyVdisk(blocks=1024)
        self.content = self.vdisk.fill()
        self.lun = FaultyLun(self.vdisk)
        self.clock = ManualClock()
        self.session = self.lun.target.open_session("initiator")
        self.nexus = self.session.nexuses[0]
        self.client = LunClient(self.session, 0, self.clock)
        self.events: list[str] = []
        self.client.on_change = lambda: self.events.append("change")
        self.opened: list[ScsiError | None] = []
        if is_open:
            self.client.open(self.opened.append)
            assert self.opened == [None]
            self.lun.log.clear()

    def read(self, lba: int = 0) -> list[Reply]:
        """Begin to read one block; return where the outcome appears, with the data checked."""
        outcomes: list[Reply] = []
        buffer = bytearray(512)

        def done(command: Command) -> None:
            self.events.append("done")
            outcomes.append(reply_of(command))
            if command.status == 0:
                assert buffer == self.vdisk.blocks(lba, 1)

        cdb = cdbs.block(cdbs.READ, 16, lba, 1)
        self.client.submit(Command(cdb, memoryview(buffer), None, done))
        return outcomes


def good_read() -> list[Reply]:
    return [Reply(Status.GOOD, None, 512)]


def final(answer: Answer) -> list[Reply]:
    return [Reply(answer.status, answer.sense, 0)]


def test_opening_takes_the_power_on_attention_and_finds_the_geometry() -> None:
    setup = Setup()
    info = setup.client.info
    assert (info.block_size_bytes, info.block_count) == (512, 1024)
    assert setup.events == []
    assert setup.clock.delays_s == []


def test_opening_waits_for_a_lun_that_becomes_ready() -> None:
    setup = Setup(is_open=False)
    setup.lun.answer(TEST_UNIT_READY, [BECOMING_READY] * 4)
    setup.client.open(setup.opened.append)
    assert setup.opened == []
    setup.clock.run()
    assert setup.opened == [None]
    assert setup.clock.delays_s == pytest.approx([0.001, 0.002, 0.004, 0.008])
    assert setup.client.info.block_count == 1024


@pytest.mark.parametrize("opcode", [TEST_UNIT_READY, READ_CAPACITY_16])
def test_opening_reports_a_lun_that_cannot_be_read(opcode: int) -> None:
    setup = Setup(is_open=False)
    setup.lun.answer(opcode, repeat(NO_MEDIUM))
    setup.client.open(setup.opened.append)
    (failure,) = setup.opened
    assert isinstance(failure, ScsiError)
    assert failure.reply == Reply(Status.CHECK_CONDITION, NO_MEDIUM.sense, 0)
    assert failure.cdb[0] == opcode


def test_a_command_that_succeeds_is_submitted_once() -> None:
    setup = Setup()
    assert setup.read(lba=17) == good_read()
    assert setup.lun.log == [READ_16]


def test_delays_grow_while_the_lun_is_busy() -> None:
    setup = Setup()
    setup.lun.answer(READ_16, [BUSY, Answer(Status.TASK_SET_FULL), BUSY, BECOMING_READY])
    outcomes = setup.read()
    assert outcomes == []
    setup.clock.run()
    assert outcomes == good_read()
    assert setup.clock.delays_s == pytest.approx([0.001, 0.002, 0.004, 0.008])
    assert setup.lun.count(READ_16) == 5


def format_medium(setup: Setup) -> None:
    """Begin a FORMAT UNIT whose storage operations are held."""
    setup.vdisk.is_held = True
    setup.nexus.submit(Command(cdbs.FORMAT_UNIT, None, None, lambda command: None))


def test_a_command_waits_while_the_medium_is_formatted() -> None:
    setup = Setup()
    format_medium(setup)
    outcomes = setup.read()
    assert outcomes == []
    setup.vdisk.is_held = False
    setup.vdisk.release_all()
    setup.clock.run()
    assert outcomes == good_read()
    assert not any(setup.vdisk.data)


def test_a_command_is_given_up_while_the_medium_is_formatted_for_long() -> None:
    setup = Setup()
    format_medium(setup)
    start_s = setup.clock.now_s
    outcomes = setup.read()
    setup.clock.run()
    [reply] = outcomes
    assert str(reply) == "NOT READY 04/04 LOGICAL UNIT NOT READY FORMAT IN PROGRESS (0 % done)"
    assert DEADLINE_S <= setup.clock.now_s - start_s <= DEADLINE_S + 1
    assert setup.clock.is_idle


def test_a_lun_that_stays_busy_is_given_up_at_the_deadline() -> None:
    setup = Setup()
    setup.clock.now_s += 3600
    setup.lun.answer(READ_16, repeat(BUSY))
    start_s = setup.clock.now_s
    outcomes = setup.read()
    setup.clock.run()
    assert outcomes == final(BUSY)
    assert DEADLINE_S <= setup.clock.now_s - start_s <= DEADLINE_S + 1
    assert max(setup.clock.delays_s) == 1.0
    assert setup.clock.is_idle


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize(
    "answer", [RESET, Answer(Status.TASK_ABORTED), check_condition("0B/44/00")]
)
def test_a_command_is_tried_again_eight_times(answer: Answer, is_held: bool) -> None:
    setup = Setup()
    setup.lun.is_held = is_held
    setup.lun.answer(READ_16, [answer] * 8)
    outcomes = setup.read()
    setup.lun.release_all()
    assert outcomes == good_read()
    setup.lun.answer(READ_16, [answer] * 9)
    outcomes = setup.read()
    setup.lun.release_all()
    assert outcomes == final(answer)
    assert setup.lun.count(READ_16) == 18
    assert setup.clock.delays_s == []
    assert not setup.nexus.outstanding


@pytest.mark.parametrize(
    "answer",
    [
        READ_ERROR,
        Answer(Status.RESERVATION_CONFLICT),
        check_condition("06/28/00"),
        check_condition("06/29/00", deferred=True),
        Answer(Status.CHECK_CONDITION),
    ],
)
def test_a_final_failure_is_reported_at_once(answer: Answer) -> None:
    setup = Setup()
    setup.lun.answer(READ_16, [answer])
    assert setup.read() == final(answer)
    assert setup.lun.log == [READ_16]


@pytest.mark.parametrize("answer", [Answer(Status.CONDITION_MET), check_condition("01/17/01")])
def test_an_odd_success_is_not_tried_again(answer: Answer) -> None:
    setup = Setup()
    setup.lun.answer(READ_16, [answer])
    assert setup.read() == final(answer)
    assert setup.lun.log == [READ_16]


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("text", ["06/2A/09", "06/2A/01", "06/3F/03"])
def test_a_changed_lun_is_looked_at_before_the_retry(text: str, is_held: bool) -> None:
    setup = Setup()
    setup.lun.is_held = is_held
    setup.vdisk.block_count = setup.lun.unit.block_count = 512
    setup.lun.answer(READ_16, [check_condition(text)])
    outcomes = setup.read()
    setup.lun.release_all()
    assert outcomes == good_read()
    assert setup.events == ["change", "done"]
    assert setup.client.info.block_count == 512
    assert setup.lun.log[0] == setup.lun.log[-1] == READ_16
    assert setup.lun.count(READ_CAPACITY_16) == 1


def test_a_resized_disk_is_noticed_by_the_next_command() -> None:
    setup = Setup()
    setup.vdisk.data += bytes(512 * 1024)
    setup.vdisk.new_block_count = 2048
    assert setup.lun.unit.resync_size()
    assert setup.client.info.block_count == 1024
    assert setup.read(lba=2000) == good_read()
    assert setup.client.info.block_count == 2048
    assert setup.events == ["change", "done"]


def test_without_a_listener_a_change_is_still_taken_over() -> None:
    setup = Setup()
    setup.client.on_change = None
    setup.vdisk.new_block_count = 100
    setup.lun.unit.resync_size()
    assert setup.read() == good_read()
    assert setup.client.info.block_count == 100


def test_a_lun_that_cannot_be_looked_at_again_stays_what_it_was() -> None:
    setup = Setup()
    setup.lun.answer(READ_16, [CAPACITY_CHANGED])
    setup.lun.answer(READ_CAPACITY_16, [check_condition("04/44/00")])
    assert setup.read() == good_read()
    assert setup.client.info.block_count == 1024
    assert setup.events == ["done"]


@pytest.mark.parametrize("is_held", [False, True])
def test_a_change_during_the_look_leads_to_another(is_held: bool) -> None:
    setup = Setup()

    def resized_after_read_capacity() -> Iterator[Answer]:
        assert setup.lun.count(READ_CAPACITY_16) == 1
        setup.vdisk.block_count = setup.lun.unit.block_count = 333
        yield CAPACITY_CHANGED

    setup.lun.answer(READ_16, [CAPACITY_CHANGED])
    setup.lun.answer(MODE_SENSE_10, resized_after_read_capacity())
    setup.lun.is_held = is_held
    outcomes = setup.read()
    setup.lun.release_all()
    assert outcomes == good_read()
    assert setup.client.info.block_count == 333
    assert setup.lun.count(READ_CAPACITY_16) == 2
    assert setup.events == ["change", "done"]


def test_opening_looks_again_when_the_lun_changes_on_the_way() -> None:
    setup = Setup(is_open=False)
    setup.lun.answer(MODE_SENSE_10, [CAPACITY_CHANGED])
    setup.client.open(setup.opened.append)
    assert setup.opened == [None]
    assert setup.lun.count(READ_CAPACITY_16) == 2
    assert setup.events == []


def test_a_lun_that_changes_during_each_look_is_taken_as_last_found() -> None:
    setup = Setup(is_open=False)
    setup.lun.answer(MODE_SENSE_10, cycle([CAPACITY_CHANGED, None]))
    setup.client.open(setup.opened.append)
    assert setup.opened == [None]
    assert setup.client.info.has_volatile_cache
    assert 1 < setup.lun.count(READ_CAPACITY_16) < 10


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("answer", [CAPACITY_CHANGED, RESET])
def test_a_storm_of_unit_attentions_ends(answer: Answer, is_held: bool) -> None:
    setup = Setup()
    for opcode in (READ_16, TEST_UNIT_READY, READ_CAPACITY_16, MODE_SENSE_10):
        setup.lun.answer(opcode, repeat(answer))
    setup.lun.is_held = is_held
    outcomes = setup.read()
    setup.lun.release_all()
    assert outcomes == final(answer)
    assert setup.lun.count(READ_16) == 9
    assert len(setup.lun.log) < 200
    assert not setup.nexus.outstanding


def test_many_different_attentions_are_all_taken() -> None:
    setup = Setup()
    texts = ["06/29/00", "06/2A/01", "06/2A/03", "06/2A/09", "06/3F/0E", "06/2F/00"]
    for text in texts:
        setup.nexus.establish_unit_attention(sense(text))
    assert setup.read() == good_read()
    assert setup.read() == good_read()
    assert setup.lun.count(READ_16) == 2


def test_a_failed_command_of_the_fast_path_can_be_recovered() -> None:
    setup = Setup()
    setup.lun.answer(READ_16, [RESET, BUSY])
    ended: list[Command] = []
    buffer = bytearray(512)
    command = Command(cdbs.block(cdbs.READ, 16, 5, 1), memoryview(buffer), None, ended.append)
    setup.nexus.submit(command)
    assert reply_of(ended.pop()) == final(RESET)[0]
    setup.client.recover(command, ended.append)
    setup.clock.run()
    assert [reply_of(command) for command in ended] == good_read()
    assert buffer == setup.vdisk.blocks(5, 1)


def reads(count: int) -> Exchange[int]:
    """Read that many blocks, one at a time; return how many bytes came."""
    total = 0
    buffer = memoryview(bytearray(512))
    for number in range(count):
        cdb = cdbs.block(cdbs.READ, 16, number % 1024, 1)
        total += succeed((yield Request(cdb, buffer))).data_in_length
    return total


def test_ten_thousand_steps_run_inline_without_recursion() -> None:
    steps = 10_000
    assert steps > sys.getrecursionlimit()
    setup = Setup()
    outcomes: list[int | ScsiError] = []
    setup.client.run(reads(steps), outcomes.append)
    assert outcomes == [steps * 512]
    assert setup.lun.count(READ_16) == steps


def test_inline_retries_of_ten_thousand_steps_need_no_recursion() -> None:
    setup = Setup()

    def attentions() -> Iterator[Answer | None]:
        while True:
            yield RESET
            yield None

    setup.lun.answer(READ_16, attentions())
    outcomes: list[int | ScsiError] = []
    setup.client.run(reads(10_000), outcomes.append)
    assert outcomes == [10_000 * 512]


def test_an_exchange_waits_for_slow_commands() -> None:
    setup = Setup()
    setup.lun.is_held = True
    outcomes: list[int | ScsiError] = []
    setup.client.run(reads(3), outcomes.append)
    for _ in range(3):
        assert outcomes == []
        setup.lun.release()
    assert outcomes == [3 * 512]


def test_an_exchange_is_retried_step_by_step() -> None:
    setup = Setup()
    setup.lun.answer(READ_16, [None, BUSY, RESET, None])
    outcomes: list[int | ScsiError] = []
    setup.client.run(reads(3), outcomes.append)
    setup.clock.run()
    assert outcomes == [3 * 512]
    assert setup.lun.count(READ_16) == 5


def test_a_failed_exchange_ends_with_its_error() -> None:
    setup = Setup()
    setup.lun.answer(READ_16, [None, READ_ERROR])
    outcomes: list[int | ScsiError] = []
    setup.client.run(reads(3), outcomes.append)
    (failure,) = outcomes
    assert isinstance(failure, ScsiError)
    assert failure.reply == Reply(Status.CHECK_CONDITION, READ_ERROR.sense, 0)
    assert setup.lun.count(READ_16) == 2


def test_an_exchange_may_go_on_after_a_failure() -> None:
    def careful() -> Exchange[str]:
        outcome = yield Request(cdbs.block(cdbs.READ, 16, 0, 1), memoryview(bytearray(512)))
        return "refused" if isinstance(outcome, ScsiError) else "read"

    setup = Setup()
    setup.lun.answer(READ_16, [READ_ERROR])
    outcomes: list[str | ScsiError] = []
    setup.client.run(careful(), outcomes.append)
    setup.client.run(careful(), outcomes.append)
    assert outcomes == ["refused", "read"]


def test_what_changed_while_a_port_had_no_access_is_learnt_when_it_has() -> None:
    ports = TwoPorts()
    client = LunClient(ports.first.session, 0, ManualClock())
    client.open(lambda error: None)
    outcomes: list[Reply] = []

    def read() -> Reply:
        cdb, buffer = cdbs.block(cdbs.READ, 16, 0, 1), memoryview(bytearray(512))
        client.submit(Command(cdb, buffer, None, lambda ended: outcomes.append(reply_of(ended))))
        return outcomes.pop()

    ports.group.set_state(ports.one, AccessState.STANDBY)
    ports.vdisk.new_block_count = 2048
    ports.unit.resync_size()
    assert read() == Reply(Status.CHECK_CONDITION, sense("02/04/0B"), 0)
    assert client.info.block_count == 1024
    ports.group.set_state(ports.one, AccessState.ACTIVE)
    assert [read()] == good_read()
    assert client.info.block_count == 2048
