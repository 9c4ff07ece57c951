# SPDX-License-Identifier: GPL-2.0-or-later
"""A LUN as somebody saw it, and whether it still is so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridges.local.tcmu.lead import Lead
from bridges.local.tcmu.naming import LunName, identity_of
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.local.tcmu.serving import House, house


@pytest.fixture
def made() -> Iterator[House]:
    with house() as built:
        built.export(0)
        yield built


def lead(made: House) -> Lead:
    """That of LUN 0, through the oldest session."""
    target = made.target
    session = target.sessions[0] if target.sessions else target.open_session("kernel")
    return Lead.of("t0", session, session.nexuses[0], 30)


@pytest.mark.parametrize("is_read_only", [False, True])
def test_lead_is_known_by_its_lun_and_what_that_is(made: House, is_read_only: bool) -> None:
    entry = made.entry("a", is_read_only=is_read_only)
    made.target.configure(luns={0: entry})
    found = lead(made)
    assert (found.name, found.unit) == (LunName("t0", 0), entry.unit)
    assert found.config.identity == identity_of(entry)


def test_lead_is_current_until_the_lun_leads_elsewhere(made: House) -> None:
    found = lead(made)
    made.target.configure(luns={0: made.entry("a"), 1: made.entry("b")})
    assert found.is_current
    made.target.configure(luns={0: made.entry("b")})
    assert not found.is_current
    assert lead(made).is_current


def test_lead_of_a_lun_that_came_back_is_another_one_that_can_follow(made: House) -> None:
    found = lead(made)
    made.target.is_enabled = False
    assert not found.is_current
    made.target.is_enabled = True
    assert not found.is_current
    assert found.has_successor(lead(made))


@pytest.mark.parametrize(("device", "is_read_only"), [("a", True), ("b", False)])
def test_other_device_or_access_cannot_follow(made: House, device: str, is_read_only: bool) -> None:
    found = lead(made)
    made.target.configure(luns={0: made.entry(device, is_read_only=is_read_only)})
    assert not found.has_successor(lead(made))


def test_other_device_of_the_same_name_cannot_follow(made: House) -> None:
    with house() as other:
        found = lead(made)
        made.target.configure(luns={0: LunEntry(other.backend.devices["a"])})
        assert lead(made).config == found.config
        assert not found.has_successor(lead(made))
        made.target.configure(luns={})
