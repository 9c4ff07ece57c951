# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets that come and go while a server serves others."""

from __future__ import annotations

import asyncio

import pytest

from bridges.aoe.address import Address
from bridges.aoe.server import AoeServer, Export
from bridges.aoe.state import KeptState, TargetState
from bridges.aoe.target import AoeTarget
from bridges.spin import Spinner
from scsi_backend.servers.disk import disk
from scsi_backend.target.lun_map import LunEntry
from scsi_backend.target.target import Target
from tests.bridges.aoe.conftest import Run, Serve
from tests.bridges.aoe.wired import Client, filled_disk, passes, scsi_target, tag_of
from tests.interop.netns import Network
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern


def _target(vdisk: FaultyVdisk, slot: int) -> AoeTarget:
    scsi = Target("aoe", f"e1.{slot}", slot)
    scsi.configure(luns={0: LunEntry(disk(vdisk))}, is_enabled=True)
    return AoeTarget(Address(1, slot), scsi, asyncio.get_running_loop())


async def _slots(client: Client, count: int) -> list[int]:
    """Which targets answer a discovery that so many answer, and nobody after them."""
    await client.send(client.config(shelf=0xFFFF, slot=0xFF))
    found = [int((await client.receive())["AOE"].minor) for _ in range(count)]
    # Answers come in order: had there been others, they would have come before this one.
    assert (await client.exchange(client.ata(0x24, 7)))["AOE"].cmd == 0
    return found


def test_a_target_is_added_and_removed_while_another_is_served(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (server, client):
            await client.receive()
            added = _target(filled_disk(), 2)
            with network.target.entered():
                server.add_export(Export(added))
            announcement = await client.receive()
            assert (announcement["AOE"].minor, announcement["AOE"].tag) == (2, 0)
            assert await _slots(client, 2) == [1, 2]
            with pytest.raises(ValueError, match=r"^e1\.2 is served already$"):
                server.add_export(Export(added))
            await server.remove_export(added)
            assert [target.address for target in server.targets] == [Address(1, 1)]
            assert await _slots(client, 1) == [1]
            # At the same address, anew.
            with network.target.entered():
                server.add_export(Export(_target(filled_disk(), 2)))
            await client.receive()
            assert await _slots(client, 2) == [1, 2]

    run(scenario())


def test_a_target_is_removed_when_everything_under_way_to_it_is_answered(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        slow = filled_disk()
        target = _target(filled_disk(), 2)
        async with serve(network, {(1, 1): scsi_target(disk(slow)), (1, 2): target}) as (
            server,
            client,
        ):
            for _ in range(2):
                await client.receive()
            await client.exchange(client.ata(0x24, 7))
            slow.immediate_bytes, slow.is_held = NOT_NOW, True
            await client.send(client.ata(0x24, 8))
            await passes(lambda: bool(slow.held))
            removal = asyncio.ensure_future(server.remove_export(server.targets[0]))
            await asyncio.sleep(0)
            # It hears nothing new, and the other one is served.
            await client.send(client.ata(0x24, 9))
            shown = await client.exchange(client.config(slot=2))
            assert shown["AOE"].minor == 2
            assert not removal.done()
            slow.release_all()
            reply = await client.receive()
            await removal
        assert bytes(reply)[36:] == pattern(8, 512)

    run(scenario())


def test_a_target_that_is_made_again_is_silent_until_its_former_self_has_ended(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        slow = filled_disk()
        scsi, other = scsi_target(disk(slow)), _target(filled_disk(), 2)
        async with serve(network, {(1, 1): scsi, (1, 2): other}) as (server, client):
            for _ in range(2):
                await client.receive()
            await client.exchange(client.ata(0x24, 8))
            slow.immediate_bytes, slow.is_held = NOT_NOW, True
            await client.send(client.ata(0x34, 8, data=b"\1" * 512, tag=7))
            await passes(lambda: bool(slow.held))
            removal = asyncio.ensure_future(server.remove_export(server.targets[0]))
            await asyncio.sleep(0)
            again = AoeTarget(Address(1, 1), scsi, asyncio.get_running_loop())
            server.add_export(Export(again))
            # A newer write to the same sector must not be undone by the one under way.
            newer = client.ata(0x34, 8, data=b"\2" * 512, tag=8)
            await client.send(newer)
            shown = await client.exchange(client.config(shelf=0xFFFF, slot=0xFF))
            assert shown["AOE"].minor == 2
            assert len(slow.held) == 1
            slow.immediate_bytes, slow.is_held = None, False
            slow.release_all()
            replies = [await client.receive() for _ in range(2)]
            assert sorted((reply["AOE"].tag, reply["AOE"].cmd) for reply in replies) == [
                (0, 1),
                (7, 0),
            ]
            await removal
            assert tag_of(await client.exchange(newer)) == 8
            assert slow.blocks(8, 1) == b"\2" * 512

    run(scenario())


def test_an_interface_that_is_opened_again_leads_to_a_former_target_once_that_has_ended(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        slow = filled_disk()
        scsi = scsi_target(disk(slow))
        async with serve(network, {(1, 1): scsi}) as (server, client):
            await client.receive()
            await client.exchange(client.ata(0x24, 7))
            slow.immediate_bytes, slow.is_held = NOT_NOW, True
            await client.send(client.ata(0x24, 8))
            await passes(lambda: bool(slow.held))
            removal = asyncio.ensure_future(server.remove_export(server.targets[0]))
            await asyncio.sleep(0)
            server.add_export(Export(AoeTarget(Address(1, 1), scsi, asyncio.get_running_loop())))
            assert server.ports == {}
            server.add_export(Export(_target(filled_disk(), 3)))
            for _ in range(2):
                assert (await client.receive())["AOE"].minor == 3
                await client.send(client.config(shelf=0xFFFF, slot=0xFF))
            assert (await client.receive())["AOE"].minor == 3
            slow.immediate_bytes, slow.is_held = None, False
            slow.release_all()
            await removal
            assert sorted([(await client.receive())["AOE"].cmd for _ in range(2)]) == [0, 1]
            assert sorted(await _slots(client, 2)) == [1, 3]

    run(scenario())


def test_a_stop_waits_for_a_target_that_is_being_removed(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        slow = filled_disk()
        async with serve(network, {(1, 1): scsi_target(disk(slow))}) as (server, client):
            await client.receive()
            await client.exchange(client.ata(0x24, 7))
            slow.immediate_bytes, slow.is_held = NOT_NOW, True
            await client.send(client.ata(0x24, 8))
            await passes(lambda: bool(slow.held))
            removal = asyncio.ensure_future(server.remove_export(server.targets[0]))
            await asyncio.sleep(0)
            stop = asyncio.ensure_future(server.stop())
            for _ in range(50):
                await asyncio.sleep(0)
            assert not stop.done()
            slow.release_all()
            await asyncio.gather(stop, removal)
            assert bytes(await client.receive())[36:] == pattern(8, 512)

    run(scenario())


def test_an_interface_is_served_as_long_as_it_leads_somewhere(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (server, client):
            await client.receive()
            await server.remove_export(server.targets[0])
            assert server.ports == {}
            with network.target.entered():
                server.add_export(Export(_target(filled_disk(), 3), ["other*"]))
                assert server.ports == {}
                server.add_export(Export(_target(filled_disk(), 2), ["t*"]))
            assert list(server.ports) == ["t0"]
            assert (await client.receive())["AOE"].minor == 2
            assert (await client.exchange(client.config(slot=0xFF)))["AOE"].minor == 2

    run(scenario())


def test_a_server_that_has_not_been_started_takes_targets_and_ends_them(
    network: Network, run: Run
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        server = AoeServer(loop, ["t0"], [], Spinner())
        one, two = _target(filled_disk(), 1), _target(filled_disk(), 2)
        for target in (one, two):
            server.add_export(Export(target))
        await server.remove_export(one)
        assert server.targets == (two,)
        await server.stop()
        assert server.ports == {}

    run(scenario())


def test_sizes_are_looked_at_of_every_target(network: Network, run: Run, serve: Serve) -> None:
    async def scenario() -> None:
        vdisk = filled_disk()
        unit = disk(vdisk)
        async with serve(network, {(1, 1): scsi_target(unit)}) as (server, client):
            await client.receive()
            vdisk.new_block_count = 512
            unit.resync_size()
            server.look_at_sizes()
            assert (await client.receive())["AOE"].cmd == 1

    run(scenario())


def test_a_server_that_cannot_begin_has_nothing_reserved(network: Network, run: Run) -> None:
    async def scenario() -> None:
        unit = disk(filled_disk())
        scsi = Target("aoe", "e1.1", 1)
        scsi.configure(luns={0: LunEntry(unit)}, is_enabled=True)
        state = KeptState(TargetState(reserve_list=(b"\2\0\0\0\0\1",)))
        loop = asyncio.get_running_loop()
        target = AoeTarget(Address(1, 1), scsi, loop, state=state)
        assert unit.reservations.has_legacy
        with pytest.raises(OSError, match="no-such-if"):
            AoeServer(loop, ["no-such-if"], [Export(target)], Spinner()).start()
        assert not unit.reservations.has_legacy

    run(scenario())
