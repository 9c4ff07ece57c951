# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``reservations`` command: what there is, and what is asked wrongly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import MappingProxyType

import pytest

from bridges.control import ControlError
from bridges.control_reservations import (
    AllReservations,
    DeviceReservations,
    NexusRecord,
    RegistrantRecord,
    ReservationRecord,
    reservations_command,
    reservations_of,
)
from scsi_backend.handlers.attributes import NullioAttributes
from scsi_backend.io.engine import SyncEngine
from scsi_backend.servers.reservation_state import Change, PrState
from scsi_backend.t10.persistent_reservation import ItNexusId
from scsi_backend.t10.transport_id import transport_id
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from tests.scsi_backend import cdbs
from tests.scsi_backend.initiator import Initiator
from tests.scsi_backend.reserving import EA_AR, WE, register, reserve

APTPL = 0x01
RESERVE_6 = cdbs.raw("16")


class House:
    """The devices ``d`` and ``e`` behind nbd's target ``n`` and scst_local's target ``l``."""

    def __init__(self, folder: Path) -> None:
        self.backend = Backend(SyncEngine(), folder)
        self.targets = [
            self.backend.add_target("nbd", "n"),
            self.backend.add_target("scst_local", "l"),
        ]
        for lun, name in enumerate("de"):
            unit = self.backend.add_device("vdisk_nullio", name, NullioAttributes())
            for target in self.targets:
                target.add_lun(lun, LunEntry(unit))
                target.is_enabled = True

    def sign_in(self, name: str, port: int = 2) -> Initiator:
        """Log an initiator in."""
        initiator = Initiator(self.targets[port - 1].open_session(name))
        initiator.send(cdbs.TEST_UNIT_READY)
        return initiator

    def disk(self) -> DeviceReservations:
        """The reservations of ``d``."""
        (found,) = self.ask(device="d").devices
        return found

    def ask(self, **arguments: object) -> AllReservations:
        """Carry the command out."""
        command = reservations_command(self.backend)

        async def run() -> object:
            return await command(arguments)

        return AllReservations.model_validate(asyncio.run(run()))


@pytest.fixture
def house(tmp_path: Path) -> House:
    """See ``House``."""
    return House(tmp_path)


def test_nothing_is_reserved_at_first(house: House) -> None:
    nothing = DeviceReservations(
        device="d",
        generation=0,
        has_aptpl=False,
        reservation=None,
        registrants=(),
        legacy_holder=None,
    )
    assert house.disk() == nothing
    assert house.ask().devices == (nothing, nothing.model_copy(update={"device": "e"}))


def test_registrants_and_the_reservation_are_told(house: House) -> None:
    node = house.sign_in("local:uid=0,node%201")
    reserve(node, 0xBEEF, WE)
    register(house.sign_in("unix:uid=7", port=1), 1, APTPL)
    found = house.disk()
    assert (found.generation, found.has_aptpl) == (2, True)
    assert found.reservation == ReservationRecord(
        type=1, type_text="write-exclusive (1)", scope="logical unit"
    )
    assert found.registrants == (
        RegistrantRecord(
            initiator="local:uid=0,node%201",
            rel_tgt_id=2,
            target="scst_local/l",
            has_session=True,
            key="0xbeef",
            is_holder=True,
        ),
        RegistrantRecord(
            initiator="unix:uid=7",
            rel_tgt_id=1,
            target="nbd/n",
            has_session=True,
            key="0x1",
            is_holder=False,
        ),
    )


def test_registrant_that_has_left_has_no_session(house: House) -> None:
    first, second = house.sign_in("a"), house.sign_in("a")
    register(first, 1)
    for initiator, is_here in ((second, True), (first, False)):
        initiator.session.close()
        assert [each.has_session for each in house.disk().registrants] == [is_here]


def test_all_registrants_hold_what_is_theirs(house: House) -> None:
    reserve(house.sign_in("a"), 1, EA_AR)
    register(house.sign_in("b"), 2)
    found = house.disk()
    assert found.reservation is not None
    assert found.reservation.type_text == "exclusive-access-all-reg (8)"
    assert [each.is_holder for each in found.registrants] == [True, True]


def test_port_of_no_target_has_no_name(house: House) -> None:
    unit = house.backend.devices["d"]
    name = transport_id("a")
    state = PrState(7, MappingProxyType({ItNexusId(name, 9): 1}))
    unit.reservations.adopt(Change(state))
    (registrant,) = house.disk().registrants
    assert (registrant.rel_tgt_id, registrant.target) == (9, None)


def test_holder_of_the_legacy_reservation_is_told(house: House) -> None:
    initiator = house.sign_in("02:00:00:00:00:01")
    initiator.good(RESERVE_6)
    assert house.disk().legacy_holder == NexusRecord(
        initiator="02:00:00:00:00:01", rel_tgt_id=2, target="scst_local/l", has_session=True
    )
    initiator.session.close()
    assert house.disk().legacy_holder is None


def test_those_whom_an_aoe_target_has_reserved_it_for_are_told(house: House) -> None:
    unit = house.backend.devices["d"]
    ids = [ItNexusId(transport_id(f"02:00:00:00:00:0{number}"), 2) for number in (2, 1)]
    unit.reservations.keep_for("e1.1", ids)
    first, second = house.disk().kept_for
    assert first == NexusRecord(
        initiator="02:00:00:00:00:01", rel_tgt_id=2, target="scst_local/l", has_session=False
    )
    assert second.initiator == "02:00:00:00:00:02"
    assert house.disk().legacy_holder is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "f"}, "unknown device 'f': expected d, e"),
        ({"device": 1}, "device: Input should be a valid string"),
        ({"disk": "d"}, "disk: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_told(house: House, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ControlError) as caught:
        house.ask(**arguments)
    assert str(caught.value) == message


def test_without_devices_that_is_what_is_told() -> None:
    backend = Backend(SyncEngine())
    assert reservations_of(backend).devices == ()
    expected = "unknown device 'd': expected DEVICE sections in the configuration"
    with pytest.raises(ControlError, match=expected):
        reservations_of(backend, "d")
