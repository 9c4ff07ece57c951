# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameter data of PERSISTENT RESERVE IN read: golden bytes, and data that were cut."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scsi_backend.t10 import persistent_reservation as pr
from scsi_backend.t10.persistent_reports import Capabilities, FullStatuses, HeldReservation, Keys
from scsi_backend.t10.persistent_reservation import FullStatus, ItNexusId
from scsi_backend.t10.transport_id import transport_id

KEYS = bytes.fromhex("00000007" + "00000010" + "00000000000000aa" + "1122334455667788")
RESERVATION = bytes.fromhex("00000002" + "00000010" + "00000000000000aa" + "00000000" + "00050000")
STATUSES = (
    FullStatus(ItNexusId(transport_id("x"), 1), 0xAA, True, 8),
    FullStatus(ItNexusId(transport_id("yy"), 2), 0xBB, False, 0),
)


def test_keys_are_read() -> None:
    assert Keys.parse(KEYS) == Keys(7, (0xAA, 0x1122334455667788))
    assert Keys.parse(memoryview(KEYS + b"more")) == Keys.parse(KEYS)
    assert Keys.parse(KEYS[:8]) == Keys(7, (), lacking=16)
    assert Keys.parse(KEYS[:17]) == Keys(7, (0xAA,), lacking=7)


def test_reservation_is_read() -> None:
    assert HeldReservation.parse(RESERVATION) == HeldReservation(2, 0xAA, 0, 5)
    assert HeldReservation.parse(bytes.fromhex("0000000100000000")) == HeldReservation(1)
    other_scope = RESERVATION[:21] + b"\x21" + RESERVATION[22:]
    assert HeldReservation.parse(other_scope) == HeldReservation(2, 0xAA, 2, 1)


def test_registrants_are_read() -> None:
    data = pr.full_status_data(9, STATUSES)
    assert FullStatuses.parse(data) == FullStatuses(9, STATUSES)
    assert FullStatuses.parse(data[:-1]) == FullStatuses(9, STATUSES[:1], lacking=1)
    assert FullStatuses.parse(pr.full_status_data(0, [])) == FullStatuses(0, ())


@pytest.mark.parametrize("length", [b"\0\0\xff\xff", b"\xff\xff\xff\xff"])
def test_registrant_that_claims_more_than_there_is_does_not_vanish(length: bytes) -> None:
    data = pr.full_status_data(9, STATUSES)
    # The additional length of the second descriptor.
    at = 8 + len(STATUSES[0].serialize()) + 20
    with pytest.raises(ValueError, match="behind the last registrant: expected a whole one"):
        FullStatuses.parse(data[:at] + length + data[at + 4 :])


def test_capabilities_are_read() -> None:
    everything = Capabilities.parse(bytes.fromhex("00081dc1ea010000"))
    assert everything == Capabilities(
        has_compatible_handling=True,
        takes_initiator_ports=True,
        takes_all_target_ports=True,
        can_persist=True,
        persists=True,
        allow_commands=4,
        types=frozenset({1, 3, 5, 6, 7, 8}),
    )
    nothing = Capabilities.parse(bytes.fromhex("0008000000000000"))
    assert nothing == Capabilities(False, False, False, False, False, 0, None)


@pytest.mark.parametrize(("bits", "kind"), [("02", 1), ("08", 3), ("20", 5), ("40", 6), ("80", 7)])
def test_each_type_has_its_bit(bits: str, kind: int) -> None:
    assert Capabilities.parse(bytes.fromhex(f"00080080{bits}000000")).types == frozenset({kind})
    assert Capabilities.parse(bytes.fromhex("0008008000010000")).types == frozenset({8})


@pytest.mark.parametrize(
    ("parse", "data", "message"),
    [
        (Keys.parse, KEYS[:7], "parameter data of 7 bytes: expected 8 or more"),
        (FullStatuses.parse, b"", "parameter data of 0 bytes: expected 8 or more"),
        (HeldReservation.parse, RESERVATION[:23], "reservation of 15 bytes: expected 16"),
        (Capabilities.parse, bytes(7), "capabilities of 7 bytes: expected 8"),
    ],
)
def test_data_that_say_nothing_are_refused(parse: object, data: bytes, message: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match=message):
        parse(data)


@given(st.binary(max_size=80))
def test_any_other_data_are_read_or_refused(data: bytes) -> None:
    for parse in (Keys.parse, FullStatuses.parse, HeldReservation.parse, Capabilities.parse):
        with suppress(ValueError):
            parse(data)
