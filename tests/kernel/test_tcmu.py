# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's LUNs as SCSI disks of its own host, through TCMU and tcm_loop.

What happens is in `guest/tcmu.sh`, one boot for all tests, which build on one another: each leaves
the disks to the next.
"""

from __future__ import annotations

import pytest

from tests.kernel.steps import Steps

# The first test waits for the boot, and for the kernel package on a new machine.
pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


def test_disks_are_there_when_the_daemon_is_ready(tcmu: Steps) -> None:
    assert tcmu.facts("start") == [
        "daemon ready",
        "disks and their sg devices are there",
        "status shows t0 0 disk0 /dev/sda /dev/sg0",
        "status shows t1 3 disk1 /dev/sdb /dev/sg1",
        "INQUIRY data are the device's",
    ]


def test_ext4_with_512_mib_survives_remount(tcmu: Steps) -> None:
    assert tcmu.facts("ext4") == [
        "fsck clean",
        "512 MiB equal after remount",
        "backing file clean",
    ]


def test_blkdiscard_gives_space_back(tcmu: Steps) -> None:
    assert tcmu.facts("discard") == ["blkdiscard gives the space back"]


def test_new_size_is_seen_by_itself(tcmu: Steps) -> None:
    assert tcmu.facts("resize") == ["new size seen", "new end written"]


def test_three_doors_at_once_read_what_each_other_wrote(tcmu: Steps) -> None:
    writers = ("sda", "nbd0", "e1.1")
    assert tcmu.facts("three_doors") == [f"what {name} wrote is read by all" for name in writers]


def test_daemon_hears_of_a_reset(tcmu: Steps) -> None:
    assert tcmu.facts("reset") == ["the daemon hears of a reset", "the disk goes on"]


def test_disks_follow_the_luns_of_the_running_daemon(tcmu: Steps) -> None:
    assert tcmu.facts("luns") == [
        "a LUN that is added is a disk",
        "a mounted disk stays, and fails at once",
        "the others go on",
        "the disk goes on when its LUN is back",
        "the disk of a LUN that is removed is gone",
    ]


def test_kill_loses_nothing_that_was_acknowledged_and_the_next_daemon_goes_on(tcmu: Steps) -> None:
    assert tcmu.facts("killed") == [
        "daemon killed in mid-write",
        "a read fails after cmd_time_out",
        "next ready",
        "both disks are taken over",
        "the writer goes on without an error",
        "fsck clean",
        "nothing acknowledged is lost",
    ]


def test_mounted_disk_outlives_a_stop(tcmu: Steps) -> None:
    assert tcmu.facts("in_use") == [
        "next ended",
        "the mounted disk stays, and it alone",
        "third ready",
        "the next daemon serves it",
    ]


def test_clean_stop_leaves_nothing_in_the_kernel(tcmu: Steps) -> None:
    assert tcmu.facts("clean_stop") == ["third ended", "nothing is left in the kernel"]


def test_what_a_killed_daemon_left_goes_when_it_is_no_longer_configured(tcmu: Steps) -> None:
    assert tcmu.facts("leftovers") == [
        *("fourth ready", "fifth ready"),
        "what is no longer configured is removed",
        "fifth ended",
        "nothing is left in the kernel",
    ]


def test_missing_module_is_named_and_the_other_doors_open(tcmu: Steps) -> None:
    assert tcmu.facts("no_module") == [
        *("sixth ready", "the missing module is named", "NBD is served"),
        "sixth ended",
    ]
