# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden frames of Query Config, MAC Mask List and Reserve/Release, and what they do to others."""

from __future__ import annotations

import pytest

from bridges.aoe.fence import MAX_FENCES
from scsi_backend.t10.opcodes import Opcode
from tests.bridges.aoe.bench import (
    ANNOUNCEMENT,
    BROADCAST_MAC,
    CLIENT_MAC,
    OTHER_CLIENT_MAC,
    REPLY,
    REPLY_TO_OTHER,
    REQUEST,
    REQUEST_OF_OTHER,
    TAG,
    Bench,
    CollectingPort,
    answer,
    ask,
    ata,
    ata_reply,
    error_reply,
    mask,
    padded,
    read_ext,
    reserve,
    unhex,
    write_ext,
)

_A, _B = CLIENT_MAC, OTHER_CLIENT_MAC
_READ_B = ata("40 00 01 24 070000000000 0000", header=REQUEST_OF_OTHER)


# MAC Mask List, step by step: argument of the request, of the reply; True where it is an error 2.
_ADD_A, _ADD_B, _DELETE_A = f"00 01 {_A}", f"00 01 {_B}", f"00 02 {_A}"
_MASK_STEPS = [
    ("00 00 00 00", "00 00 00 00", False),
    (f"00 01 00 01 {_ADD_A}", f"00 01 00 01 00 00 {_A}", False),
    (f"00 01 00 01 {_ADD_A}", f"00 01 00 01 00 00 {_A}", False),
    (f"00 01 00 01 {_ADD_B}", f"00 01 00 02 00 00 {_A} 00 00 {_B}", False),
    # A read shows the list; reserved fields and what follows mean nothing.
    (f"ff 00 ff 01 {_DELETE_A}", f"00 00 00 02 00 00 {_A} 00 00 {_B}", False),
    (f"00 01 00 01 00 00 {_A}", f"00 01 00 02 00 00 {_A} 00 00 {_B}", False),
    ("00 01 00 00", f"00 01 00 02 00 00 {_A} 00 00 {_B}", False),
    # Delete what is there, and what is not.
    (f"00 01 00 02 00 02 {_B} 00 02 {_B}", f"00 01 00 01 00 00 {_A}", False),
    # A bad directive: those before it stay, its index is told, and there is no AoE error.
    (f"00 01 00 03 {_ADD_B} 00 07 {_A} {_DELETE_A}", "00 01 02 01", False),
    ("00 00 00 00", f"00 00 00 02 00 00 {_A} 00 00 {_B}", False),
    # A count beyond the frame, before anything is changed.
    (f"00 01 00 03 {_DELETE_A} {_DELETE_A}", "00 01 00 03", True),
    ("00 02 00 00", "00 02 00 00", True),
    ("00 ff 00 05", "00 ff 00 05", True),
    ("00 00 00 00", f"00 00 00 02 00 00 {_A} 00 00 {_B}", False),
    (f"00 01 00 02 {_DELETE_A} 00 02 {_B}", "00 01 00 00", False),
]


def test_mac_mask_list_step_by_step() -> None:
    bench = Bench()
    for request, reply, is_error in _MASK_STEPS:
        expected = answer(reply, 2, error_reply(2) if is_error else REPLY)
        assert bench.exchange(mask(request)) == [expected], request
    assert bench.port.allocated == 0


def test_a_frame_padded_by_its_sender_is_no_longer_list() -> None:
    bench = Bench()
    frame = mask(f"00 01 00 01 {_ADD_A}").ljust(60, b"\0")
    assert bench.exchange(frame) == [answer(f"00 01 00 01 00 00 {_A}", 2)]


def test_a_full_mask_list_is_told_and_its_reply_fits_the_smallest_mtu() -> None:
    bench = Bench()
    small = CollectingPort("02000000000a")
    small.mtu = 548
    bench.target.attach(small)
    macs = [_A, *(f"0204{number:08x}" for number in range(65))]
    directives = " ".join(f"00 01 {mac}" for mac in macs)
    # (548 - 28) / 8 = 65.
    assert bench.exchange(mask(f"00 01 00 42 {directives}")) == [answer("00 01 03 41", 2)]
    (reply,) = bench.exchange(mask("00 00 00 00"))
    assert (reply[27], len(reply)) == (65, 28 + 65 * 8)
    # And one that has become too long for its port is cut.
    bench.port.mtu = 100
    (reply,) = bench.exchange(mask("00 00 00 00"))
    assert (reply[27], len(reply)) == (9, 28 + 9 * 8)


def test_who_is_not_in_the_mask_list_gets_no_answer_to_anything() -> None:
    bench = Bench()
    bench.exchange(mask(f"00 01 00 01 {_ADD_A}"))
    frames = [
        _READ_B,
        ata("00 00 01 ec 000000a00000 0000", header=REQUEST_OF_OTHER),
        ask("0000 0000 00 00 0000", 1, REQUEST_OF_OTHER),
        mask(f"00 01 00 01 {_DELETE_A}", REQUEST_OF_OTHER),
        reserve("02 00", REQUEST_OF_OTHER),
        unhex(f"{REQUEST_OF_OTHER} 09 {TAG}"),
        unhex(f"{REQUEST_OF_OTHER.replace(' 10 ', ' 20 ')} 01 {TAG}"),
    ]
    assert bench.exchange(*frames) == []
    assert len(bench.exchange(read_ext(7, 1))) == 1
    bench.exchange(mask(f"00 01 00 01 {_ADD_B}"))
    assert len(bench.exchange(_READ_B)) == 1


def test_the_edit_that_shuts_its_sender_out_is_still_answered() -> None:
    bench = Bench()
    assert bench.exchange(mask(f"00 01 00 01 {_ADD_B}")) == [answer(f"00 01 00 01 00 00 {_B}", 2)]
    assert bench.exchange(mask("00 00 00 00")) == []


def test_masked_targets_announce_themselves_to_each_who_is_heard() -> None:
    bench = Bench()
    bench.exchange(mask(f"00 01 00 02 {_ADD_A} {_ADD_B}"))
    bench.target.announce(bench.port)
    assert bench.port.take() == [
        padded(ANNOUNCEMENT.replace(BROADCAST_MAC, mac)) for mac in (_A, _B)
    ]


# Reserve/Release, step by step: header, argument of the request, of the reply, error.
_RESERVE_STEPS = [
    (REQUEST, "00 00", "00 00", 0),
    (REQUEST, "01 00", "01 00", 0),
    (REQUEST, f"01 01 {_A}", f"01 01 {_A}", 0),
    (REQUEST_OF_OTHER, "00 00", f"00 01 {_A}", 0),
    # What a read has besides means nothing.
    (REQUEST_OF_OTHER, "00 ff", f"00 01 {_A}", 0),
    (REQUEST_OF_OTHER, f"01 01 {_B}", f"01 01 {_A}", 6),
    (REQUEST_OF_OTHER, "01 00", f"01 01 {_A}", 6),
    (REQUEST, f"01 02 {_A} {_B}", f"01 02 {_A} {_B}", 0),
    (REQUEST_OF_OTHER, f"01 01 {_B}", f"01 01 {_B}", 0),
    (REQUEST, f"02 01 {_A}", f"02 01 {_A}", 0),
    # Bad codes, and a count beyond the frame before anything is changed.
    (REQUEST, "03 00", "03 00", 2),
    (REQUEST, "ff 01", "ff 01", 2),
    (REQUEST, f"02 03 {_A} {_B}", "02 03", 2),
    (REQUEST, f"01 02 {_A} {_B[:10]}", "01 02", 2),
    (REQUEST, "00 00", f"00 01 {_A}", 0),
    (REQUEST, "01 00", "01 00", 0),
    (REQUEST_OF_OTHER, f"01 01 {_B}", f"01 01 {_B}", 0),
    (REQUEST, "02 00", "02 00", 0),
]


def test_reserve_release_step_by_step() -> None:
    bench = Bench()
    for header, request, reply, error in _RESERVE_STEPS:
        back = REPLY if header is REQUEST else REPLY_TO_OTHER
        expected = answer(reply, 3, error_reply(error, back) if error else back)
        assert bench.exchange(reserve(request, header)) == [expected], request
    assert bench.port.allocated == 0


def test_more_holders_than_fit_into_a_reply_are_a_bad_argument() -> None:
    bench = Bench()
    macs = " ".join(f"0204{number:08x}" for number in range(246))
    # (1500 - 26) / 6 = 245.
    assert bench.exchange(reserve(f"01 f6 {macs}")) == [answer("01 f6", 3, error_reply(2))]
    (reply,) = bench.exchange(reserve(f"01 f5 {macs}"))
    assert (reply[14], reply[25], len(reply)) == (0x18, 245, 26 + 245 * 6)
    bench.port.mtu = 100
    (reply,) = bench.exchange(reserve("00 00"))
    assert (reply[25], len(reply)) == (12, 26 + 12 * 6)


# Issue ATA of a host that a reservation excludes.
_FENCED = {
    "READ SECTORS EXT": ("40 00 01 24 070000000000", 0),
    "WRITE SECTORS EXT": ("41 00 01 34 070000000000", 512),
    "FLUSH CACHE": ("00 00 00 e7 000000000000", 0),
    "FLUSH CACHE EXT": ("00 00 00 ea 000000000000", 0),
    "CHECK POWER MODE": ("00 00 00 e5 000000000000", 0),
    "TRIM": ("41 01 01 06 000000000000", 512),
    "SET FEATURES": ("00 82 00 ef 000000000000", 0),
    "NOP": ("00 00 00 00 000000000000", 0),
    "opcode ff": ("00 00 00 ff 000000000000", 0),
}


@pytest.mark.parametrize("name", _FENCED)
def test_a_reserved_target_refuses_the_ata_commands_of_others(name: str) -> None:
    registers, data_bytes = _FENCED[name]
    bench = Bench()
    before = bytes(bench.vdisk.data)
    bench.exchange(reserve(f"01 01 {_A}"))
    request = ata(registers + "0000", b"x" * data_bytes, header=REQUEST_OF_OTHER)
    # The argument comes back as it was.
    expected = ata_reply(registers + "0000", header=error_reply(6, REPLY_TO_OTHER))
    assert bench.exchange(request) == [expected]
    assert bytes(bench.vdisk.data) == before
    assert bench.scsi_target.sessions == ()


def test_a_reserved_target_still_answers_everything_else() -> None:
    bench = Bench()
    bench.exchange(reserve(f"01 01 {_A}"))
    (identify,) = bench.exchange(ata("00 00 01 ec 000000a00000 0000", header=REQUEST_OF_OTHER))
    assert (identify[14], identify[27], len(identify)) == (0x18, 0x40, 36 + 512)
    assert bench.exchange(
        ask("0000 0000 00 04 0001 78", 1, REQUEST_OF_OTHER),
        mask("00 00 00 00", REQUEST_OF_OTHER),
        reserve("00 00", REQUEST_OF_OTHER),
    ) == [
        answer("0040 0001 02 14 0001 78", 1, REPLY_TO_OTHER),
        answer("00 00 00 00", 2, REPLY_TO_OTHER),
        answer(f"00 01 {_A}", 3, REPLY_TO_OTHER),
    ]
    assert len(bench.exchange(write_ext(7, bytes(512)))) == 1


def test_a_released_target_is_everybodys_again() -> None:
    bench = Bench()
    bench.exchange(reserve(f"01 01 {_A}"), reserve("01 00"))
    (reply,) = bench.exchange(_READ_B)
    assert reply[14:16] == b"\x18\0"


def test_a_reservation_is_answered_when_nothing_of_the_excluded_is_under_way_any_more() -> None:
    bench = Bench()
    bench.exchange(_READ_B)
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    late = ata("41 00 01 34 070000000000 0000", b"late" * 128, header=REQUEST_OF_OTHER)
    bench.receive(late)
    assert bench.exchange(reserve(f"01 01 {_A}")) == []
    # It is in force already.
    (refused,) = bench.exchange(_READ_B)
    assert refused[14:16] == bytes.fromhex("1c06")
    bench.clock.pass_time(1)
    assert bench.port.take() == []
    bench.lun.release()
    written, reserved = bench.port.take()
    assert written[14:28] == bytes.fromhex("1800 0001 01 00") + bytes.fromhex(TAG + "41000040")
    assert reserved == answer(f"01 01 {_A}", 3)
    # That of the sessions.
    assert bench.clock.pending == 1


def _with_a_late_write_of_b() -> Bench:
    """A bench on which a write of host B waits at the device."""
    bench = Bench()
    bench.exchange(read_ext(0, 1), _READ_B)
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    bench.receive(ata("41 00 01 34 070000000000 0000", b"late" * 128, header=REQUEST_OF_OTHER))
    return bench


def test_a_reservation_waits_for_writes_that_came_before_the_last_interface_went() -> None:
    bench = _with_a_late_write_of_b()
    bench.target.detach(bench.port)
    bench.target.attach(bench.port)
    bench.port.take()
    assert bench.exchange(reserve(f"02 01 {_A}")) == []
    bench.lun.release()
    written, reserved = bench.port.take()
    assert (written[14:16], written[24:28]) == (b"\x18\0", bytes.fromhex("41000040"))
    assert reserved == answer(f"02 01 {_A}", 3)


def test_a_refused_reservation_is_told_at_once() -> None:
    bench = _with_a_late_write_of_b()
    assert bench.exchange(reserve(f"01 01 {_A}")) == []
    # B has not got it, and its own write still waits.
    expected = answer(f"01 01 {_A}", 3, error_reply(6, REPLY_TO_OTHER))
    assert bench.exchange(reserve(f"01 01 {_B}", REQUEST_OF_OTHER)) == [expected]


def test_a_release_is_told_at_once() -> None:
    bench = _with_a_late_write_of_b()
    bench.receive(reserve(f"01 01 {_A}"))
    assert bench.exchange(reserve("01 00")) == [answer("01 00", 3)]


_IDENTIFY_B = ata("00 00 01 ec 000000a00000 0000", header=REQUEST_OF_OTHER)


def test_a_reservation_does_not_wait_for_an_identify() -> None:
    bench = Bench()
    bench.exchange(_READ_B)
    bench.lun.held_opcodes = {Opcode.TEST_UNIT_READY}
    bench.receive(_IDENTIFY_B)
    assert bench.exchange(reserve(f"01 01 {_A}")) == [answer(f"01 01 {_A}", 3)]
    bench.receive(_IDENTIFY_B)
    assert bench.exchange(reserve(f"01 01 {_A}")) == [answer(f"01 01 {_A}", 3)]
    assert len(bench.lun.held) == 2


def test_a_host_that_is_let_in_again_holds_up_no_reservation_by_what_it_does_then() -> None:
    bench = _with_a_late_write_of_b()
    bench.receive(reserve(f"01 01 {_A}"))
    assert bench.exchange(reserve("02 00", REQUEST_OF_OTHER)) == [
        answer("02 00", 3, REPLY_TO_OTHER)
    ]
    bench.receive(ata("41 00 01 34 090000000000 0000", bytes(512), header=REQUEST_OF_OTHER))
    assert len(bench.lun.held) == 2
    bench.lun.release()
    written, reserved = bench.port.take()
    assert written[28] == 7
    assert reserved == answer(f"01 01 {_A}", 3)


def test_a_flood_of_reservations_is_not_hoarded_while_they_wait() -> None:
    bench = _with_a_late_write_of_b()
    before = bench.port.allocated
    for _ in range(1000):
        bench.receive(reserve(f"02 01 {_A}"))
    assert bench.port.allocated - before == MAX_FENCES
    bench.lun.release()
    assert bench.port.take()[1:] == [answer(f"02 01 {_A}", 3)] * MAX_FENCES
    assert bench.exchange(reserve("01 00")) == [answer("01 00", 3)]


def test_what_waits_at_the_gate_when_its_host_is_fenced_off_is_refused() -> None:
    bench = Bench()
    bench.exchange(_READ_B)
    bench.lun.held_opcodes = {Opcode.VERIFY_16}
    for number in range(10):
        bench.receive(ata(f"40 00 01 42 {number:02x}0000000000 0000", header=REQUEST_OF_OTHER))
    at_once = len(bench.lun.held)
    assert at_once < 10
    assert bench.exchange(reserve(f"02 01 {_A}")) == []
    while bench.lun.held:
        bench.lun.release()
    *replies, reserved = bench.port.take()
    assert reserved == answer(f"02 01 {_A}", 3)
    refused = [reply for reply in replies if reply[14:16] == bytes.fromhex("1c06")]
    assert (len(replies), len(refused)) == (10, 10 - at_once)
    assert bench.lun.opcodes().count(Opcode.VERIFY_16) == at_once
