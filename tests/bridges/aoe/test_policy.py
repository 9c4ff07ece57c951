# SPDX-License-Identifier: GPL-2.0-or-later
"""What a target does that the configuration says nothing about."""

from __future__ import annotations

from bridges.aoe.acl import AccessList
from bridges.aoe.policy import DEFAULT_POLICY, Policy, ReservationConflict


def test_defaults() -> None:
    assert (
        Policy(
            access=AccessList(),
            in_band_editing=True,
            write_cache_control=False,
            reservation_conflict=ReservationConflict.ATA,
            idle_timeout_s=600,
        )
        == DEFAULT_POLICY
    )


def test_a_reservation_conflict_has_two_answers() -> None:
    assert [str(each) for each in ReservationConflict] == ["ata", "aoe"]
