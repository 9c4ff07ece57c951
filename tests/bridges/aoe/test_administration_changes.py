# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may change a target, when a change counts, and who is told."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from bridges.aoe.acl import AccessList
from bridges.aoe.policy import Policy
from bridges.aoe.state import KeptState, TargetState
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
    REQUEST_TO_ANYBODY,
    TARGET_MAC,
    Bench,
    CollectingPort,
    answer,
    ask,
    ata,
    error_reply,
    mask,
    padded,
    read_ext,
    reserve,
)

_A, _B = CLIENT_MAC, OTHER_CLIENT_MAC
_READ_B = ata("40 00 01 24 070000000000 0000", header=REQUEST_OF_OTHER)


class _Disk:
    """Keeps states when it is told to."""

    def __init__(self) -> None:
        self.pending: list[Callable[[OSError | None], None]] = []

    def save(self, state: TargetState, done: Callable[[OSError | None], None]) -> None:
        self.pending.append(done)


_ADD_A, _ADD_B = f"00 01 {_A}", f"00 01 {_B}"
_CHANGES = {
    "set config": ask("0000 0000 00 03 0001 78", 1, REQUEST_TO_ANYBODY),
    "force set config": ask("0000 0000 00 04 0001 78", 1, REQUEST_TO_ANYBODY),
    "edit mask": mask(f"00 01 00 01 {_ADD_A}", REQUEST_TO_ANYBODY),
    "reserve": reserve(f"01 01 {_A}", REQUEST_TO_ANYBODY),
    "force reserve": reserve(f"02 01 {_A}", REQUEST_TO_ANYBODY),
}


@pytest.mark.parametrize("name", _CHANGES)
@pytest.mark.parametrize("address", ["ffff ff", "0001 ff", "ffff 01"])
def test_one_frame_cannot_change_every_target(name: str, address: str) -> None:
    state = KeptState()
    bench = Bench(state=state)
    frame = _CHANGES[name][:16] + bytes.fromhex(address) + _CHANGES[name][19:]
    assert bench.exchange(frame) == []
    assert state.value == TargetState()


def test_wildcards_may_read_all_three() -> None:
    assert Bench().exchange(
        ask("0000 0000 00 00 0000", 1, REQUEST_TO_ANYBODY),
        mask("00 00 00 00", REQUEST_TO_ANYBODY),
        reserve("00 00", REQUEST_TO_ANYBODY),
    ) == [
        answer("0040 0001 02 10 0000", 1),
        answer("00 00 00 00", 2),
        answer("00 00", 3),
    ]


def test_without_in_band_editing_nothing_can_be_changed_and_everything_read() -> None:
    state = KeptState(TargetState(b"abc"))
    bench = Bench(policy=Policy(in_band_editing=False), state=state)
    refused = {
        ask("0000 0000 00 03 0003 616263", 1): ("0040 0001 02 13 0003 616263", 1),
        ask("0000 0000 00 04 0000", 1): ("0040 0001 02 14 0003 616263", 1),
        mask(f"00 01 00 01 {_ADD_A}"): ("00 01 00 01", 2),
        reserve(f"01 01 {_A}"): ("01 01", 3),
        reserve("02 00"): ("02 00", 3),
    }
    for frame, (argument, command) in refused.items():
        assert bench.exchange(frame) == [answer(argument, command, error_reply(2))]
    assert state.value == TargetState(b"abc")
    assert bench.exchange(
        ask("0000 0000 00 01 0003 616263", 1), mask("00 00 00 00"), reserve("00 00")
    ) == [
        answer("0040 0001 02 11 0003 616263", 1),
        answer("00 00 00 00", 2),
        answer("00 00", 3),
    ]


_EDITS = {
    "config": (ask("0000 0000 00 04 0001 78", 1), "0040 0001 02 14 0000", 1),
    "mask": (mask(f"00 01 00 01 {_ADD_A}"), "00 01 00 01", 2),
    "reserve": (reserve(f"01 01 {_A}"), "01 00", 3),
}


@pytest.mark.parametrize("name", _EDITS)
def test_a_change_is_answered_when_it_is_kept(name: str) -> None:
    disk = _Disk()
    state = KeptState(None, disk.save)
    bench = Bench(state=state)
    frame, _, _ = _EDITS[name]
    assert bench.exchange(frame) == []
    assert state.value == TargetState()
    # Data do not wait for it.
    assert len(bench.exchange(read_ext(7, 1))) == 1
    disk.pending.pop()(None)
    (reply,) = bench.port.take()
    assert reply[14:16] == b"\x18\0"
    assert state.value != TargetState()
    assert bench.port.allocated == 0


@pytest.mark.parametrize("name", _EDITS)
def test_a_change_that_cannot_be_kept_is_refused_and_not_made(name: str) -> None:
    disk = _Disk()
    state = KeptState(None, disk.save)
    bench = Bench(state=state)
    frame, argument, command = _EDITS[name]
    bench.exchange(frame)
    disk.pending.pop()(OSError(errno.ENOSPC, "full"))
    assert bench.port.take() == [answer(argument, command, error_reply(3))]
    assert state.value == TargetState()
    assert len(bench.exchange(_READ_B)) == 1
    assert bench.port.forgotten == 0


def test_a_reservation_that_cannot_be_kept_is_refused_at_once() -> None:
    disk = _Disk()
    bench = Bench(state=KeptState(None, disk.save))
    bench.exchange(_READ_B)
    bench.lun.held_opcodes = {Opcode.WRITE_16}
    bench.receive(ata("41 00 01 34 070000000000 0000", bytes(512), header=REQUEST_OF_OTHER))
    bench.receive(reserve(f"01 01 {_A}"))
    disk.pending.pop()(None)
    # Waits for the write of B.
    assert bench.port.take() == []
    bench.receive(reserve(f"01 02 {_A} {_A}"))
    disk.pending.pop()(OSError(errno.ENOSPC, "full"))
    assert bench.port.take() == [answer(f"01 01 {_A}", 3, error_reply(3))]


def test_a_flood_of_changes_is_not_hoarded() -> None:
    bench = Bench(state=KeptState(None, _Disk().save))
    for number in range(1000):
        bench.receive(ask(f"0000 0000 00 04 0004 {number:08x}", 1))
    assert bench.port.allocated < 100


def test_what_was_kept_is_in_force_from_the_start() -> None:
    state = KeptState(TargetState(b"abc", (bytes.fromhex(_A),), (bytes.fromhex(_B),)))
    bench = Bench(state=state)
    assert bench.announcements == [
        padded(ANNOUNCEMENT.replace(BROADCAST_MAC, _A).replace("10 0000", "10 0003 616263"))
    ]
    assert bench.exchange(_READ_B) == []
    (refused,) = bench.exchange(read_ext(7, 1))
    assert refused[14:16] == bytes.fromhex("1c06")
    assert not bench.target.admits_data(bytes.fromhex(_A))


def test_a_config_string_that_fits_no_frame_of_the_smallest_port_is_a_bad_argument() -> None:
    bench = Bench()
    small = CollectingPort("02000000000a")
    small.mtu = 548
    bench.target.attach(small)
    for length, error in ((531, 2), (530, 0)):
        frame = ask(f"0000 0000 00 04 {length:04x}", 1) + b"s" * length
        (reply,) = bench.exchange(frame)
        assert reply[15] == error
    (reply,) = bench.exchange(ask("0000 0000 00 00 0000", 1))
    assert len(reply) == 14 + 548


def test_denied_hosts_are_not_heard_whatever_the_mask_list_says() -> None:
    access = AccessList(deny=frozenset((bytes.fromhex(_B),)))
    bench = Bench(policy=Policy(access=access))
    bench.exchange(mask(f"00 01 00 02 {_ADD_A} {_ADD_B}"))
    assert bench.exchange(_READ_B, ask("0000 0000 00 00 0000", 1, REQUEST_OF_OTHER)) == []
    assert len(bench.exchange(read_ext(7, 1))) == 1


def test_only_allowed_hosts_are_heard_and_told() -> None:
    access = AccessList(allow=frozenset((bytes.fromhex(_A),)))
    bench = Bench(policy=Policy(access=access))
    assert bench.announcements == [padded(ANNOUNCEMENT.replace(BROADCAST_MAC, _A))]
    assert bench.exchange(_READ_B) == []
    assert len(bench.exchange(read_ext(7, 1))) == 1


def test_ports_forget_flows_when_a_list_decides_differently_about_somebody() -> None:
    bench = Bench()
    other = CollectingPort("02000000000a")
    bench.target.attach(other)
    counts = []
    for frame in (
        mask("00 00 00 00"),
        ask("0000 0000 00 04 0001 78", 1),
        mask(f"00 01 00 01 {_ADD_A}"),
        mask(f"00 01 00 01 {_ADD_A}"),
        reserve(f"01 01 {_A}"),
        reserve(f"01 01 {_A}"),
        reserve("01 00"),
    ):
        bench.exchange(frame)
        counts.append((bench.port.forgotten, other.forgotten))
    assert counts == [(count, count) for count in (0, 0, 1, 1, 2, 2, 3)]


def test_data_are_admitted_by_all_the_lists_together() -> None:
    bench = Bench(policy=Policy(access=AccessList(deny=frozenset((b"\2\0\0\0\0\4",)))))
    one, two, denied = bytes.fromhex(_A), bytes.fromhex(_B), b"\2\0\0\0\0\4"

    def admitted() -> list[bytes]:
        return [mac for mac in (one, two, denied) if bench.target.admits_data(mac)]

    assert admitted() == [one, two]
    bench.exchange(reserve(f"01 01 {_A}"))
    assert admitted() == [one]
    bench.exchange(reserve("01 00"), mask(f"00 01 00 01 {_ADD_A}"))
    assert admitted() == [one]


def test_replies_come_from_the_port_and_have_its_counts() -> None:
    bench = Bench()
    port = CollectingPort("02000000000a", sector_count=16)
    port.mtu = 9000
    bench.target.attach(port)
    port.take()
    header = REQUEST.replace(TARGET_MAC, "02000000000a")
    bench.target.receive(memoryview(reserve(f"01 01 {_A}", header)), port)
    expected = answer(f"01 01 {_A}", 3, REPLY.replace(TARGET_MAC, "02000000000a"))
    assert port.take() == [expected]


def test_a_frame_that_comes_when_its_port_has_left_is_answered() -> None:
    bench = Bench()
    bench.target.detach(bench.port)
    assert bench.exchange(reserve(f"01 01 {_A}")) == [answer(f"01 01 {_A}", 3)]


_MANY = [_A, *(f"0204{number:08x}" for number in range(149))]
_MANY_STATE = TargetState(mask_list=tuple(bytes.fromhex(mac) for mac in _MANY))


def _attach_narrow_port(bench: Bench) -> None:
    port = CollectingPort("02000000000a")
    port.mtu = 548
    bench.target.attach(port)


@pytest.mark.parametrize("removed", [1, 0])
def test_a_mask_list_too_long_for_a_narrower_port_is_shown_whole_where_it_fits(
    removed: int,
) -> None:
    bench = Bench(state=KeptState(_MANY_STATE))
    _attach_narrow_port(bench)
    edit = f"00 01 00 {removed:02x} " + f"00 02 {_MANY[-1]}" * removed
    left = _MANY[: 150 - removed]
    shown = " ".join(f"00 00 {mac}" for mac in left)
    assert bench.exchange(mask(edit)) == [answer(f"00 01 00 {len(left):02x} {shown}", 2)]
    assert bench.port.allocated == 0


def test_a_reserve_list_too_long_for_a_narrower_port_is_shown_whole_where_it_fits() -> None:
    bench = Bench()
    macs = " ".join([_B, *_MANY[1:]])
    bench.exchange(reserve(f"01 96 {macs}"))
    _attach_narrow_port(bench)
    refused = answer(f"01 96 {macs}", 3, error_reply(6))
    assert bench.exchange(reserve(f"01 01 {_A}")) == [refused]
    # It could not be set again, since the narrower port can show no more than 87.
    again = reserve(f"01 96 {macs}", REQUEST_OF_OTHER)
    assert bench.exchange(again) == [answer("01 96", 3, error_reply(2, REPLY_TO_OTHER))]
    assert bench.port.allocated == 0


@pytest.mark.parametrize(
    ("mtu_before", "mtu_after", "frame", "length_bytes"),
    [
        # (548 - 28) / 8 = 65, (548 - 26) / 6 = 87.
        (548, 9000, mask(f"00 01 00 01 00 02 {_MANY[-1]}"), 28 + 65 * 8),
        (9000, 548, mask(f"00 01 00 01 00 02 {_MANY[-1]}"), 28 + 65 * 8),
        (9000, 548, reserve(f"01 96 {' '.join(_MANY)}"), 26 + 87 * 6),
        (548, 9000, ask("0000 0000 00 04 0212", 1) + b"s" * 530, 14 + 548),
        (9000, 548, ask("0000 0000 00 04 0400", 1) + b"s" * 1024, 14 + 548),
    ],
    ids=["mask, wider", "mask", "reserve", "config, wider", "config"],
)
def test_a_reply_fits_its_port_whose_mtu_changed_while_the_change_was_kept(
    mtu_before: int, mtu_after: int, frame: bytes, length_bytes: int
) -> None:
    disk = _Disk()
    bench = Bench(state=KeptState(_MANY_STATE, disk.save))
    bench.port.mtu = mtu_before
    bench.receive(frame)
    bench.port.mtu = mtu_after
    disk.pending.pop()(None)
    (reply,) = bench.port.take()
    assert (reply[14:16], len(reply)) == (b"\x18\0", length_bytes)
    assert bench.port.allocated == 0
