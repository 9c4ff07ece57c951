# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of what follows from an interface's state, and of looking at real interfaces."""

from __future__ import annotations

import pytest

from bridges.aoe.link import Link, read_link
from tests.interop.netns import Network, wait_until


@pytest.mark.parametrize(
    ("mtu", "sectors"),
    [
        (548, 1),
        (1059, 1),
        (1060, 2),
        (1500, 2),
        (3620, 7),
        (4132, 8),
        (4644, 8),
        (8227, 8),
        (8228, 16),
        (9000, 16),
        (65535, 120),
        # The field has eight bits.
        (200000, 248),
    ],
)
def test_sector_count_is_what_a_frame_holds_in_whole_pages(mtu: int, sectors: int) -> None:
    assert Link(bytes(6), mtu, True).sector_count == sectors


@pytest.mark.parametrize(
    ("mtu", "receive_buffer_bytes", "frames"),
    [
        (1500, 16 << 20, 64),
        (9000, 16 << 20, 64),
        # What an unprivileged process gets: net.core.rmem_max, doubled.
        (1500, 425984, 64),
        (9000, 425984, 24),
        # Linux never shows the disk of a target with fewer than two.
        (9000, 2304, 2),
    ],
)
def test_buffer_count_is_what_the_socket_buffer_holds(
    mtu: int, receive_buffer_bytes: int, frames: int
) -> None:
    assert Link(bytes(6), mtu, True).buffer_count(receive_buffer_bytes) == frames


def test_longest_frame_has_an_ethernet_header_before_the_mtu() -> None:
    assert Link(bytes(6), 1500, True).frame_bytes == 1514


def test_an_interface_is_read(network: Network) -> None:
    host = network.target
    with host.entered():
        assert read_link(host.interface) == Link(host.mac, 1500, True)
        network.set_mtu(9000)
        network.client.set_link("down")
        wait_until(lambda: not read_link(host.interface).is_running)
        assert read_link(host.interface) == Link(host.mac, 9000, False)


def test_what_is_no_interface_for_aoe_is_refused(network: Network) -> None:
    host = network.target
    with host.entered():
        for name in ("absent0", "much_too_long_for_a_name", "t" * 15 + "0"):
            with pytest.raises(OSError, match="No such device"):
                read_link(name)
        with pytest.raises(OSError, match="not an Ethernet interface: 'lo'"):
            read_link("lo")
        network.set_mtu(547)
        with pytest.raises(OSError, match="MTU 547: expected at least 548: 't0'"):
            read_link(host.interface)
