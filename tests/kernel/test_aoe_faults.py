# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux's AoE driver on the daemon when a disk has bad sectors or another size, when another host
reserves it, and when the daemon is killed.

What happens is in `guest/aoe_faults.sh`, one boot for all tests, and a target for each of them.
"""

from __future__ import annotations

import pytest

from tests.kernel.steps import Steps

# The first test waits for the boot, and for the kernel package on a new machine.
pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


def test_aoe_stat_shows_each_target_with_its_size(aoe_faults: Steps) -> None:
    shown = [f"e1.{slot} 0.016GB up" for slot in (1, 2, 3, 4)]
    assert aoe_faults.facts("start") == ["daemon ready", *shown]


def test_bad_sector_gives_eio_at_once_and_to_its_own_readers_alone(aoe_faults: Steps) -> None:
    assert aoe_faults.facts("bad_sectors") == [
        "read gives EIO in time",
        "neighbours are read",
        "write gives EIO in time",
        "neighbour is written",
    ]


def test_new_size_is_seen(aoe_faults: Steps) -> None:
    assert aoe_faults.facts("resize") == [
        "announced size taken over by an unused device",
        "size seen after aoe-revalidate",
        "new end written",
    ]


def test_reservation_by_another_host_fences_the_driver(aoe_faults: Steps) -> None:
    assert aoe_faults.facts("fenced") == [
        "reserved by another host",
        "IDENTIFY answered",
        "read waits",
        "read goes on after release",
        "read fails in the end",
        "read after release",
    ]


def test_kill_loses_nothing_that_was_acknowledged(aoe_faults: Steps) -> None:
    assert aoe_faults.facts("killed") == [
        "nothing is in the file until it is flushed",
        "daemon killed in mid-write",
        "nothing acknowledged is lost",
        "next ready",
        "write goes on with the next daemon",
        "all is in the file of a daemon that was killed after",
    ]
