# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the server on a real interface: targets, stop, and several interfaces."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridges.aoe.server import parse_address
from scsi_backend.handlers.attributes import FileioAttributes
from scsi_backend.io.threads import ThreadEngine
from scsi_backend.servers.disk import disk
from scsi_backend.target.backend import Backend
from scsi_backend.target.lun_map import LunEntry
from tests.bridges.aoe.conftest import Run, Serve
from tests.bridges.aoe.wired import (
    RESPONSE,
    filled_disk,
    overload,
    passes,
    scsi_target,
    tag_of,
)
from tests.interop.netns import Network
from tests.scsi_backend.fakes import NOT_NOW, pattern


def test_the_target_announces_itself_to_everybody(network: Network, run: Run, serve: Serve) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (server, client):
            frame = await client.receive()
            (port,) = server.ports.values()
            buffers = port.buffer_count
        assert buffers >= 64
        assert bytes(frame) == bytes.fromhex(
            f"ffffffffffff {client.target_mac.hex()} 88a2 18 00 0001 01 01 00000000"
            f"{buffers:04x} 0001 02 10 0000"
        ).ljust(60, b"\0")

    run(scenario())


def test_sectors_are_identified_written_and_read(network: Network, run: Run, serve: Serve) -> None:
    async def scenario() -> None:
        vdisk = filled_disk()
        async with serve(network, {(1, 1): scsi_target(disk(vdisk))}) as (_, client):
            await client.receive()
            identified = await client.exchange(client.ata(0xEC))
            written = await client.exchange(client.ata(0x34, 7, 2, b"w" * 1024))
            read = await client.exchange(client.ata(0x24, 6, 2))
            beyond = await client.exchange(client.ata(0x24, 1023, 2))
        assert bytes(identified)[36:][200:208] == (1024).to_bytes(8, "little")
        assert int(written["AOE"].flags) == RESPONSE
        assert bytes(written)[24:36] == bytes.fromhex("41 00 00 40 070000000000 0000")
        assert len(bytes(written)) == 60
        assert vdisk.blocks(7, 2) == b"w" * 1024
        assert bytes(read)[36:] == pattern(6, 512) + b"w" * 512
        assert bytes(beyond)[24:28] == bytes.fromhex("40 10 02 41")

    run(scenario())


def test_each_of_several_targets_answers_for_itself(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        targets = {(1, slot): scsi_target(disk(filled_disk())) for slot in (1, 2, 3)}
        async with serve(network, targets) as (_, client):
            announced = [await client.receive() for _ in targets]
            await client.send(client.config(slot=0xFF))
            answered = [await client.receive() for _ in targets]
            one = await client.exchange(client.config(slot=2))
        for frames in (announced, answered):
            assert [frame["AOE"].minor for frame in frames] == [1, 2, 3]
        assert one["AOE"].minor == 2

    run(scenario())


def test_replies_and_other_protocols_are_not_answered(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        async with serve(network, {(1, 1): scsi_target(disk(filled_disk()))}) as (_, client):
            await client.receive()
            reply = client.config()
            reply["AOE"].flags = RESPONSE
            await client.send(reply)
            other = client.config()
            other.type = 0x0800
            await client.send(other)
            await client.send(bytes(client.config())[:20])
            answer = await client.exchange(client.ata(0xE7, count=0))
        assert answer["AOE"].cmd == 0

    run(scenario())


def test_stop_waits_for_commands_under_way_and_their_replies(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        vdisk = filled_disk()
        target = scsi_target(disk(vdisk))
        async with serve(network, {(1, 1): target}) as (server, client):
            await client.receive()
            vdisk.immediate_bytes = NOT_NOW
            vdisk.is_held = True
            await client.send(client.ata(0x34, 7, 1, b"w" * 512))
            await passes(lambda: bool(vdisk.held))
            stopping = asyncio.ensure_future(server.stop())
            await asyncio.sleep(0)
            await client.send(client.ata(0x24, 7))
            for _ in range(50):
                await asyncio.sleep(0)
            assert not stopping.done()
            vdisk.release_all()
            await stopping
            reply = await client.receive()
            assert bytes(reply)[24:28] == bytes.fromhex("41 00 00 40")
            assert vdisk.blocks(7, 1) == b"w" * 512
            assert target.sessions == ()
            # The read came too late: nothing was done for it.
            assert not vdisk.held

    run(scenario())


def test_a_server_that_has_stopped_lets_another_serve_the_same_disk(
    network: Network, run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        vdisk = filled_disk()
        target = scsi_target(disk(vdisk))
        async with serve(network, {(1, 1): target}) as (server, client):
            await client.receive()
            vdisk.immediate_bytes = NOT_NOW
            vdisk.is_held = True
            await client.send(client.ata(0x24, 7))
            await passes(lambda: bool(vdisk.held))
            asyncio.get_running_loop().call_later(0, vdisk.release_all)
            await server.stop()
            await server.stop()
            await client.receive()
        assert target.sessions == ()
        async with serve(network, {(1, 1): target}) as (_, client):
            announcement = await client.receive()
            vdisk.is_held = False
            await overload(vdisk, client)
        assert announcement["AOE"].cmd == 1

    run(scenario())


def test_writes_through_worker_threads_are_in_the_file(
    network: Network, run: Run, serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        engine = ThreadEngine(loop.call_soon)
        loop.add_reader(engine.fileno(), engine.reap)
        backend = Backend(engine)
        attributes = FileioAttributes(filename=str(path))
        unit = backend.add_device("vdisk_fileio", "disk0", attributes)
        target = backend.add_target("aoe", "e1.1")
        target.add_lun(0, LunEntry(unit))
        target.is_enabled = True
        async with serve(network, {(1, 1): target}) as (_, client):
            await client.receive()
            for number in range(200):
                data = pattern(number, 512)
                await client.send(client.ata(0x34, number, 1, data, tag=number))
            replies = [await client.receive() for _ in range(200)]
        loop.remove_reader(engine.fileno())
        backend.close()
        assert {tag_of(reply) for reply in replies} == set(range(200))
        assert all(bytes(reply)[27] == 0x40 for reply in replies)

    run(scenario())
    expected = b"".join(pattern(number, 512) for number in range(200))
    assert path.read_bytes() == expected.ljust(1 << 20, b"\0")


def test_addresses_are_parsed_for_those_who_configure_servers() -> None:
    assert parse_address("e1.1") == (1, 1)
