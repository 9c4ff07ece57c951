# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux's AoE driver on the daemon over an Ethernet that loses, doubles and delays frames, and over
two links of which one goes down.

What happens is in `guest/aoe_wire.sh`, one boot for all tests. AoE has neither checksums nor
sequence numbers: what comes of a retransmission is up to the driver and the target.
"""

from __future__ import annotations

import pytest

from tests.kernel.steps import Steps

# The first test waits for the boot, and for the kernel package on a new machine.
pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

EXT4 = ["fsck clean", "data equal after remount", "backing file equal"]


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_ext4_survives_a_wire_that_spoils_one_frame_in_500(aoe_wire: Steps, mtu: int) -> None:
    step = f"lossy_{mtu}"
    assert aoe_wire.facts(step) == [
        f"{step} ready",
        *EXT4,
        "frames from w0 to w1 lost, duplicated and late",
        "frames from w1 to w0 lost, duplicated and late",
        f"{step} ended",
    ]


def test_write_completes_when_one_of_two_links_goes_down(aoe_wire: Steps) -> None:
    assert aoe_wire.facts("pulled") == [
        *("pulled ready", "on v0,v2", "link down in mid-write", "write completed"),
        *EXT4,
    ]


def test_link_that_was_down_is_used_again(aoe_wire: Steps) -> None:
    assert aoe_wire.facts("back") == [
        *("target found over the link that was down", "data equal after remount"),
        "pulled ended",
    ]
