# SPDX-License-Identifier: GPL-2.0-or-later
"""PERSISTENT RESERVE IN as an initiator sees it; the bytes themselves are t10's tests."""

from __future__ import annotations

import pytest

from scsi_backend.servers.disk import disk
from scsi_backend.servers.logical_unit import LogicalUnit
from scsi_backend.t10.transport_id import transport_id
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, assert_check_condition
from tests.scsi_backend.reserving import (
    EA_AR,
    WE,
    holder,
    keys,
    pr_in,
    register,
    reserve,
    sign_in,
)


@pytest.fixture
def unit() -> LogicalUnit:
    return disk(FaultyVdisk(64))


@pytest.fixture
def one(unit: LogicalUnit) -> Initiator:
    return sign_in(unit, "a")


def test_nothing_is_registered_at_first(one: Initiator) -> None:
    assert (keys(one), holder(one)) == ((0, []), None)


def test_every_registration_has_its_key(unit: LogicalUnit, one: Initiator) -> None:
    register(one, 0xA)
    register(sign_in(unit, "b"), 0xA)
    register(sign_in(unit, "a", port=2), 0xB)
    assert keys(one) == (3, [0xA, 0xA, 0xB])


def test_reservation_has_the_holders_key_and_type(one: Initiator) -> None:
    reserve(one, 0xA, WE)
    assert holder(one) == (0xA, WE)


def test_reservation_of_everybody_has_no_key(one: Initiator) -> None:
    reserve(one, 0xA, EA_AR)
    assert holder(one) == (0, EA_AR)


def test_full_status_names_initiators_and_ports(unit: LogicalUnit, one: Initiator) -> None:
    register(sign_in(unit, "b", port=7), 0xB)
    reserve(one, 0xA, WE)
    data = one.good(pr_in(3), None, 1024)
    first, second = transport_id("b"), transport_id("a")
    assert data[:4].hex() == "00000002"
    assert data[8 : 8 + 24].hex() == "000000000000000b" + "00" * 10 + "0007" + f"{len(first):08x}"
    at = 32 + len(first)
    assert data[32:at] == first
    head = "000000000000000a" + "00000000" + "0101" + "00000000" + "0001" + f"{len(second):08x}"
    assert data[at : at + 24].hex() == head
    assert data[at + 24 :] == second


def test_capabilities_without_a_place_to_keep_state(one: Initiator) -> None:
    assert one.good(pr_in(2), None, 8).hex() == "00081cc0ea010000"


@pytest.mark.parametrize("action", range(4))
@pytest.mark.parametrize("allocation", [0, 1, 7, 8, 9])
def test_data_is_cut_to_the_allocation_length(one: Initiator, action: int, allocation: int) -> None:
    reserve(one, 0xA, WE)
    whole = one.good(pr_in(action), None, 1024)
    assert one.good(pr_in(action, allocation), None, 1024) == whole[:allocation]


@pytest.mark.parametrize("action", range(4, 32))
def test_other_service_actions_are_refused(one: Initiator, action: int) -> None:
    assert_check_condition(one.send(pr_in(action), None, 64), "05/24/00", at=(1, 4))
