# SPDX-License-Identifier: GPL-2.0-or-later
"""The vocabulary of persistent reservations against SPC-4's tables, as golden numbers and bytes."""

from __future__ import annotations

import pytest

from scsi_backend.t10 import persistent_reservation as pr
from scsi_backend.t10.persistent_reservation import (
    FullStatus,
    ItNexusId,
    PrInAction,
    PrOutAction,
    ReservationType,
)
from scsi_backend.t10.transport_id import transport_id

# name, value, excludes reads, registrants may as well, all registrants hold
TYPES = [
    ("WRITE_EXCLUSIVE", 1, False, False, False),
    ("EXCLUSIVE_ACCESS", 3, True, False, False),
    ("WRITE_EXCLUSIVE_REGISTRANTS_ONLY", 5, False, True, False),
    ("EXCLUSIVE_ACCESS_REGISTRANTS_ONLY", 6, True, True, False),
    ("WRITE_EXCLUSIVE_ALL_REGISTRANTS", 7, False, True, True),
    ("EXCLUSIVE_ACCESS_ALL_REGISTRANTS", 8, True, True, True),
]


def test_there_are_no_other_types() -> None:
    assert {kind.name for kind in ReservationType} == {name for name, *_ in TYPES}


@pytest.mark.parametrize(("name", "value", "reads", "registrants", "everybody"), TYPES)
def test_type_has_its_value_and_meaning(
    name: str, value: int, reads: bool, registrants: bool, everybody: bool
) -> None:
    kind = ReservationType[name]
    assert kind == value
    found = (kind.excludes_reads, kind.is_registrants_only, kind.is_all_registrants)
    assert found == (reads, registrants, everybody)


def test_service_actions_have_t10s_numbers() -> None:
    assert [action.name for action in sorted(PrInAction)] == [
        *("READ_KEYS", "READ_RESERVATION", "REPORT_CAPABILITIES", "READ_FULL_STATUS"),
    ]
    assert [action.name for action in sorted(PrOutAction)] == [
        *("REGISTER", "RESERVE", "RELEASE", "CLEAR", "PREEMPT", "PREEMPT_AND_ABORT"),
        *("REGISTER_AND_IGNORE_EXISTING_KEY", "REGISTER_AND_MOVE"),
    ]
    assert [*map(int, PrInAction), *map(int, PrOutAction)] == [*range(4), *range(8)]


def test_keys_are_one_behind_the_other() -> None:
    assert pr.keys_data(3, []).hex() == "0000000300000000"
    golden = "00000007" + "00000010" + "00000000000000aa" + "1122334455667788"
    assert pr.keys_data(7, [0xAA, 0x1122334455667788]).hex() == golden


def test_reservation_has_key_scope_and_type() -> None:
    assert pr.reservation_data(1, None).hex() == "0000000100000000"
    golden = "00000002" + "00000010" + "00000000000000aa" + "00000000" + "00" + "05" + "0000"
    assert pr.reservation_data(2, (0xAA, 5)).hex() == golden


def test_full_status_has_a_descriptor_for_each_registrant() -> None:
    name = transport_id("x")
    nexus = ItNexusId(name, 0x0102)
    holder = FullStatus(nexus, 0xAA, True, 8).serialize()
    assert (
        holder.hex()
        == ("00000000000000aa" + "00000000" + "01" + "08" + "00000000" + "0102" + "00000020")
        + name.hex()
    )
    other = FullStatus(nexus, 0xAA, False, 8).serialize()
    assert other[12:14].hex() == "0000"
    whole = pr.full_status_data(9, [FullStatus(nexus, 0xAA, True, 8)] * 2)
    assert whole == bytes.fromhex("00000009") + (2 * len(holder)).to_bytes(4, "big") + holder * 2


@pytest.mark.parametrize(
    ("can_persist", "persists", "golden"),
    [
        (False, False, "00081cc0ea010000"),
        (True, False, "00081dc0ea010000"),
        (True, True, "00081dc1ea010000"),
    ],
)
def test_capabilities_say_what_is_done(can_persist: bool, persists: bool, golden: str) -> None:
    data = pr.capabilities_data(can_persist=can_persist, persists=persists)
    assert data.hex() == golden


def test_types_are_told_in_words_and_read_back() -> None:
    assert list(pr.TYPE_WORDS) == [
        *("write-exclusive", "exclusive-access"),
        *("write-exclusive-regonly", "exclusive-access-regonly"),
        *("write-exclusive-all-reg", "exclusive-access-all-reg"),
    ]
    assert pr.type_text(5) == "write-exclusive-regonly (5)"
    assert pr.type_text(2) == "unknown (2)"
    assert [pr.parse_type(word) for word in pr.TYPE_WORDS] == [1, 3, 5, 6, 7, 8]
    assert [pr.parse_type(text) for text in ("0", "5", "15")] == [0, 5, 15]


@pytest.mark.parametrize("text", ["", "16", "-1", "0x5", "exclusive", "\u0665", "5 "])
def test_other_words_are_no_types(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected write-exclusive, .*, or 0 to 15$"):
        pr.parse_type(text)


def test_parameter_list_has_keys_and_flags() -> None:
    golden = "00000000000000aa" + "1122334455667788" + "00000000" + "05000000"
    assert pr.parameter_list(0xAA, 0x1122334455667788, 0x05).hex() == golden


def test_initiator_ports_follow_their_length() -> None:
    names = [transport_id("x"), transport_id("longer than that")]
    data = pr.parameter_list(1, 2, pr.APTPL_BIT, names)
    assert data[20] == 0x09
    assert data[24:28] == sum(map(len, names)).to_bytes(4, "big")
    assert data[28:] == b"".join(names)


def test_list_of_a_move_has_port_and_heir() -> None:
    heir = ItNexusId(transport_id("x"), 0x0102)
    data = pr.move_parameter_list(0xAA, 0xBB, 0x03, heir)
    head = "00000000000000aa" + "00000000000000bb" + "00" + "03" + "0102" + "00000020"
    assert data.hex() == head + heir.transport_id.hex()


def test_full_status_is_read_back_as_far_as_it_came() -> None:
    one = FullStatus(ItNexusId(transport_id("x"), 1), 0xAA, True, 8)
    two = FullStatus(ItNexusId(transport_id("yy"), 0xFFFF), (1 << 64) - 1, False, 0)
    data = one.serialize() + two.serialize()
    middle = len(one.serialize())
    assert FullStatus.parse(data) == (one, middle)
    assert FullStatus.parse(data, middle) == (two, len(data))
    for length in range(middle):
        assert FullStatus.parse(data[:length]) is None


@pytest.mark.parametrize(
    ("text", "key"),
    [("0", 0), ("beef", 0xBEEF), ("0xBEEF", 0xBEEF), ("0X1", 1), ("f" * 16, (1 << 64) - 1)],
)
def test_keys_are_hex_digits(text: str, key: int) -> None:
    assert pr.parse_key(text) == key
    assert pr.parse_key(pr.key_text(key)) == key


def test_key_is_told_with_0x() -> None:
    assert pr.key_text(0xBEEF) == "0xbeef"


@pytest.mark.parametrize("text", ["", "0x", "g", "-1", "1_0", " 1", "1" * 17, "\u0661"])
def test_other_text_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="expected 1 to 16 hex digits, as in 0xbeef"):
        pr.parse_key(text)
