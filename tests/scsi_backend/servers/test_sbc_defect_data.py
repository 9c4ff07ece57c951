# SPDX-License-Identifier: GPL-2.0-or-later
"""READ DEFECT DATA: headers of empty lists, as bytes."""

from __future__ import annotations

import pytest

from scsi_backend.t10.additional_sense import AdditionalSense
from scsi_backend.t10.sense import Sense, SenseKey
from scsi_backend.t10.status import Status
from tests.scsi_backend import cdbs
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.initiator import Initiator, Outcome, connect


def defect_data(width: int, flags: int, allocation_length_bytes: int) -> bytes:
    """READ DEFECT DATA; ``flags`` are REQ_PLIST, REQ_GLIST and the format."""
    if width == 10:
        return cdbs.raw(f"3700{flags:02x}00000000{allocation_length_bytes:04x}00")
    return cdbs.raw(f"b7{flags:02x}00000000{allocation_length_bytes:08x}0000")


@pytest.fixture
def initiator() -> Initiator:
    return connect(FaultyVdisk())


@pytest.mark.parametrize("lists", [0x00, 0x08, 0x10, 0x18])
@pytest.mark.parametrize("form", [0, 3])
def test_lists_are_empty_in_both_block_formats(initiator: Initiator, lists: int, form: int) -> None:
    flags = lists | form
    assert initiator.good(defect_data(10, flags, 64), None, 64) == bytes((0, flags, 0, 0))
    assert initiator.good(defect_data(12, flags, 64), None, 64) == bytes((0, flags)) + bytes(6)


@pytest.mark.parametrize(("width", "golden"), [(10, "00180000"), (12, "001b000000000000")])
@pytest.mark.parametrize("form", [1, 2, 4, 5, 6, 7])
def test_other_formats_are_answered_in_the_units_own(
    initiator: Initiator, width: int, golden: str, form: int
) -> None:
    outcome = initiator.send(defect_data(width, 0x18 | form, 64), None, 64)
    sense = Sense(SenseKey.RECOVERED_ERROR, AdditionalSense.DEFECT_LIST_NOT_FOUND)
    assert outcome == Outcome(Status.CHECK_CONDITION, sense, bytes.fromhex(golden))


@pytest.mark.parametrize("width", [10, 12])
@pytest.mark.parametrize(("allocation", "room"), [(0, 64), (3, 64), (64, 3), (64, 0)])
def test_header_is_cut_to_what_there_is_room_for(
    initiator: Initiator, width: int, allocation: int, room: int
) -> None:
    data = initiator.good(defect_data(width, 0x18, allocation), None, room)
    assert data == bytes((0, 0x18, 0))[: min(allocation, room)]


def test_address_descriptor_index_beyond_the_list_leaves_it_empty(initiator: Initiator) -> None:
    assert initiator.good(cdbs.raw("b71800000007000000400000"), None, 64) == b"\0\x18" + bytes(6)
