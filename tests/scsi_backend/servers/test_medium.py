# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of a medium: present, and kept in by whom."""

from __future__ import annotations

from scsi_backend.servers.medium import Medium


def test_medium_is_there_and_free_to_go() -> None:
    medium = Medium()
    assert (medium.is_present, medium.is_removal_prevented) == (True, False)


def test_each_nexus_has_a_say_of_its_own() -> None:
    medium, one, other = Medium(), object(), object()
    for nexus in (one, other, one):
        medium.prevent_removal(nexus)
    medium.allow_removal(one)
    assert medium.is_removal_prevented
    medium.allow_removal(one)
    assert medium.is_removal_prevented
    medium.allow_removal(other)
    assert not medium.is_removal_prevented


def test_a_reset_forgets_what_all_wanted() -> None:
    medium = Medium()
    for nexus in (object(), object()):
        medium.prevent_removal(nexus)
    medium.allow_all()
    assert not medium.is_removal_prevented
