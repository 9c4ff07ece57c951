# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the server's packet port: batches, back pressure, and changes of the link."""

from __future__ import annotations

import gc
import socket
import subprocess
from pathlib import Path

import pytest

from scsi_backend.servers.disk import disk
from tests.bridges.aoe.conftest import Run, Serve
from tests.bridges.aoe.wired import (
    Client,
    filled_disk,
    overload,
    passes,
    scsi_target,
    tag_of,
)
from tests.interop.netns import Network
from tests.scsi_backend.fakes import NOT_NOW, pattern


def test_no_frame_of_a_burst_is_lost(network: Network, run: Run, serve: Serve) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (_, client):
            await client.receive()
            frames = [
                bytes(client.ata(0x24, number % 1024, 1, tag=number)) for number in range(900)
            ]
            for frame in frames:
                await client.send(frame)
            replies = [await client.receive() for _ in frames]
        assert [tag_of(reply) for reply in replies] == list(range(900))
        assert all(bytes(reply)[36:] == pattern(tag_of(reply), 512) for reply in replies)

    run(scenario())


def test_a_slow_disk_makes_frames_wait_and_loses_none(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        vdisk = filled_disk()
        async with serve(network, {(1, 1): scsi_target(disk(vdisk))}) as (_, client):
            await client.receive()
            await overload(vdisk, client)

    run(scenario())


# The interface's queue takes few frames and refuses more (ENOBUFS), or it takes so many that the
# socket's own buffer is full first (EAGAIN).
@pytest.mark.parametrize("limit_bytes", [4000, 64_000_000])
def test_a_slow_interface_makes_replies_wait_and_loses_none(
    network: Network, run: Run, serve: Serve, limit_bytes: int
) -> None:
    interface = network.target.interface
    shaping = ("rate", "50mbit", "burst", "3000", "limit", str(limit_bytes))
    try:
        network.target.run("tc", "qdisc", "add", "dev", interface, "root", "tbf", *shaping)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs the tbf queueing discipline: {error.stderr}")

    async def scenario() -> None:
        targets = {(1, 1): scsi_target(disk(filled_disk()))}
        async with serve(network, targets) as (_, client):
            await client.receive()
            for number in range(300):
                await client.send(bytes(client.ata(0x24, number, 1, tag=number)))
            replies = [await client.receive() for _ in range(300)]
        assert [tag_of(reply) for reply in replies] == list(range(300))

    run(scenario())


def test_a_larger_mtu_is_announced_and_used(network: Network, run: Run, serve: Serve) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (_, client):
            await client.receive()
            refused = await client.exchange(client.ata(0x24, 0, 16))
            network.set_mtu(9000)
            announcement = await client.receive()
            read = await client.exchange(client.ata(0x24, 0, 16))
            written = await client.exchange(client.ata(0x34, 0, 16, b"j" * 8192))
        assert bytes(refused)[24:28] == bytes.fromhex("40 04 10 41")
        assert announcement["AOE"].cmd == 1
        assert bytes(announcement)[:6] == b"\xff" * 6
        assert bytes(announcement)[28] == 16
        assert len(bytes(read)) == 36 + 8192
        assert bytes(written)[27] == 0x40

    run(scenario())


def test_a_frame_kept_over_a_change_of_the_mtu_makes_no_later_one_short(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        vdisk = filled_disk()
        async with serve(network, {(1, 1): scsi_target(disk(vdisk))}) as (_, client):
            await client.receive()
            await client.exchange(client.ata(0x24))
            vdisk.immediate_bytes = NOT_NOW
            vdisk.is_held = True
            await client.send(client.ata(0x34, 7, 1, b"w" * 512))
            await passes(lambda: bool(vdisk.held))
            network.set_mtu(9000)
            await client.receive()
            vdisk.is_held = False
            vdisk.release_all()
            await client.receive()
            written = await client.exchange(client.ata(0x34, 0, 16, b"j" * 8192))
        assert bytes(written)[27] == 0x40
        assert vdisk.blocks(0, 16) == b"j" * 8192

    run(scenario())


def test_a_link_that_comes_back_is_announced_and_served(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (_, client):
            await client.receive()
            network.target.set_link("down")
            network.target.set_link("up")
            announcement = await client.receive()
            # The other end loses its link with this one, and finds it a moment later.
            await passes(lambda: network.client.is_running)
            await client.send(client.ata(0x24, 7))
            # Each step of the link's way up may be announced.
            while (read := await client.receive())["AOE"].cmd == 1:
                pass
        assert announcement["AOE"].cmd == 1
        assert bytes(read)[36:] == pattern(7, 512)

    run(scenario())


def test_an_interface_that_is_made_again_is_served(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (_, client):
            await client.receive()
            network.disconnect()
            network.connect()
            successor = Client(network.client, network.target.mac)
            # The server says so when it has found the new interface.
            assert (await successor.receive())["AOE"].cmd == 1
            await successor.send(successor.ata(0x24, 7))
            while (read := await successor.receive())["AOE"].cmd == 1:
                pass
            successor.close()
        assert bytes(read)[36:] == pattern(7, 512)

    run(scenario())


def packet_sockets() -> int:
    """How many there are on this thread's host."""
    lines = Path("/proc/thread-self/net/packet").read_text().splitlines()
    return len(lines) - 1


def test_ports_that_have_been_replaced_leave_nothing_behind(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (_, client):
            await client.receive()
            await client.exchange(client.ata(0x24))
            before = packet_sockets()
            for mtu, sectors in ((2000, 3), (3000, 5), (4000, 7)):
                network.set_mtu(mtu)
                while (await client.receive())["AOE"].q_conf_info.sector_count != sectors:
                    pass
                await client.exchange(client.ata(0x24, 7, sectors))
            await passes(lambda: packet_sockets() == before)

    # Not by the garbage collector, which may not come for hours.
    gc.disable()
    try:
        run(scenario())
    finally:
        gc.enable()


def test_an_interface_that_is_made_again_with_its_old_number_is_served(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (_, client):
            await client.receive()
            name = network.target.interface
            number = socket.if_nametoindex(name)
            mac = network.target.mac.hex(":")
            peer = f"peer name {network.client.interface} netns {network.client.namespace}"
            again = f"link add {name} index {number} address {mac} type veth {peer}"
            # All at once, so that whoever looks afterwards sees the new one only.
            words = f"link del {name}\n{again}\nlink set {name} up\n"
            command = ["ip", "-n", network.target.namespace, "-batch", "-"]
            subprocess.run(command, input=words, text=True, check=True, timeout=30)
            network.client.set_link("up")
            successor = Client(network.client, network.target.mac)
            assert (await successor.receive())["AOE"].cmd == 1
            await successor.send(successor.ata(0x24, 7))
            while (read := await successor.receive())["AOE"].cmd == 1:
                pass
            successor.close()
        assert bytes(read)[36:] == pattern(7, 512)

    run(scenario())


def test_a_flood_of_link_events_does_not_hide_the_next_one(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (_, client):
            await client.receive()
            # More than the netlink socket holds while the loop stands still.
            words = f"link set dev {network.target.interface} mtu"
            flood = "".join(f"{words} {1400 + number % 2}\n" for number in range(1000))
            subprocess.run(
                ["ip", "-n", network.target.namespace, "-batch", "-"],
                input=flood,
                text=True,
                check=True,
                timeout=30,
            )
            await client.receive()
            network.set_mtu(9000)
            while (await client.receive())["AOE"].q_conf_info.sector_count != 16:
                pass

    run(scenario())
