# SPDX-License-Identifier: GPL-2.0-or-later
"""A LUN on standby: what is noted, and what is told."""

from __future__ import annotations

from bridges.aoe.availability import Availability


def test_only_changes_are_told() -> None:
    seen: list[bool] = []
    availability = Availability(lambda: seen.append(availability.is_standby))
    for is_standby in (False, True, True, False, False, True):
        availability.note(is_standby=is_standby)
    assert seen == [True, False, True]
