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
