# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of one command's way to its reply: buffers, failures, retries and order."""

from __future__ import annotations

import errno

import pytest

from bridges.aoe.policy import Policy, ReservationConflict
from scsi_backend.t10 import sense
from scsi_backend.t10.opcodes import Opcode
from scsi_backend.t10.sense import Sense
from scsi_backend.t10.status import Status
from tests.bridges.aoe.bench import (
    ANNOUNCEMENT,
    Bench,
    ask,
    ata,
    ata_reply,
    by_tag,
    padded,
    read_ext,
    write_ext,
)
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern

_A = b"A" * 512
_B = b"B" * 512


def _tag(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_a_read_that_has_to_wait_is_replied_to_when_the_data_are_there() -> None:
    bench = Bench()
    bench.log_in()
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    assert not bench.receive(read_ext(7, 2))
    assert bench.port.take() == []
    assert bench.port.allocated == 1
    bench.vdisk.release()
    assert bench.port.take() == [
        ata_reply("40 00 00 40 070000000000 0000", pattern(7, 512), pattern(8, 512))
    ]
    assert bench.port.allocated == 0
    assert bench.port.released == []


def test_the_frame_of_a_waiting_write_is_kept_until_it_is_done() -> None:
    bench = Bench()
    bench.log_in()
    bench.vdisk.immediate_bytes = NOT_NOW
    bench.vdisk.is_held = True
    frame = memoryview(bytearray(write_ext(7, _A)))
    assert bench.target.receive(frame, bench.port)
    bench.vdisk.release()
    # Written, but not yet on stable storage.
    assert bench.vdisk.blocks(7, 1) == _A
    assert bench.port.take() == []
    assert bench.port.released == []
    bench.vdisk.release()
    assert bench.port.take() == [ata_reply("41 00 00 40 070000000000 0000")]
    assert len(bench.port.released) == 1
    assert bench.port.released[0] is frame


def test_a_write_that_is_done_at_once_keeps_nothing() -> None:
    bench = Bench()
    assert not bench.receive(write_ext(7, _A))
    assert bench.port.released == []
    assert bench.vdisk.blocks(7, 1) == _A


def test_a_write_is_on_stable_storage_before_its_reply_unless_durable_is_off() -> None:
    bench = Bench()
    bench.exchange(write_ext(7, _A))
    assert bench.vdisk.names[-2:] == ["write_now", "sync"]
    bench.target.durable = False
    bench.exchange(write_ext(7, _A))
    assert bench.vdisk.names[-1] == "write_now"
    bench.exchange(ata("41 00 01 3d 070000000000 0000", _A))
    assert bench.vdisk.names[-2:] == ["write_now", "sync"]


@pytest.mark.parametrize("opcode", ["e7", "ea"])
def test_flush_reaches_the_backend_before_its_reply(opcode: str) -> None:
    bench = Bench()
    bench.log_in()
    bench.vdisk.is_held = True
    bench.receive(ata(f"00 00 00 {opcode} 000000000000 0000"))
    assert bench.port.take() == []
    assert bench.vdisk.names[-1] == "sync"
    bench.vdisk.release()
    assert bench.port.take() == [ata_reply("00 00 00 40 000000000000 0000")]


def test_a_failed_read_sends_nothing_of_what_it_got() -> None:
    bench = Bench()
    # One sector comes at once, the next one is bad.
    bench.vdisk.immediate_bytes = 512
    bench.vdisk.faults.errno_at[8] = errno.EIO
    (reply,) = bench.exchange(read_ext(7, 2))
    # UNC at LBA 8, one sector remaining.
    assert reply == ata_reply("40 40 01 41 080000000000 0000")


def test_a_bad_sector_of_an_lba28_read_leaves_the_device_registers_flags() -> None:
    bench = Bench()
    bench.vdisk.faults.errno_at[8] = errno.EIO
    bench.vdisk.faults.stored_bytes = 8 * 512
    (reply,) = bench.exchange(ata("00 00 02 20 070000e00000 0000"))
    assert reply == ata_reply("00 40 02 41 070000e00000 0000")


def test_information_outside_the_request_is_not_believed() -> None:
    bench = Bench()
    bench.log_in()
    bad = Sense(0x03, 0x1100, information=99)
    bench.lun.answers[Opcode.READ_16] = [(Status.CHECK_CONDITION, bad)]
    assert bench.exchange(read_ext(7, 2)) == [ata_reply("40 40 02 41 070000000000 0000")]


def test_a_read_that_claims_success_without_data_is_a_device_fault() -> None:
    bench = Bench()
    bench.log_in()
    bench.lun.answers[Opcode.READ_16] = [(Status.GOOD, None)]
    assert bench.exchange(read_ext(7, 1)) == [ata_reply("40 04 01 61 070000000000 0000")]


def test_a_unit_attention_is_never_seen_by_the_client() -> None:
    bench = Bench()
    bench.log_in()
    bench.lun.unit.raise_unit_attention(sense.RESET_OCCURRED)
    assert bench.exchange(read_ext(7, 1)) == [
        ata_reply("40 00 00 40 070000000000 0000", pattern(7, 512))
    ]


@pytest.mark.parametrize("status", [Status.BUSY, Status.TASK_SET_FULL])
def test_a_busy_backend_is_asked_again_later(status: Status) -> None:
    bench = Bench()
    bench.log_in()
    bench.lun.answers[Opcode.WRITE_16] = [(status, None)] * 3
    assert bench.receive(write_ext(7, _A))
    assert bench.port.take() == []
    bench.clock.pass_time(1)
    assert bench.port.take() == [ata_reply("41 00 00 40 070000000000 0000")]
    assert bench.vdisk.blocks(7, 1) == _A
    assert len(bench.port.released) == 1


def test_a_backend_that_stays_busy_is_given_up() -> None:
    bench = Bench()
    bench.log_in()
    bench.lun.answers[Opcode.READ_16] = [(Status.BUSY, None)] * 1000
    bench.receive(read_ext(7, 1))
    bench.clock.pass_time(60)
    assert bench.port.take() == [ata_reply("40 04 01 41 070000000000 0000")]


def test_a_reservation_conflict_fails_at_once() -> None:
    bench = Bench()
    bench.log_in()
    bench.lun.answers[Opcode.READ_16] = [(Status.RESERVATION_CONFLICT, None)]
    bench.lun.answers[Opcode.START_STOP_UNIT] = [(Status.RESERVATION_CONFLICT, None)]
    assert bench.exchange(read_ext(7, 1)) == [ata_reply("40 04 01 41 070000000000 0000")]
    assert bench.exchange(ata("00 00 00 e0 000000000000 0000")) == [
        ata_reply("00 04 00 41 000000000000 0000")
    ]


def test_a_reservation_conflict_is_an_aoe_error_if_that_is_wanted() -> None:
    bench = Bench(policy=Policy(reservation_conflict=ReservationConflict.AOE))
    bench.log_in()
    bench.lun.answers[Opcode.READ_16] = [(Status.RESERVATION_CONFLICT, None)]
    header = "020000000002 020000000001 88a2 1c 06 0001 01"
    # The argument is as it came.
    assert bench.exchange(read_ext(7, 1)) == [
        ata_reply("40 00 01 24 070000000000 0000", header=header)
    ]


@pytest.mark.parametrize("code", [0x040B, 0x040C])
def test_a_lun_on_standby_is_not_announced_until_it_is_back(code: int) -> None:
    bench = Bench()
    bench.log_in()
    standby = (Status.CHECK_CONDITION, Sense(0x02, code))
    bench.lun.answers[Opcode.READ_16] = [standby]
    header = "020000000002 020000000001 88a2 1c 03 0001 01"
    assert bench.exchange(read_ext(7, 1)) == [
        ata_reply("40 00 01 24 070000000000 0000", header=header)
    ]
    assert bench.port.forgotten == 1
    bench.target.announce(bench.port)
    assert bench.port.take() == []
    # Asking is still answered: whoever asks may know more.
    assert len(bench.exchange(ask("0000 0000 00 00 0000", 1))) == 1
    announcement, read = bench.exchange(read_ext(7, 1))
    assert announcement == padded(ANNOUNCEMENT)
    assert read[27] == 0x40
    assert bench.port.forgotten == 2


def test_a_changed_medium_is_looked_at_and_what_was_meant_for_the_old_one_fails() -> None:
    bench = Bench()
    bench.log_in()
    bench.vdisk.new_block_count = 2048
    bench.vdisk.reread_size()
    bench.lun.unit.block_count = 2048
    bench.lun.unit.raise_unit_attention(Sense(0x06, 0x2800))
    announcement, refused = bench.exchange(write_ext(7, _A))
    assert announcement == padded(ANNOUNCEMENT)
    assert refused == ata_reply("41 04 01 41 070000000000 0000")
    assert bench.vdisk.blocks(7, 1) == pattern(7, 512)


def test_lost_data_are_an_error_in_the_log_and_failures_are_logged_sparingly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.log_in()
    for number in range(100):
        source = f"020000000001 0200000001{number:02x} 88a2 10 00 0001 01"
        bench.exchange(read_ext(5000, 1))
        bench.exchange(ata("40 00 01 24 881300000000 0000", header=source))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "e1.1 from 02:00:00:00:00:02: READ(16): ILLEGAL REQUEST 21/00" in caplog.text
    lost = Sense(0x03, 0x0300, deferred=True)
    bench.lun.answers[Opcode.READ_16] = [(Status.CHECK_CONDITION, lost)]
    assert bench.exchange(read_ext(7, 1)) == [ata_reply("40 04 01 61 070000000000 0000")]
    assert caplog.records[-1].levelname == "ERROR"
    assert "data of earlier writes are lost" in caplog.text


def test_other_failures_say_nothing_about_the_path() -> None:
    bench = Bench()
    bench.log_in()
    bench.lun.answers[Opcode.READ_16] = [(Status.CHECK_CONDITION, Sense(0x04, 0x4400))]
    bench.exchange(read_ext(7, 1))
    bench.target.announce(bench.port)
    assert bench.port.take() == [padded(ANNOUNCEMENT)]


def test_commands_that_arrive_while_the_session_opens_are_done_after_it() -> None:
    bench = Bench()
    bench.lun.held_opcodes = {Opcode.INQUIRY}
    bench.receive(read_ext(7, 1, "00000001"))
    assert bench.receive(write_ext(7, _A, "00000002"))
    bench.receive(read_ext(7, 1, "00000003"))
    assert bench.port.take() == []
    bench.lun.held_opcodes = set()
    bench.lun.release()
    replies = by_tag(bench.port.take())
    assert replies[_tag(1)][36:] == pattern(7, 512)
    assert replies[_tag(2)][27] == 0x40
    assert replies[_tag(3)][36:] == _A
    assert len(bench.port.released) == 1


def test_if_the_session_cannot_be_opened_the_command_fails_as_that_did() -> None:
    bench = Bench()
    standby = Sense(0x02, 0x040B)
    bench.lun.answers[Opcode.TEST_UNIT_READY] = [(Status.CHECK_CONDITION, standby)]
    # The first answer is used up by the TEST UNIT READY that opens the session.
    header = "020000000002 020000000001 88a2 1c 03 0001 01"
    bench.lun.answers[Opcode.TEST_UNIT_READY] *= 2
    assert bench.exchange(read_ext(7, 1)) == [
        ata_reply("40 00 01 24 070000000000 0000", header=header)
    ]
    assert bench.scsi_target.sessions == ()


@pytest.mark.parametrize("code", [0x0403, 0x2800])
def test_a_session_that_cannot_be_opened_is_logged(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    broken = Sense(0x02 if code == 0x0403 else 0x05, code)
    bench.lun.answers[Opcode.TEST_UNIT_READY] = [(Status.CHECK_CONDITION, broken)] * 9
    bench.exchange(read_ext(7, 1), read_ext(7, 1))
    # The others of this second are counted.
    (text,) = caplog.messages
    assert text.startswith("e1.1 from 02:00:00:00:00:02: TEST UNIT READY: ")
    assert f"{code >> 8:02x}/{code & 0xFF:02x}" in text


def test_overlapping_writes_are_done_in_the_order_of_their_arrival() -> None:
    bench = Bench()
    bench.log_in()
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    bench.receive(write_ext(7, _A, "00000001"))
    bench.receive(write_ext(7, _B, "00000002"))
    bench.receive(read_ext(6, 2, "00000003"))
    bench.receive(read_ext(8, 1, "00000004"))
    # Only what overlaps waits: one write has reached the LUN, and the read beside it is done.
    assert bench.lun.opcodes() == [Opcode.WRITE_16, Opcode.READ_16]
    assert list(by_tag(bench.port.take())) == [_tag(4)]
    bench.lun.release()
    assert list(by_tag(bench.port.take())) == [_tag(1)]
    assert bench.vdisk.blocks(7, 1) == _A
    bench.lun.release()
    replies = by_tag(bench.port.take())
    assert list(replies) == [_tag(2), _tag(3)]
    assert replies[_tag(3)][36:] == pattern(6, 512) + _B
    assert bench.vdisk.blocks(7, 1) == _B


def test_a_late_duplicate_does_not_undo_a_newer_write() -> None:
    bench = Bench()
    bench.log_in()
    # The first write is slow, so the client sends it again under a new tag; both are under way when
    # a newer write comes.
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    for tag, data in (("00000001", _A), ("00000002", _A), ("00000003", _B)):
        bench.receive(write_ext(7, data, tag))
    while bench.lun.held:
        bench.lun.release(-1)
    assert bench.vdisk.blocks(7, 1) == _B


def test_a_write_that_is_being_retried_keeps_its_place() -> None:
    bench = Bench()
    bench.log_in()
    bench.lun.answers[Opcode.WRITE_16] = [(Status.BUSY, None)]
    bench.receive(write_ext(7, _A))
    bench.receive(write_ext(7, _B))
    bench.clock.pass_time(1)
    assert bench.vdisk.blocks(7, 1) == _B
    assert len(bench.port.take()) == 2


@pytest.mark.parametrize(
    ("register_count", "cdb"),
    [
        ("03", "8f 00 0000000000000005 00000003 0000"),
        ("00", "8f 00 0000000000000005 00000100 0000"),
    ],
)
def test_read_verify_reads_the_medium_and_sends_no_data(register_count: str, cdb: str) -> None:
    bench = Bench()
    bench.log_in()
    (reply,) = bench.exchange(ata(f"00 00 {register_count} 40 050000e00000 0000"))
    assert reply == ata_reply("00 00 00 40 050000e00000 0000")
    assert bench.lun.cdbs == [bytes.fromhex(cdb)]


def test_read_verify_finds_the_bad_sector() -> None:
    bench = Bench(FaultyVdisk())
    bench.vdisk.faults.stored_bytes = 20 * 512
    (reply,) = bench.exchange(ata("40 00 00 42 050000000000 0000"))
    # It is not the size of the disk that ends it: the range does, at LBA 5 + 65536.
    assert reply == ata_reply("40 10 00 41 050000000000 0000")
    (reply,) = bench.exchange(ata("40 00 20 42 050000000000 0000"))
    assert reply == ata_reply("40 40 11 41 140000000000 0000")


@pytest.mark.parametrize("opcode", ["e5", "98"])
def test_check_power_mode_says_active(opcode: str) -> None:
    bench = Bench()
    bench.log_in()
    (reply,) = bench.exchange(ata(f"00 00 00 {opcode} 000000000000 0000"))
    assert reply == ata_reply("00 00 ff 40 000000000000 0000")
    assert bench.lun.opcodes() == [Opcode.TEST_UNIT_READY]
