# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of a server on several interfaces: names, patterns, and interfaces that come and go."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from bridges.aoe.address import Address
from bridges.aoe.server import AoeServer, Export
from bridges.aoe.target import AoeTarget
from bridges.spin import Spinner
from scsi_backend.servers.disk import disk
from tests.bridges.aoe.conftest import Run
from tests.bridges.aoe.wired import Client, filled_disk, passes, scsi_target
from tests.interop.netns import Host, Network
from tests.scsi_backend.fakes import NOT_NOW, FaultyVdisk, pattern


@pytest.fixture
def second(network: Network) -> Network:
    """Another Ethernet between the same two hosts."""
    second = Network(Host(network.target.namespace, "t1"), Host(network.client.namespace, "c1"))
    second.connect()
    return second


def aoe_target(vdisk: FaultyVdisk, slot: int = 1) -> AoeTarget:
    loop = asyncio.get_running_loop()
    return AoeTarget(Address(1, slot), scsi_target(disk(vdisk)), loop)


@asynccontextmanager
async def serving(
    network: Network, interfaces: Sequence[str], *exports: Export
) -> AsyncIterator[AoeServer]:
    server = AoeServer(asyncio.get_running_loop(), interfaces, exports, Spinner())
    with network.target.entered():
        server.start()
        try:
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def clients(*networks: Network) -> AsyncIterator[list[Client]]:
    opened = [Client(network.client, network.target.mac) for network in networks]
    try:
        yield opened
    finally:
        for client in opened:
            client.close()


def test_a_target_on_two_interfaces_keeps_one_order_and_one_string(
    network: Network, second: Network, run: Run
) -> None:
    async def scenario() -> None:
        vdisk = filled_disk()
        export = Export(aoe_target(vdisk))
        async with (
            clients(network, second) as (one, other),
            serving(network, ["t0", "t1"], export) as server,
        ):
            assert list(server.ports) == ["t0", "t1"]
            for client in (one, other):
                await client.receive()
            await one.exchange(one.config(ccmd=4, string=b"shared"))
            shown = await other.exchange(other.config())
            assert bytes(shown)[30:38] == b"\x00\x06shared"
            await _write_through_both(vdisk, one, other)

    async def _write_through_both(vdisk: FaultyVdisk, one: Client, other: Client) -> None:
        # Once each, so that the rest takes the quick way.
        for client in (one, other):
            for _ in range(2):
                await client.exchange(client.ata(0x34, 7, 1, b"0" * 512))
        vdisk.immediate_bytes = NOT_NOW
        vdisk.is_held = True
        await one.send(one.ata(0x34, 7, 1, b"1" * 512))
        await passes(lambda: bool(vdisk.held))
        await other.send(other.ata(0x34, 7, 1, b"2" * 512))
        await other.exchange(other.config())
        # The second write is behind the first one, not beside it.
        assert len(vdisk.held) == 1
        vdisk.is_held = False
        vdisk.release_all()
        await one.receive()
        await other.receive()
        assert vdisk.blocks(7, 1) == b"2" * 512

    run(scenario())


def test_a_pattern_stands_for_interfaces_that_are_there_and_that_come(
    network: Network, run: Run
) -> None:
    async def scenario() -> None:
        later = Network(Host(network.target.namespace, "t9"), Host(network.client.namespace, "c9"))
        async with serving(network, ["t*"], Export(aoe_target(filled_disk()))) as server:
            assert list(server.ports) == ["t0"]
            later.connect()
            await passes(lambda: list(server.ports) == ["t0", "t9"])
            async with clients(later) as (client,):
                await client.send(client.ata(0x24, 7))
                while (read := await client.receive())["AOE"].cmd == 1:
                    pass
            assert bytes(read)[36:] == pattern(7, 512)
            later.disconnect()
            await passes(lambda: list(server.ports) == ["t0"])

    run(scenario())


def test_a_target_may_be_reached_through_some_interfaces_only(
    network: Network, second: Network, run: Run
) -> None:
    async def scenario() -> None:
        both = Export(aoe_target(filled_disk(), 1))
        only_second = Export(aoe_target(filled_disk(), 2), ("t1",))
        async with (
            clients(network, second) as (one, other),
            serving(network, ["t0", "t1"], both, only_second),
        ):
            assert (await one.receive())["AOE"].minor == 1
            announced = {(await other.receive())["AOE"].minor for _ in range(2)}
            assert announced == {1, 2}
            # Nothing but the other target answers here.
            await one.send(one.config(slot=2))
            assert (await one.exchange(one.config(slot=0xFF)))["AOE"].minor == 1
            assert (await other.exchange(other.config(slot=2)))["AOE"].minor == 2

    run(scenario())


def test_loopback_is_passed_over_where_a_pattern_matches_it(
    network: Network, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(network, ["*"], Export(aoe_target(filled_disk()))) as server:
            assert list(server.ports) == ["t0"]

    with caplog.at_level("INFO"):
        run(scenario())
    assert caplog.text.count("interface lo is not served: not an Ethernet interface") == 1


def test_a_missing_interface_is_named(network: Network, run: Run) -> None:
    async def scenario() -> None:
        with pytest.raises(OSError, match="No such device: 'absent0'") as raised:
            async with serving(network, ["t0", "absent0"], Export(aoe_target(filled_disk()))):
                pass
        assert raised.value.errno == errno.ENODEV

    run(scenario())


def test_a_pattern_without_a_match_is_no_error_but_is_told(
    network: Network, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(network, ["x*"], Export(aoe_target(filled_disk()))) as server:
            assert not server.ports

    run(scenario())
    assert "interface x*: none so far" in caplog.text


def test_a_server_that_was_not_started_can_be_stopped(run: Run) -> None:
    async def scenario() -> None:
        exports = [Export(aoe_target(filled_disk()))]
        server = AoeServer(asyncio.get_running_loop(), ["t0"], exports, Spinner())
        await server.stop()
        assert [target.address for target in server.targets] == [Address(1, 1)]

    run(scenario())
