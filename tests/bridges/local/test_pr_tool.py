# SPDX-License-Identifier: GPL-2.0-or-later
"""``scst-bridge pr`` without its command line: what it asks for, and outcomes as golden text."""

from __future__ import annotations

import os

import pytest

from bridges.local.client import LocalError
from bridges.local.pr_tool import Change, change, read
from bridges.local.unit_client import Place
from scsi_backend.servers.disk import disk
from scsi_backend.t10.persistent_reservation import (
    ItNexusId,
    PrInAction,
    PrOutAction,
    ReservationType,
)
from scsi_backend.t10.transport_id import transport_id
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.local.conftest import NewSite
from tests.bridges.local.site import Site
from tests.scsi_backend.fakes import FaultyVdisk
from tests.scsi_backend.reserving import Store

ME = f"local:uid={os.getuid()}"
REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE, MOVE = PrOutAction
RO = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY


class Shared:
    """One disk behind the targets ``one`` and ``two``, with a place to keep its state in."""

    def __init__(self, site: Site) -> None:
        self.path = site.path
        self.store = Store()
        self.unit = disk(FaultyVdisk(64), None, self.store)
        for name in ("one", "two"):
            site.add_target(name).add_lun(0, LunEntry(self.unit))
        site.start()

    def ask(self, initiator: str, wanted: Change, target: str = "one") -> list[str]:
        """Ask for a change; return the outcome's lines."""
        text, status = change(Place(self.path, target, initiator=initiator), wanted)
        lines = text.splitlines()
        assert status == (0 if lines[-1].endswith(": GOOD") else 2)
        return lines

    def do(self, initiator: str, wanted: Change, target: str = "one") -> None:
        """Make a change."""
        name = wanted.action.name.replace("_", " ")
        assert self.ask(initiator, wanted, target)[-1] == f"{name}: GOOD"

    def show(self, action: PrInAction, initiator: str = "") -> list[str]:
        """What is shown."""
        text, status = read(Place(self.path, "one", initiator=initiator), action)
        assert status == 0
        return text.splitlines()

    @property
    def registrants(self) -> dict[ItNexusId, int]:
        """Who has registered."""
        return dict(self.unit.reservations.state.registrants)


@pytest.fixture
def shared(new_site: NewSite) -> Shared:
    """See ``Shared``."""
    return Shared(new_site())


def at(port: int, name: str) -> ItNexusId:
    """An initiator at a target port."""
    return ItNexusId(transport_id(name), port)


class TestChange:
    def test_key_is_registered_changed_and_unregistered(self, shared: Shared) -> None:
        me = at(1, f"{ME},a")
        shared.do("a", Change(REGISTER, action_key=0xA))
        assert shared.registrants == {me: 0xA}
        shared.do("a", Change(REGISTER, key=0xA, action_key=0xB))
        assert shared.registrants == {me: 0xB}
        shared.do("a", Change(IGNORE, action_key=0xC))
        assert shared.registrants == {me: 0xC}
        shared.do("a", Change(REGISTER, key=0xC))
        assert shared.registrants == {}

    def test_other_name_is_another_registrant(self, shared: Shared) -> None:
        for initiator in ("", "a", "b"):
            shared.do(initiator, Change(REGISTER, action_key=1))
        assert shared.registrants.keys() == {at(1, ME), at(1, f"{ME},a"), at(1, f"{ME},b")}

    def test_others_are_registered_by_name_and_at_every_target(self, shared: Shared) -> None:
        others = ("unix:uid=1000", "iqn.2000-01.com.example:node")
        wanted = Change(REGISTER, action_key=1, all_target_ports=True, initiators=others)
        shared.do("", wanted)
        foreign = b"\x05\0\0\x20" + others[1].encode().ljust(32, b"\0")
        assert shared.registrants.keys() == {
            ItNexusId(name, port)
            for name in (transport_id(ME), transport_id(others[0]), foreign)
            for port in (1, 2)
        }

    @pytest.mark.parametrize("action", [REGISTER, IGNORE])
    def test_state_is_kept_if_that_is_wanted(self, shared: Shared, action: PrOutAction) -> None:
        shared.do("", Change(action, action_key=1, persists=True))
        assert shared.unit.reservations.state.persists
        shared.do("", Change(action, key=1, action_key=2))
        assert not shared.unit.reservations.state.persists

    def test_disk_is_reserved_and_released(self, shared: Shared) -> None:
        for initiator in ("a", "b"):
            shared.do(initiator, Change(REGISTER, action_key=1))
        shared.do("a", Change(RESERVE, key=1, type=RO))
        assert shared.ask("b", Change(RESERVE, key=1, type=RO)) == [
            "RESERVE: RESERVATION CONFLICT",
        ]
        shared.do("a", Change(RELEASE, key=1, type=RO))
        assert shared.ask("b", Change(CLEAR, key=1)) == [
            "unit attention: RESERVATIONS RELEASED (2Ah/04h)",
            "CLEAR: GOOD",
        ]
        assert shared.registrants == {}

    @pytest.mark.parametrize("action", [PREEMPT, ABORT])
    def test_holder_is_preempted_and_hears_of_it(self, shared: Shared, action: PrOutAction) -> None:
        shared.do("a", Change(REGISTER, action_key=0xA))
        shared.do("b", Change(REGISTER, action_key=0xB))
        shared.do("a", Change(RESERVE, key=0xA, type=RO))
        shared.do("b", Change(action, key=0xB, action_key=0xA, type=RO))
        assert shared.registrants == {at(1, f"{ME},b"): 0xB}
        assert shared.ask("a", Change(RELEASE, key=0xA, type=RO)) == [
            "unit attention: REGISTRATIONS PREEMPTED (2Ah/05h)",
            "RELEASE: RESERVATION CONFLICT",
        ]

    @pytest.mark.parametrize(
        ("target", "port", "expected"), [("one", None, 1), ("two", None, 2), ("one", 2, 2)]
    )
    def test_reservation_is_moved(
        self, shared: Shared, target: str, port: int | None, expected: int
    ) -> None:
        shared.do("a", Change(REGISTER, action_key=0xA), target)
        shared.do("a", Change(RESERVE, key=0xA, type=RO), target)
        heir = f"{ME},b"
        wanted = Change(
            MOVE,
            key=0xA,
            action_key=0xB,
            initiators=(heir,),
            target_port=port,
            unregisters=True,
            persists=True,
        )
        shared.do("a", wanted, target)
        assert shared.registrants == {at(expected, heir): 0xB}
        assert shared.unit.reservations.state.is_holder(at(expected, heir))
        assert shared.unit.reservations.state.persists

    def test_one_who_moves_a_reservation_may_stay_registered(self, shared: Shared) -> None:
        shared.do("a", Change(REGISTER, action_key=0xA))
        shared.do("a", Change(RESERVE, key=0xA, type=RO))
        shared.do("a", Change(MOVE, key=0xA, action_key=0xB, initiators=("x",)))
        assert shared.registrants == {at(1, f"{ME},a"): 0xA, at(1, "x"): 0xB}
        assert not shared.unit.reservations.state.persists

    def test_what_is_wrong_is_said_in_words(self, shared: Shared) -> None:
        shared.do("a", Change(REGISTER, action_key=1))
        assert shared.ask("a", Change(RESERVE, key=1, type=2)) == [
            "RESERVE: CHECK CONDITION",
            "  sense key: ILLEGAL REQUEST (5h)",
            "  additional sense: INVALID FIELD IN CDB (24h/00h)",
            "  field in error: CDB byte 2, bit 3",
        ]

    def test_name_that_is_too_long_is_refused_before_connecting(self) -> None:
        wanted = Change(REGISTER, action_key=1, initiators=("iqn." + "x" * 220,))
        with pytest.raises(ValueError, match="name of 224 bytes: expected at most 223"):
            change(Place("/nowhere"), wanted)

    def test_absent_server_is_named(self) -> None:
        with pytest.raises(LocalError, match="/nowhere: cannot connect"):
            change(Place("/nowhere"), Change(CLEAR))

    def test_port_is_asked_for_where_the_unit_does_not_tell(self, shared: Shared) -> None:
        wanted = Change(MOVE, key=0xA, action_key=0xB, initiators=("x",))
        with pytest.raises(ValueError, match="does not say which target port this is"):
            change(Place(shared.path, "one", 7), wanted)


class TestRead:
    def test_nothing_is_shown_as_none(self, shared: Shared) -> None:
        assert shared.show(PrInAction.READ_KEYS) == [
            "READ KEYS: GOOD",
            "  generation: 0",
            "  keys: none",
        ]
        assert shared.show(PrInAction.READ_RESERVATION) == [
            "READ RESERVATION: GOOD",
            "  generation: 0",
            "  reservation: none",
        ]
        assert shared.show(PrInAction.READ_FULL_STATUS) == [
            "READ FULL STATUS: GOOD",
            "  generation: 0",
            "  registrants: none",
        ]

    def test_what_there_is_is_shown_in_words(self, shared: Shared) -> None:
        shared.do("node 1", Change(REGISTER, action_key=0xBEEF, initiators=("192.0.2.1",)))
        shared.do("", Change(REGISTER, action_key=(1 << 64) - 1), "two")
        shared.do("node 1", Change(RESERVE, key=0xBEEF, type=RO))
        assert shared.show(PrInAction.READ_KEYS) == [
            "READ KEYS: GOOD",
            "  generation: 2",
            "  keys: 0xbeef, 0xbeef, 0xffffffffffffffff",
        ]
        assert shared.show(PrInAction.READ_RESERVATION) == [
            "READ RESERVATION: GOOD",
            "  generation: 2",
            "  reservation: write-exclusive-regonly (5), logical unit, key 0xbeef",
        ]
        assert shared.show(PrInAction.READ_FULL_STATUS) == [
            "READ FULL STATUS: GOOD",
            "  generation: 2",
            "  registrants: 3",
            f"    {ME},node%201 at target port 1: key 0xbeef, holds write-exclusive-regonly (5)",
            "    192.0.2.1 at target port 1: key 0xbeef",
            f"    {ME} at target port 2: key 0xffffffffffffffff",
        ]

    def test_capabilities_are_shown_in_words(self, shared: Shared) -> None:
        assert shared.show(PrInAction.REPORT_CAPABILITIES) == [
            "REPORT CAPABILITIES: GOOD",
            "  compatible reservation handling (CRH): yes",
            "  specified initiator ports (SIP_C): yes",
            "  all target ports (ATP_C): yes",
            "  persist through power loss: possible (PTPL_C): yes",
            "  persist through power loss: active (PTPL_A): no",
            "  allowed commands (ALLOW COMMANDS): 100b",
            "  types: write-exclusive (1), exclusive-access (3), write-exclusive-regonly (5),"
            " exclusive-access-regonly (6), write-exclusive-all-reg (7),"
            " exclusive-access-all-reg (8)",
        ]

    def test_registrants_that_do_not_fit_are_told_of(self, shared: Shared) -> None:
        others = tuple(f"{number:0150}" for number in range(400))
        shared.do("", Change(REGISTER, action_key=1, initiators=others))
        lines = shared.show(PrInAction.READ_FULL_STATUS)
        data_bytes = 24 + len(transport_id(ME)) + 400 * (24 + len(transport_id(others[0])))
        # What an allocation length of two bytes has room for, behind the header.
        lacking = data_bytes - (0xFFFF - 8)
        assert lines[-1] == f"  {lacking} bytes more did not fit into an answer"
        assert 300 < len(lines) < 400
        assert len(shared.show(PrInAction.READ_KEYS)[-1].split(", ")) == 401

    @pytest.mark.parametrize("action", PrInAction)
    def test_absent_unit_is_explained(self, shared: Shared, action: PrInAction) -> None:
        text, status = read(Place(shared.path, "one", 7), action)
        assert status == 2
        assert text.splitlines() == [
            f"{action.name.replace('_', ' ')}: CHECK CONDITION",
            "  sense key: ILLEGAL REQUEST (5h)",
            "  additional sense: LOGICAL UNIT NOT SUPPORTED (25h/00h)",
        ]

    def test_absent_server_is_named(self) -> None:
        with pytest.raises(LocalError, match="/nowhere: cannot connect"):
            read(Place("/nowhere"), PrInAction.READ_KEYS)
