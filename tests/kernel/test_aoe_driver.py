# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux's AoE driver (aoe.ko) on the daemon, alone and in turn with the NBD client.

What happens is in `guest/aoe_driver.sh`, one boot for all tests; a test asks for the facts of its
step. The AoE protocol itself is tested in tests/bridges/aoe and tests/interop.
"""

from __future__ import annotations

import pytest

from tests.kernel.steps import Steps

# The first test waits for the boot, and for the kernel package on a new machine.
pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

EXT4 = ["fsck clean", "data equal after remount", "backing file equal"]


# The driver takes 36 bytes of Ethernet, AoE and ATA headers off the MTU, and fills the rest with
# whole sectors of 512 bytes: 2 of them in 1500 bytes, 17 in 9000, of which the target asks for 16.
@pytest.mark.parametrize(("mtu", "payload_bytes"), [(1500, 1024), (9000, 8192)])
def test_ext4_survives_remount(aoe_driver: Steps, mtu: int, payload_bytes: int) -> None:
    step = f"mtu_{mtu}"
    shown = f"aoe-stat shows e1.1 0.536GB v0 {payload_bytes} up"
    assert aoe_driver.facts(step) == [f"{step} ready", shown, *EXT4, f"{step} ended"]


def test_nbd_and_aoe_read_what_the_other_wrote(aoe_driver: Steps) -> None:
    assert aoe_driver.facts("in_turn") == [
        *("in_turn ready", "attached", "fsck clean over NBD", "detached"),
        *("AoE reads what NBD wrote", "fsck clean over AoE"),
        *("attached", "NBD reads what AoE wrote", "detached"),
    ]


def test_daemon_ends_with_status_0_while_the_driver_holds_its_device(aoe_driver: Steps) -> None:
    assert aoe_driver.facts("daemon_stop") == ["in_turn ended"]
