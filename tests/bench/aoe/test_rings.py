# SPDX-License-Identifier: GPL-2.0-or-later
"""rings.py: slots that hold a frame of the MTU; stations' tests use real ones."""

from __future__ import annotations

import pytest

from tests.bench.aoe.rings import BLOCK_BYTES, FRAMES, MAC_OFFSET, SEND_OFFSET, stride_for


@pytest.mark.parametrize(("mtu", "stride"), [(1500, 2048), (9000, 16384)])
def test_slot_holds_a_frame_and_divides_a_block(mtu: int, stride: int) -> None:
    assert stride_for(mtu) == stride
    assert MAC_OFFSET + 14 + mtu <= stride
    assert BLOCK_BYTES % stride == 0
    assert FRAMES * stride % BLOCK_BYTES == 0


def test_offsets_are_those_of_the_kernel() -> None:
    # linux/if_packet.h: TPACKET2_HDRLEN is 52, and tpacket_rcv() aligns the network header to 16.
    assert MAC_OFFSET == 80 - 14
    assert SEND_OFFSET == 52 - 20
