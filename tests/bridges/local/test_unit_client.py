# SPDX-License-Identifier: GPL-2.0-or-later
"""A tool's session with one logical unit: which unit, as whom, and what it begins with."""

from __future__ import annotations

import os

import pytest

from bridges.exchange import Request
from bridges.local.client import LocalError
from bridges.local.unit_client import Place, connected
from scsi_backend.t10.status import Status
from tests.bridges.local.conftest import NewSite
from tests.bridges.local.site import Site
from tests.scsi_backend.cdbs import TEST_UNIT_READY, raw
from tests.scsi_backend.fakes import FaultyVdisk


@pytest.fixture
def disks(new_site: NewSite) -> Site:
    """A site whose target ``disks`` has the devices ``first`` and ``second``."""
    site = new_site()
    first, second = FaultyVdisk(8), FaultyVdisk(16)
    first.name, second.name = "first", "second"
    site.add_target("disks", first, second)
    site.start()
    return site


def blocks(place: Place) -> int:
    """How many blocks the unit there has: READ CAPACITY(10)."""
    data_in = memoryview(bytearray(8))
    with connected(place) as unit:
        assert unit.execute(Request(raw("25"), data_in)).status == Status.GOOD
    return int.from_bytes(data_in[:4], "big") + 1


@pytest.mark.parametrize(
    ("name", "lun", "expected"),
    [
        ("", None, 8),
        ("disks", None, 8),
        ("disks", 1, 16),
        ("first", None, 8),
        ("second", None, 16),
        ("second", 1, 16),
    ],
)
def test_name_and_lun_lead_to_a_unit(
    disks: Site, name: str, lun: int | None, expected: int
) -> None:
    assert blocks(Place(disks.path, name, lun)) == expected


def test_lun_that_is_not_the_device_s_is_refused(disks: Site) -> None:
    place = Place(disks.path, "second", 0)
    with (
        pytest.raises(ValueError, match="LUN 0: 'second' is LUN 1: expected that"),
        connected(place),
    ):
        pass


def test_device_is_a_name_or_the_path_of_a_socket() -> None:
    assert Place.of("disk0", "/s", 1, "me") == Place("/s", "disk0", 1, "me")
    assert Place.of("var/s", "/s", None, "") == Place("var/s")


@pytest.mark.parametrize(("initiator", "name"), [("", ""), ("node 1", ",node%201")])
def test_initiator_is_the_named_one(disks: Site, initiator: str, name: str) -> None:
    [target] = disks.backend.targets
    with connected(Place(disks.path, initiator=initiator)):
        [session] = target.sessions
        assert session.initiator_name == f"local:uid={os.getuid()}{name}"
    disks.wait_for_no_sessions()


def test_unit_attentions_are_taken_and_told(disks: Site) -> None:
    with connected(Place(disks.path)) as unit:
        assert [each.code for each in unit.attentions] == [0x2900]
        assert unit.execute(Request(TEST_UNIT_READY)).status == Status.GOOD


def test_absent_unit_has_none(disks: Site) -> None:
    with connected(Place(disks.path, lun=9)) as unit:
        assert unit.attentions == ()
        assert unit.execute(Request(TEST_UNIT_READY)).status == Status.CHECK_CONDITION


def test_absent_server_is_named() -> None:
    with pytest.raises(LocalError, match="/nowhere: cannot connect"), connected(Place("/nowhere")):
        pass
