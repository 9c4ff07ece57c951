# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames of clients on a real interface, and interfaces that cannot be used."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from bridges.aoe_tools.errors import ArgumentError, LinkError
from bridges.aoe_tools.packet_link import open_link
from tests.interop.netns import Host, Network, veth_network

ETHERTYPE = b"\x88\xa2"
TIMEOUT_S = 10.0


@pytest.fixture
def network() -> Iterator[Network]:
    with veth_network() as made:
        yield made


def frame(destination: Host, source: Host, body: bytes = b"") -> bytes:
    return (destination.mac + source.mac + ETHERTYPE + body).ljust(60, b"\0")


def test_frames_go_to_and_fro(network: Network) -> None:
    one, other = network.client, network.target
    with (
        one.entered(),
        open_link(one.interface) as near,
        other.entered(),
        open_link(other.interface) as far,
    ):
        assert (near.mac, far.mac) == (one.mac, other.mac)
        for source, destination in ((near, far), (far, near)):
            sent = (destination.mac + source.mac + ETHERTYPE).ljust(1514, b"x")
            source.send(sent)
            assert destination.receive(TIMEOUT_S) == sent


def test_other_protocols_and_own_frames_are_not_heard(network: Network) -> None:
    one, other = network.client, network.target
    last = frame(one, other, b"last")
    with (
        one.entered(),
        open_link(one.interface) as near,
        other.entered(),
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as far,
    ):
        far.bind((other.interface, 0))
        near.send(frame(other, one))
        far.send(frame(one, other).replace(ETHERTYPE, b"\x88\xa3"))
        far.send(last)
        heard = None
        while heard is None:
            heard = near.receive(TIMEOUT_S)
        assert heard == last


def test_silence_ends(network: Network) -> None:
    one = network.client
    with one.entered(), open_link(one.interface) as link:
        assert link.receive(0.01) is None


def test_a_frame_that_does_not_fit_is_refused(network: Network) -> None:
    one = network.client
    with one.entered(), open_link(one.interface) as link:
        link.send(frame(network.target, one).ljust(1514, b"x"))
        with pytest.raises(ArgumentError, match="1515 bytes do not fit a frame of c0"):
            link.send(frame(network.target, one).ljust(1515, b"x"))


def test_an_interface_that_is_down_is_told(network: Network) -> None:
    one = network.client
    with one.entered():
        with open_link(one.interface) as link:
            one.set_link("down")
            with pytest.raises(LinkError, match="c0: the interface is down"):
                link.receive(TIMEOUT_S)
            with pytest.raises(LinkError, match="c0: the interface is down"):
                link.send(frame(network.target, one))
        with pytest.raises(LinkError, match="c0: the interface is down"), open_link("c0"):
            pass


def test_an_interface_that_goes_is_told(network: Network) -> None:
    one = network.client
    request = frame(network.target, one)
    with one.entered(), open_link(one.interface) as link:
        network.disconnect()
        with pytest.raises(LinkError, match="c0: "):
            link.receive(TIMEOUT_S)
        with pytest.raises(LinkError, match="c0: the interface is gone"):
            link.send(request)


@pytest.mark.parametrize("name", ["no-such-if", "", "a-name-of-sixteen", "c0\0"])
def test_an_interface_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(LinkError, match="no such network interface"), open_link(name):
        pass


def test_loopback_is_no_ethernet() -> None:
    with pytest.raises(LinkError, match="lo: not an Ethernet interface"), open_link("lo"):
        pass
