# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of packet sockets on a real Ethernet: the filter, the ring, and the kernel's counters."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from bridges.aoe.packet_socket import PacketSocket
from tests.interop.netns import Network, wait_until


@pytest.fixture
def packets(network: Network) -> Iterator[PacketSocket]:
    with network.target.entered():
        packets = PacketSocket.open(1514)
        with closing(packets):
            packets.bind(network.target.interface)
            yield packets


def send(network: Network, *frames: bytes) -> None:
    with network.client.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((network.client.interface, 0))
        for frame in frames:
            sock.send(frame)


def frame(network: Network, *, flags: int = 0x10, destination: bytes | None = None) -> bytes:
    head = (destination or network.target.mac) + network.client.mac + b"\x88\xa2"
    return (head + bytes((flags, 0, 0, 1, 1, 1))).ljust(60, b"\0")


def is_readable(packets: PacketSocket, timeout_s: float = 0) -> bool:
    return bool(select.select([packets], [], [], timeout_s)[0])


def test_frames_come_by_the_ring(network: Network, packets: PacketSocket) -> None:
    request = frame(network)
    send(network, request, request[:32], request + bytes(1454))
    assert packets.rx is not None
    wait_until(lambda: packets.rx is not None and packets.rx.ready(8) == 3)
    frames = [bytes(packets.rx.frame(slot)) for slot in range(3)]
    assert frames == [request, request[:32], request + bytes(1454)]


def test_replies_and_frames_for_others_do_not_come(network: Network, packets: PacketSocket) -> None:
    network.target.set_link("promisc", "on")
    broadcast = frame(network, destination=b"\xff" * 6)
    send(
        network,
        frame(network, flags=0x18),
        frame(network, flags=0x1C),
        frame(network, destination=b"\x02\0\0\0\0\x0f"),
        frame(network)[:14],
        broadcast,
        frame(network),
    )
    assert packets.rx is not None
    wait_until(lambda: packets.statistics.frames >= 2)
    assert packets.rx.ready(8) == 2
    assert [bytes(packets.rx.frame(slot)) for slot in range(2)] == [broadcast, frame(network)]


def test_own_frames_do_not_come_back(network: Network, packets: PacketSocket) -> None:
    packets.sender.send(frame(network, destination=b"\xff" * 6))
    send(network, frame(network))
    assert packets.rx is not None
    wait_until(lambda: packets.statistics.frames >= 1)
    assert packets.rx.ready(8) == 1


def test_it_is_readable_once_for_what_has_come_though_a_frame_is_kept(
    network: Network, packets: PacketSocket
) -> None:
    assert not is_readable(packets)
    send(network, frame(network))
    assert is_readable(packets, 10)
    assert not packets.woke()
    assert not is_readable(packets)
    send(network, frame(network))
    assert is_readable(packets, 10)


def test_frames_that_find_no_slot_are_counted(network: Network, packets: PacketSocket) -> None:
    assert packets.rx is not None
    count, extra = packets.rx.count, 50
    send(network, *[frame(network)] * (packets.rx.count + extra))
    wait_until(lambda: packets.statistics.frames == count + extra)
    assert packets.statistics.dropped == extra
    # Asking again does not forget them.
    assert packets.statistics.dropped == extra


def test_an_interface_that_goes_down_is_no_lasting_error(
    network: Network, packets: PacketSocket
) -> None:
    network.target.set_link("down")
    assert is_readable(packets, 10)
    assert packets.woke()
    network.target.set_link("up")
    wait_until(lambda: network.client.is_running)
    send(network, frame(network))
    assert is_readable(packets, 10)
    assert not packets.woke()


def test_an_unhooked_socket_receives_nothing_and_can_send(
    network: Network, packets: PacketSocket
) -> None:
    packets.unhook()
    send(network, frame(network))
    assert packets.sender.send(frame(network, destination=b"\xff" * 6)) == 60
    assert not is_readable(packets)


def test_a_ring_that_the_kernel_refuses_is_done_without(network: Network) -> None:
    with network.target.entered(), closing(PacketSocket.open(1 << 26)) as packets:
        assert packets.rx is None
        packets.bind(network.target.interface)
        assert packets.receive_buffer_bytes >= 8 << 20
        send(network, frame(network))
        assert is_readable(packets, 10)
        assert packets.sock.recv(2048) == frame(network)


def test_rings_of_longer_frames_have_fewer_slots(network: Network) -> None:
    with network.target.entered():
        counts = []
        for frame_bytes in (562, 1514, 9014, 65549):
            with closing(PacketSocket.open(frame_bytes)) as packets:
                assert packets.rx is not None
                counts.append(packets.rx.count)
    assert counts == [2048, 2048, 896, 96]
